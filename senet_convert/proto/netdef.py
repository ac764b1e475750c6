"""A network as Caffe defines it, in plain frozen values. Protobuf ends here.

`NetDef` is what both readers give, whatever the form of the file: legacy forms are upgraded on the way in. A layer's
parameters hold only the fields that the file sets; the defaults are Caffe's and stand with the layer types.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import Problems, ReadError, listed
from . import caffe_pb2
from .tree import Fault, Tree

Shape = tuple[int, ...]
Params = Mapping[str, Any]

MAX_AXES = 32  # kMaxBlobAxes in Caffe
MAX_COUNT = 2**31 - 1  # Caffe counts a blob's values in an int


@dataclass(frozen=True)
class Blob:
    """A learned array as the file holds it: `data` is flat, little-endian float32 (float64 from a double build).

    `number` is its place among the blobs of its layer where the file says it, and may have left out others.
    """

    shape: Shape
    data: NDArray[Any]
    legacy: bool = False  # the shape was given as num, channels, height, width: always four axes
    number: int | None = None

    def fits(self, shape: Shape) -> bool:
        """Whether Caffe would copy this blob onto one of `shape`: legacy shapes may have leading ones."""
        if self.shape == shape:
            return True
        return self.legacy and len(shape) <= 4 and self.shape == (1,) * (4 - len(shape)) + shape


@dataclass(frozen=True)
class Rule:
    """NetStateRule: when a layer is included or excluded. None and () mean: no condition."""

    phase: str | None = None
    min_level: int | None = None
    max_level: int | None = None
    stages: tuple[str, ...] = ()
    not_stages: tuple[str, ...] = ()


@dataclass(frozen=True)
class State:
    """NetState: the phase, level and stages that a network is built for."""

    phase: str = "TEST"
    level: int = 0
    stages: tuple[str, ...] = ()


@dataclass(frozen=True)
class ParamSpec:
    """What `param { }` says of a layer's blob: a `name` shares it with the blobs of that name."""

    name: str = ""
    share_mode: str = "STRICT"


@dataclass(frozen=True)
class LayerDef:
    """One layer as the file defines it. `faults` count where the layer does; those of its rules, which say whether it
    does, count in any case.
    """

    name: str
    type: str
    bottoms: tuple[str, ...] = ()
    tops: tuple[str, ...] = ()
    params: Mapping[str, Params] = field(default_factory=lambda: MappingProxyType({}))
    blobs: tuple[Blob, ...] = ()
    specs: tuple[ParamSpec, ...] = ()
    include: tuple[Rule, ...] = ()
    exclude: tuple[Rule, ...] = ()
    line: int | None = None
    faults: tuple[Fault, ...] = ()
    rule_faults: tuple[Fault, ...] = ()
    rest: Params = field(default_factory=lambda: MappingProxyType({}))

    @property
    def where(self) -> str:
        """What messages call it: "layer 'conv1' (line 12)"."""
        return f"layer '{self.name}'" + (f" (line {self.line})" if self.line else "")


@dataclass(frozen=True)
class NetDef:
    """A whole network. `inputs` are those of the old `input:` header, None where it gives no shape.

    `rest`, here and in layers, are fields as the file sets them that inference does not use: for writing them again.
    """

    name: str
    source: str
    layers: tuple[LayerDef, ...]
    inputs: tuple[tuple[str, Shape | None], ...] = ()
    state: State = State()
    comments: tuple[str, ...] = ()
    faults: tuple[Fault, ...] = ()
    rest: Params = field(default_factory=lambda: MappingProxyType({}))


_COMMON = {
    "name",
    "type",
    "bottom",
    "top",
    "blobs",
    "param",
    "include",
    "exclude",
    "loss_weight",
    "phase",
    "propagate_down",
}


_RULES = ("include", "exclude")
_REST_OF_LAYER = ("loss_weight", "phase", "propagate_down", "param")
_REST_OF_NET = ("force_backward", "debug_info", "state")


def from_tree(net: Tree, source: str, comments: tuple[str, ...] = ()) -> NetDef:
    """The NetDef of an upgraded NetParameter. Raises ReadError with every blob and name that is not well formed."""
    problems = Problems(source)
    layers = tuple(_layer(layer, problems) for layer in net.get("layer", []))
    _refuse_zero_bytes(layers, net.get("input", []), problems)
    problems.raise_as(ReadError, "The file is damaged, or was not written by Caffe.")
    state = net.get("state", {})
    return NetDef(
        name=net.get("name", ""),
        source=source,
        layers=layers,
        inputs=_inputs(net, source),
        state=State(level=state.get("level", 0), stages=tuple(state.get("stage", []))),
        comments=comments,
        faults=_faults(net),
        rest=_frozen({key: net[key] for key in _REST_OF_NET if key in net}),
    )


def _refuse_zero_bytes(layers: Sequence[LayerDef], inputs: Sequence[str], problems: Problems) -> None:
    """Runtimes end a name at a zero byte: two names that differ behind it would be one."""
    for layer in layers:
        for name in (layer.name, layer.type, *layer.bottoms, *layer.tops):
            if "\0" in name:
                problems.add(f"layer {layer.name!r}: the name {name!r} holds a zero byte")
    for name in inputs:
        if "\0" in name:
            problems.add(f"the input {name!r} holds a zero byte in its name")


