"""Old forms of networks brought to today's, as Caffe does when it loads them.

V1 (2013-2014) has `layers` with enum types; today's form has `layer` with type names.
"""

from __future__ import annotations

from ..errors import ReadError
from .tree import Tree

# V1LayerParameter.LayerType -> today's name, where it is not just another spelling.
V1_TYPES = {
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
}


def upgrade(net: Tree, source: str) -> Tree:
    """Today's form of a NetParameter. Raises ReadError where both forms are mixed, or the form is not supported."""
    if "layers" not in net:
        return net
    if "layer" in net:
        line = net["layers"][0].line
        at = f":{line}" if line else ""
        raise ReadError(
            f"{source}{at}: it has both 'layer' (today's form) and 'layers' (the form of 2013-2014). "
            "Caffe takes one of them: write every 'layers { type: RELU }' as 'layer { type: \"ReLU\" }'"
        )
    upgraded = Tree(net.line)
    upgraded.update({key: value for key, value in net.items() if key != "layers"})
    upgraded.faults = net.faults
    upgraded["layer"] = [_from_v1(layer, source) for layer in net["layers"]]
    return upgraded


def _from_v1(layer: Tree, source: str) -> Tree:
    if "layer" in layer:
        name = layer["layer"].get("name", "")
        raise ReadError(
            f"{source}: layer '{name}' has the V0 form of 2013 ('layers {{ layer {{ ... }} }}'), which is not supported yet; "
            "Caffe's tools/upgrade_net_proto_text and upgrade_net_proto_binary rewrite it"
        )
    upgraded = Tree(layer.line)
    upgraded.faults = layer.faults
    old = {"type", "param", "blob_share_mode", "blobs_lr", "weight_decay"}
    upgraded.update({key: value for key, value in layer.items() if key not in old})
    kind = layer.get("type", "NONE")
    upgraded["type"] = V1_TYPES.get(kind, kind)
    names, modes = layer.get("param", []), layer.get("blob_share_mode", [])
    if names or modes:
        upgraded["param"] = [_spec(names, modes, i) for i in range(max(len(names), len(modes)))]
    return upgraded


def _spec(names: list[str], modes: list[str], index: int) -> Tree:
    spec = Tree()
    if index < len(names):
        spec["name"] = names[index]
    if index < len(modes):
        spec["share_mode"] = modes[index]
    return spec
