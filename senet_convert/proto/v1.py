"""The form of 2014, V1: `layers { type: CONVOLUTION ... }`, brought to today's `layer { type: "Convolution" ... }`.

Of Caffe's further upgrades, that of BatchNorm's learning rates changes nothing at inference, and the old input header
is kept as it is: see NetDef.inputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .tree import Tree

# V1LayerParameter.LayerType -> today's name.
TYPES = {
    "ABSVAL": "AbsVal",
    "ACCURACY": "Accuracy",
    "ARGMAX": "ArgMax",
    "BNLL": "BNLL",
    "CONCAT": "Concat",
    "CONTRASTIVE_LOSS": "ContrastiveLoss",
    "CONVOLUTION": "Convolution",
    "DATA": "Data",
    "DECONVOLUTION": "Deconvolution",
    "DROPOUT": "Dropout",
    "DUMMY_DATA": "DummyData",
    "ELTWISE": "Eltwise",
    "EUCLIDEAN_LOSS": "EuclideanLoss",
    "EXP": "Exp",
    "FLATTEN": "Flatten",
    "HDF5_DATA": "HDF5Data",
    "HDF5_OUTPUT": "HDF5Output",
    "HINGE_LOSS": "HingeLoss",
    "IM2COL": "Im2col",
    "IMAGE_DATA": "ImageData",
    "INFOGAIN_LOSS": "InfogainLoss",
    "INNER_PRODUCT": "InnerProduct",
    "LRN": "LRN",
    "MEMORY_DATA": "MemoryData",
    "MULTINOMIAL_LOGISTIC_LOSS": "MultinomialLogisticLoss",
    "MVN": "MVN",
    "POOLING": "Pooling",
    "POWER": "Power",
    "RELU": "ReLU",
    "SIGMOID": "Sigmoid",
    "SIGMOID_CROSS_ENTROPY_LOSS": "SigmoidCrossEntropyLoss",
    "SILENCE": "Silence",
    "SLICE": "Slice",
    "SOFTMAX": "Softmax",
    "SOFTMAX_LOSS": "SoftmaxWithLoss",
    "SPLIT": "Split",
    "TANH": "TanH",
    "THRESHOLD": "Threshold",
    "WINDOW_DATA": "WindowData",
    # of forks
    "BN": "BN",
    "CROP": "CROP",
    "ELTWISE_ACCURACY": "EltwiseAccuracy",
    "IMAGE_SEG_DATA": "ImageSegData",
    "UNPOOLING": "Unpooling",
    "WINDOW_SEG_DATA": "WindowSegData",
}

# Data layers whose parameters once held the transformation; Caffe moves it for the form V1 only.
DATA = {"DATA": "data_param", "IMAGE_DATA": "image_data_param", "WINDOW_DATA": "window_data_param"}
TRANSFORM = ("scale", "mean_file", "crop_size", "mirror")

# Field of today's `param { }`, one for each blob -> V1's list.
SPECS = {"name": "param", "share_mode": "blob_share_mode", "lr_mult": "blobs_lr", "decay_mult": "weight_decay"}

# Fields with another meaning today, or none.
OLD = frozenset({"type", *SPECS.values()})


def upgrade(layer: Tree) -> Tree:
    """One layer in today's form; without a type where its own is NONE or unknown, which is a fault of it already."""
    upgraded = Tree(layer.line)
    upgraded.faults = layer.faults
    upgraded.update({key: value for key, value in layer.items() if key not in OLD})
    kind = layer.get("type", "")
    if kind in TYPES:
        upgraded["type"] = TYPES[kind]
    if kind in DATA and DATA[kind] in layer:
        _move_transform(upgraded, DATA[kind])
    columns = {new: layer[old] for new, old in SPECS.items() if old in layer}
    if columns:
        upgraded["param"] = [_spec(columns, i) for i in range(max(map(len, columns.values())))]
    return upgraded


def _move_transform(layer: Tree, param: str) -> None:
    old = layer[param]
    moved = {key: old[key] for key in TRANSFORM if key in old}
    if not moved:
        return
    kept, transform = Tree(old.line), Tree(old.line)
    kept.update({key: value for key, value in old.items() if key not in moved})
    kept.faults = old.faults
    transform.update({**layer.get("transform_param", {}), **moved})
    transform.faults = layer["transform_param"].faults if "transform_param" in layer else []
    layer[param], layer["transform_param"] = kept, transform


def _spec(columns: Mapping[str, Sequence[Any]], index: int) -> Tree:
    spec = Tree()
    spec.update({name: column[index] for name, column in columns.items() if index < len(column)})
    return spec
