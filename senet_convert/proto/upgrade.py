"""Old forms of networks brought to today's, as Caffe does on loading: V0 to V1 (v0.py), V1 to `layer` (v1.py)."""

from __future__ import annotations

from ..errors import ReadError
from . import v0, v1
from .tree import Tree


def upgrade(net: Tree, source: str) -> Tree:
    """Today's form of a NetParameter. Raises ReadError where forms are mixed, or where Caffe would refuse."""
    if "layers" not in net:
        return net
    layers = net["layers"]
    if "layer" in net:
        at = f":{layers[0].line}" if layers[0].line else ""
        raise ReadError(
            f"{source}{at}: it has both 'layer' (today's form) and 'layers' (the form of 2013-2014). "
            "Caffe takes one of them: write every 'layers { type: RELU }' as 'layer { type: \"ReLU\" }'"
        )
    upgraded = Tree(net.line)
    upgraded.update({key: value for key, value in net.items() if key != "layers"})
    upgraded.faults = net.faults
    upgraded["layer"] = [v1.upgrade(layer) for layer in v0.upgrade(layers, source)]
    return upgraded
