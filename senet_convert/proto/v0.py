"""The form of 2013, V0: `layers { layer { name: "c" type: "conv" kernelsize: 3 } bottom: "x" top: "c" }`.

What belongs where is Caffe's own table of its upgrade from V0 to V1 (BVLC Caffe 1.0, upgrade_proto). Where Caffe logs
an error and goes on without a field, the layer gets a fault.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import ReadError
from . import caffe_pb2
from .tree import Fault, Tree, fields

PADDING = "padding"  # a layer of its own, which Caffe folds into the layer behind it

# V0 type -> the name of V1.
TYPES = {
    "accuracy": "ACCURACY",
    "bnll": "BNLL",
    "concat": "CONCAT",
    "conv": "CONVOLUTION",
    "data": "DATA",
    "dropout": "DROPOUT",
    "euclidean_loss": "EUCLIDEAN_LOSS",
    "flatten": "FLATTEN",
    "hdf5_data": "HDF5_DATA",
    "hdf5_output": "HDF5_OUTPUT",
    "im2col": "IM2COL",
    "images": "IMAGE_DATA",
    "infogain_loss": "INFOGAIN_LOSS",
    "innerproduct": "INNER_PRODUCT",
    "lrn": "LRN",
    "multinomial_logistic_loss": "MULTINOMIAL_LOGISTIC_LOSS",
    "pool": "POOLING",
    "relu": "RELU",
    "sigmoid": "SIGMOID",
    "softmax": "SOFTMAX",
    "softmax_loss": "SOFTMAX_LOSS",
    "split": "SPLIT",
    "tanh": "TANH",
    "window_data": "WINDOW_DATA",
}

# V0 type -> the message that holds its parameters since V1.
MESSAGES = {
    "concat": "concat_param",
    "conv": "convolution_param",
    "data": "data_param",
    "dropout": "dropout_param",
    "hdf5_data": "hdf5_data_param",
    "images": "image_data_param",
    "infogain_loss": "infogain_loss_param",
    "innerproduct": "inner_product_param",
    "lrn": "lrn_param",
    "pool": "pooling_param",
    "window_data": "window_data_param",
}

# V0 field -> its name in that message, and the V0 types that take it.
FIELDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "num_output": ("num_output", ("conv", "innerproduct")),
    "biasterm": ("bias_term", ("conv", "innerproduct")),
    "weight_filler": ("weight_filler", ("conv", "innerproduct")),
    "bias_filler": ("bias_filler", ("conv", "innerproduct")),
    "pad": ("pad", ("conv", "pool")),
    "kernelsize": ("kernel_size", ("conv", "pool")),
    "group": ("group", ("conv",)),
    "stride": ("stride", ("conv", "pool")),
    "pool": ("pool", ("pool",)),
    "dropout_ratio": ("dropout_ratio", ("dropout",)),
    "local_size": ("local_size", ("lrn",)),
    "alpha": ("alpha", ("lrn",)),
    "beta": ("beta", ("lrn",)),
    "k": ("k", ("lrn",)),
    "source": ("source", ("data", "hdf5_data", "images", "window_data", "infogain_loss")),
    "batchsize": ("batch_size", ("data", "hdf5_data", "images", "window_data")),
    "rand_skip": ("rand_skip", ("data", "images")),
    "shuffle_images": ("shuffle", ("images",)),
    "new_height": ("new_height", ("images",)),
    "new_width": ("new_width", ("images",)),
    "concat_dim": ("concat_dim", ("concat",)),
    "det_fg_threshold": ("fg_threshold", ("window_data",)),
    "det_bg_threshold": ("bg_threshold", ("window_data",)),
    "det_fg_fraction": ("fg_fraction", ("window_data",)),
    "det_context_pad": ("context_pad", ("window_data",)),
    "det_crop_mode": ("crop_mode", ("window_data",)),
}

# V0 field -> its name in transform_param, whatever the type.
TRANSFORM = {"scale": "scale", "meanfile": "mean_file", "cropsize": "crop_size", "mirror": "mirror"}
# What stands in the layer itself, then as now.
KEPT = ("name", "blobs", "blobs_lr", "weight_decay", "hdf5_output_param")

_LAYER = fields(caffe_pb2.DESCRIPTOR.message_types_by_name["LayerParameter"])


def upgrade(layers: Sequence[Tree], source: str) -> list[Tree]:
    """The layers in the form V1, padding layers folded away. Raises ReadError where a padding layer cannot be."""
    return [_from_v0(layer) if "layer" in layer else layer for layer in _fold_padding(layers, source)]


def _fold_padding(layers: Sequence[Tree], source: str) -> list[Tree]:
    """Give the `pad` and the bottom of every padding layer to the layers that read its top."""
    folded: list[Tree] = []
    last: dict[str, Tree] = {}  # blob -> the layer that wrote it last
    for layer in layers:
        writers = [last.get(bottom) for bottom in layer.get("bottom", [])]
        paddings = [writer for writer in writers if writer is not None and _type(writer) == PADDING]
        last.update(dict.fromkeys(layer.get("top", []), layer))
        if paddings:
            layer = _padded(layer, paddings[0], source)
        if _type(layer) != PADDING:
            folded.append(layer)
    return folded


def _padded(layer: Tree, padding: Tree, source: str) -> Tree:
    name = padding["layer"].get("name", "")
    if _type(layer) not in ("conv", "pool") or len(layer["bottom"]) != 1 or len(padding.get("bottom", [])) != 1:
        reader = layer.get("layer", layer).get("name", "")
        at = f":{layer.line}" if layer.line else ""
        raise ReadError(
            f"{source}{at}: layer '{reader}' of type '{_type(layer)}' reads the padding layer '{name}'. Caffe folds "
            "the padding of one blob into a layer of type 'conv' or 'pool' with one bottom, and knows no other"
        )
    padded = _like(layer, layer)
    padded["bottom"] = padding["bottom"]
    padded["layer"] = _like(layer["layer"], layer["layer"])
    padded["layer"]["pad"] = padding["layer"].get("pad", 0)
    return padded


def _from_v0(layer: Tree) -> Tree:
    old: Tree = layer["layer"]
    kind = _type(layer)
    upgraded = _like(layer, {key: value for key, value in layer.items() if key != "layer"})
    upgraded.faults = [*layer.faults, *old.faults]
    if kind in TYPES:
        upgraded["type"] = TYPES[kind]
    elif kind:
        upgraded.faults.append(Fault(old.line, f"field 'type' has no value '{kind}'; it has {', '.join(TYPES)}"))
    for key, value in old.items():
        new, takers = FIELDS.get(key, (key, ()))
        if key in KEPT:
            upgraded[key] = value
        elif key in TRANSFORM:
            upgraded.setdefault("transform_param", Tree())[TRANSFORM[key]] = value
        elif kind in takers:
            upgraded.setdefault(MESSAGES[kind], Tree())[new] = _fitting(MESSAGES[kind], new, value)
        elif key != "type" and kind in TYPES:
            upgraded.faults.append(Fault(old.line, f"field '{key}' has no meaning for layers of type '{kind}'"))
    return upgraded


def _fitting(message: str, field: str, value: Any) -> Any:
    """A value as the newer field takes it: a convolution's sides may differ today, so they are lists."""
    inside = _LAYER[message].message
    return [value] if inside is not None and fields(inside)[field].repeated else value


def _type(layer: Tree) -> str:
    kind: str = layer.get("layer", layer).get("type", "")
    return kind


def _like(tree: Tree, values: dict[str, Any]) -> Tree:
    """A message with these values where `tree` stands, with its faults."""
    copied = Tree(tree.line)
    copied.update(values)
    copied.faults = list(tree.faults)
    return copied
