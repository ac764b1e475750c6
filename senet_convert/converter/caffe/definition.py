"""The definition of a network as it runs at inference: what a bundle keeps, and what goes back into Caffe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from math import isnan
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ...errors import GraphError, Problems
from ...proto import LayerDef, NetDef, State, read_prototxt
from ...proto.write import write_prototxt
from ..graph import passes
from ..graph.build import build
from ..graph.draft import Input, Options
from ..graph.graph import Graph
from ..metadata import preprocessing

IMAGE_AXES = 4


def inference(net: NetDef, options: Options) -> NetDef:
    """The layers that run at inference, without rules and blobs, each input as an Input layer with its shape.

    Its graph is that of `net` with these options, and `inference` of it is itself. A transform_param of the data layers
    stays with the first image input, where Caffe passes over it. Raises GraphError as `build` does.
    """
    problems = Problems(net.source)
    draft = passes.run(net, options, problems)
    problems.raise_as(GraphError)
    inputs = _inputs(draft.inputs, {layer.name for layer in draft.layers}, preprocessing.transform(net))
    layers = (
        replace(layer, blobs=(), include=(), exclude=(), rest=_specs_only(layer.rest), line=None)
        for layer in draft.layers
    )
    return NetDef(net.name, net.source, (*inputs, *layers), comments=net.comments)


def write_definition(net: NetDef, options: Options, built: Graph, path: Path, check: bool = True) -> tuple[str, ...]:
    """Write what `inference` gives, where it says all that `built` was made of; else a warning, and no file.

    Fields that only a fork of Caffe knows cannot be written. Whether they matter, the file tells when it is read again;
    without `check`, that is done only for networks that have such fields.
    """
    definition = inference(net, options)
    write_prototxt(definition, path)
    if not (check or net.faults or any(layer.faults for layer in definition.layers)):
        return ()
    try:
        again = build(read_prototxt(path), None, settled(options))
        if same_layers(again, built):
            return ()
        fault = "without them its layers compute something else"
    except GraphError as refusal:
        fault = str(refusal)
    path.unlink()
    return (f"{path.name} is left out: the network has fields that Caffe's format lacks ({fault})",)


def settled(options: Options) -> Options:
    """What remains to be said of a network that `inference` gave: its state and its inputs are decided."""
    return replace(options, state=State(), input_shapes={})


def same_layers(one: Graph, other: Graph) -> bool:
    """Whether two graphs run the same layers on the same values, whatever their weights are; NaN is the same as NaN."""
    left, right = (
        [replace(node, weights=(), layer=replace(node.layer, sound=True)) for node in built.nodes]
        for built in (one, other)
    )
    return (_plain(left), one.shapes, one.outputs) == (_plain(right), other.shapes, other.outputs)


def _plain(value: Any) -> Any:
    """Dataclasses and mappings as dicts, all the way down, and NaN by its name: the number is not equal to itself."""
    if is_dataclass(value):
        return type(value), {item.name: _plain(getattr(value, item.name)) for item in fields(value) if item.compare}
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return "NaN" if isinstance(value, float) and isnan(value) else value


def _inputs(inputs: Sequence[Input], taken: set[str], transform: Mapping[str, Any]) -> list[LayerDef]:
    """Caffe copies blobs to the first layer of a name, so an input must not bear the name of another layer."""
    made: list[LayerDef] = []
    for item in inputs:
        params: dict[str, Any] = {"input_param": {"shape": ({"dim": item.shape or ()},)}}
        if transform and len(item.shape or ()) == IMAGE_AXES:
            params["transform_param"], transform = transform, {}
        name = free_name(item.blob, taken)
        made.append(LayerDef(name, "Input", tops=(item.blob,), params=MappingProxyType(params)))
    return made


def free_name(name: str, taken: set[str]) -> str:
    """The name, or one like it that is not taken; it is taken then."""
    found, number = name, 1
    while found in taken:
        number += 1
        found = f"{name}_{number}"
    taken.add(found)
    return found


def _specs_only(rest: Mapping[str, Any]) -> Mapping[str, Any]:
    """`param`, with the names of shared blobs. Losses are gone, and Caffe fills in the phase of the net."""
    return {key: value for key, value in rest.items() if key == "param"}