def _faults(net: Tree) -> tuple[Fault, ...]:
    """Those outside of layers; a layer's own count only where the layer does."""
    return (*net.faults, *_faults_in(net, set(net) - {"layer"}))


def _faults_in(tree: Tree, names: Collection[str]) -> tuple[Fault, ...]:
    """Those of the messages in fields of these names."""
    chosen = Tree()
    chosen.update({key: value for key, value in tree.items() if key in names})
    return tuple(chosen.all_faults())


def _inputs(net: Tree, source: str) -> tuple[tuple[str, Shape | None], ...]:
    names = net.get("input", [])
    shapes: list[Shape | None] = [tuple(shape.get("dim", [])) for shape in net.get("input_shape", [])]
    dims = net.get("input_dim", [])
    whose = "input " if len(names) == 1 else f"{len(names)} inputs "
    where = f"{source}: the header of {whose}{listed([repr(name) for name in names])}".rstrip()
    if dims and shapes:
        raise ReadError(f"{where} gives both input_shape and input_dim; keep one of them")
    if len(dims) % 4:
        raise ReadError(f"{where} gives {len(dims)} input_dim values; each input needs 4 (N, C, H, W)")
    shapes = shapes or [tuple(dims[i : i + 4]) for i in range(0, len(dims), 4)]
    if shapes and len(shapes) != len(names) and names:
        raise ReadError(f"{where} gives {len(shapes)} shape{'s' * (len(shapes) > 1)}; give one for each input")
    return tuple(zip(names, shapes or [None] * len(names), strict=False))


def named_by_solver(net: NetDef) -> tuple[str, ...] | None:
    """The files of networks that a solver's prototxt names; None where `net` is read from another one."""
    fields = caffe_pb2.SolverParameter.DESCRIPTOR.fields_by_name
    if net.layers or not net.faults or not all(fault.path and fault.path[0] in fields for fault in net.faults):
        return None
    named = [fault.value for fault in net.faults if fault.path[0] in ("net", "train_net", "test_net")]
    return tuple(dict.fromkeys(name for name in named if isinstance(name, str)))


def _layer(tree: Tree, problems: Problems) -> LayerDef:
    name = tree.get("name", "")
    blobs = [_blob(blob, f"layer '{name}', blob {i}", problems) for i, blob in enumerate(tree.get("blobs", []))]
    specs = tree.get("param", [])
    return LayerDef(
        name=name,
        type=tree.get("type", ""),
        bottoms=tuple(tree.get("bottom", [])),
        tops=tuple(tree.get("top", [])),
        params=_frozen({key: value for key, value in tree.items() if key not in _COMMON}),
        blobs=tuple(blob for blob in blobs if blob is not None),
        specs=tuple(ParamSpec(spec.get("name", ""), spec.get("share_mode", "STRICT")) for spec in specs),
        include=tuple(_rule(rule) for rule in tree.get("include", [])),
        exclude=tuple(_rule(rule) for rule in tree.get("exclude", [])),
        line=tree.line,
        faults=(*tree.faults, *_faults_in(tree, set(tree).difference(_RULES))),
        rule_faults=_faults_in(tree, _RULES),
        rest=_frozen({key: tree[key] for key in _REST_OF_LAYER if key in tree}),
    )


def _rule(tree: Tree) -> Rule:
    return Rule(
        phase=tree.get("phase"),
        min_level=tree.get("min_level"),
        max_level=tree.get("max_level"),
        stages=tuple(tree.get("stage", [])),
        not_stages=tuple(tree.get("not_stage", [])),
    )


def _frozen(value: Any) -> Any:
    """Dicts as read-only mappings, lists as tuples, all the way down."""
    if isinstance(value, dict):
        return MappingProxyType({key: _frozen(item) for key, item in value.items()})
    if isinstance(value, list):
        return tuple(_frozen(item) for item in value)
    return value


def _blob(tree: Tree, where: str, problems: Problems) -> Blob | None:
    legacy = any(key in tree for key in ("num", "channels", "height", "width"))  # as Caffe: before any shape
    if legacy:
        shape = tuple(tree.get(key, 0) for key in ("num", "channels", "height", "width"))
    else:
        shape = tuple(tree.get("shape", {}).get("dim", []))
    data = tree.get("double_data", tree.get("data", np.empty(0, "<f4")))
    if isinstance(data, list):  # text holds blobs as lists of numbers
        data = np.asarray(data, "<f8" if "double_data" in tree else "<f4")
    text = "x".join(map(str, shape)) or "scalar"
    if len(shape) > MAX_AXES:
        problems.add(f"{where}: a shape of {len(shape)} dimensions; Caffe has at most {MAX_AXES}")
    elif any(dim < 0 for dim in shape):
        problems.add(f"{where}: impossible shape {text}")
    elif prod(shape) > MAX_COUNT:
        problems.add(
            f"{where}: shape {text} is {prod(shape)} values; Caffe has at most {MAX_COUNT}, here are {data.size}"
        )
    elif prod(shape) != data.size:
        problems.add(f"{where}: shape {text} is {prod(shape)} values, the file holds {data.size}")
    else:
        return Blob(shape, data, legacy, tree.get("number"))
    return None
