"""A network with its weights: from the files to a torch module."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from ..errors import WeightsError
from ..proto import NetDef, read_both
from . import families, runner
from .families import Match
from .graph import fixed_filters, resize
from .graph.build import build
from .graph.cut import cut
from .graph.draft import Options
from .graph.graph import Graph


@dataclass(frozen=True)
class Loaded:
    """A network with its weights, as a torch module: a readable family net where the structure is known.

    `trained_with` holds the data layers that the caffemodel brings: how pictures were transformed in training.
    """

    net: NetDef
    graph: Graph
    match: Match | None
    module: nn.Module
    names: Mapping[str, str]  # weight key of the graph -> name in the state_dict
    trained_with: NetDef | None = None


def find_prototxt(caffemodel: Path) -> Path | None:
    """The prototxt beside a caffemodel: of the same stem, else deploy.prototxt; None when there is neither, and for a
    file that is a prototxt itself.
    """
    if caffemodel.suffix == ".prototxt":
        return None
    places = (caffemodel.with_suffix(".prototxt"), caffemodel.parent / "deploy.prototxt")
    return next((place for place in places if place.is_file() and not _same(place, caffemodel)), None)


@contextmanager
def prototxt_of(caffemodel: Path, given: Path | None) -> Iterator[Path | None]:
    """The prototxt to read: the one given, else the one beside the caffemodel.

    None stands for the caffemodel's own definition, which is asked for by giving the caffemodel itself. Where the
    weights do not fit a prototxt that was found, the WeightsError says how to do without it.
    """
    if given is not None:
        yield None if _same(given, caffemodel) else given
        return
    found = find_prototxt(caffemodel)
    try:
        yield found
    except WeightsError as fault:
        if found is None:
            raise
        raise WeightsError(
            f"{fault}\n{found} was not given, it was found beside the caffemodel. If it is of another network, give "
            f"the right one with --prototxt, or --prototxt {caffemodel} for the definition that the caffemodel holds."
        ) from fault


def _same(one: Path, other: Path) -> bool:
    return one.exists() and other.exists() and one.samefile(other)


def read(
    caffemodel: Path, prototxt: Path | None, options: Options, size: int | None = None, outputs: Sequence[str] = ()
) -> tuple[NetDef, Graph, NetDef]:
    """The network's definition, its graph with weights, and the caffemodel's own data layers, see `Loaded`.

    Without a prototxt, the caffemodel defines itself.

    `size` is another one of the input, see `resize`; `outputs` are all that is asked of it, see `cut`.
    """
    fixed = fixed_filters.weightless(caffemodel, prototxt, options, outputs)
    weights, definition = fixed if fixed else read_both(caffemodel, prototxt)
    net, notes = cut(definition or weights, outputs, options)
    notes = (*notes, *(fixed_filters.notes(weights) if fixed else ()))
    if size is not None:
        net, options, resized = resize.resized(net, options, size)
        notes = (*notes, *resized)
    built = build(net, weights, options)
    feeding = tuple(layer for layer in weights.layers if "transform_param" in layer.params)
    fed = replace(weights, layers=feeding)  # the other layers would keep the weights in memory
    return net, replace(built, warnings=(*built.warnings, *notes)) if notes else built, fed


def realise(net: NetDef, built: Graph, trained_with: NetDef | None = None) -> Loaded:
    """The graph as a torch module, float32, in evaluation mode."""
    match = families.match(built)
    if match is not None:
        return Loaded(net, built, match, families.build(match, built), match.names, trained_with)
    module = runner.lower(built)
    return Loaded(net, built, None, module, module.names, trained_with)
