"""A network with its weights: from the files to a torch module."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from ..proto import NetDef, read_caffemodel, read_prototxt
from . import families, graph, reference, resize
from .families import Match
from .graph import Graph
from .passes import Options


@dataclass(frozen=True)
class Loaded:
    """A network with its weights, as a torch module: a readable family net where the structure is known."""

    net: NetDef
    graph: Graph
    match: Match | None
    module: nn.Module
    names: Mapping[str, str]  # weight key of the graph -> name in the state_dict


def find_prototxt(caffemodel: Path) -> Path | None:
    """The prototxt beside a caffemodel: of the same stem, else deploy.prototxt; None when there is neither."""
    places = (caffemodel.with_suffix(".prototxt"), caffemodel.parent / "deploy.prototxt")
    return next((place for place in places if place.is_file()), None)


def read(caffemodel: Path, prototxt: Path | None, options: Options, size: int | None = None) -> tuple[NetDef, Graph]:
    """The network's definition and its graph with weights; without a prototxt, the caffemodel defines itself.

    `size` is another one of the input, see `resize`.
    """
    weights = read_caffemodel(caffemodel)
    net = read_prototxt(prototxt) if prototxt else weights
    if size is None:
        return net, graph.build(net, weights, options)
    net, options, notes = resize.resized(net, options, size)
    built = graph.build(net, weights, options)
    return net, replace(built, warnings=(*built.warnings, *notes))


def realise(net: NetDef, built: Graph) -> Loaded:
    """The graph as a torch module, float32, in evaluation mode."""
    match = families.match(built)
    if match is not None:
        return Loaded(net, built, match, families.build(match, built), match.names)
    module = reference.lower(built)
    return Loaded(net, built, None, module, module.names)


def load(caffemodel: Path, prototxt: Path | None = None, options: Options | None = None) -> nn.Module:
    """See senet_convert.load."""
    return realise(*read(caffemodel, prototxt or find_prototxt(caffemodel), options or Options())).module
