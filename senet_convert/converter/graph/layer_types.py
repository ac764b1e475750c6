"""What a layer's type says before its parameters do: how many blobs it takes; and what to tell of unknown ones."""

from __future__ import annotations

from collections.abc import Mapping

from ...proto import LayerDef
from ..layers import Layer
from ..layers.registry import Registry
from .fields import python_class

IDENTITIES = {"Split": "Caffe's copy of a blob for several readers", "Dropout": "does nothing in the TEST phase"}

# Types, and classes of Python layers, before which a network is cut -> the part of docs/layers.md that says how.
RECIPES: Mapping[str, str] = {
    "ProposalLayer": "Proposals",
    "Region": "YOLO",
    "YoloDetectionOutput": "YOLO",
    "Yolov3DetectionOutput": "YOLO",
}


def misfit(layer: LayerDef, kind: type[Layer] | None, name: str) -> str:
    """How many bottoms or tops the layer has that the type `name` does not take, '' where they fit. Without a class it
    is one of IDENTITIES.
    """
    takes, gives = (kind.takes, kind.gives) if kind else ((1, 1), (1, None if name == "Split" else 1))
    for have, (low, high), what in ((len(layer.bottoms), takes, "bottoms"), (len(layer.tops), gives, "tops")):
        if have < low or (high is not None and have > high):
            wants = f"{low}" if low == high else f"{low} or more" if high is None else f"{low} to {high}"
            return f"it has {have} {what}, its type takes {wants}{kind.namesakes if kind else ''}"
    return ""


def goes_on_as(layer: LayerDef, name: str, kinds: Registry) -> bool:
    """Whether a layer of an unknown type can be looked at as one of `name`, which it is a misspelling of: not where it
    has a message of its very type, as a fork's has, nor where it has other numbers of bottoms and tops.
    """
    own = f"{layer.type}_param".lower().replace("_", "")
    if layer.type in RECIPES or not (name in kinds or name in IDENTITIES):
        return False
    if any("".join(fault.path[:1]).lower().replace("_", "") == own for fault in layer.faults):
        return False
    return not misfit(layer, kinds.get(name), name)


def param_str(layer: LayerDef) -> str:
    """What a Python layer gives its class, for behind the layer's name."""
    said = layer.params.get("python_param", {}).get("param_str")
    return f", param_str {said!r}" if said else ""


def python_code(layer: LayerDef) -> str:
    """What a Python layer runs, and what to do about it."""
    name, module = python_class(layer), layer.params.get("python_param", {}).get("module", "")
    recipe = f"; or cut the network there: see '{RECIPES[name]}' in docs/layers.md" if name in RECIPES else ""
    return (
        f"Python code runs in Caffe only: class '{name}' of module '{module}'. Say what it computes in a "
        f"class {name or 'of that name'} with message = \"python_param\" (--layers FILE.py): see 'Python layers' in "
        f"docs/custom_layers.md{recipe}"
    )
