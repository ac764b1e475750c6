"""Looks at a network without converting it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..deploy.images.origins import described
from ..errors import ReadError, each
from ..proto import NetDef, is_text, read_caffemodel, read_prototxt
from . import families
from .from_bundle import open_bundle
from .graph.build import build
from .graph.draft import Options
from .graph.graph import Graph
from .network import prototxt_of
from .report import report
from .report.released import identify


def inspect(file: Path, prototxt: Path | None, options: Options) -> dict[str, Any]:
    """Layers, shapes, parameters and MACs of a caffemodel or a prototxt, as plain data.

    A bundle says its preprocessing and the order of its classes too. A caffemodel is looked at with the prototxt that
    converting it takes. Raises ConvertError: the file cannot be read,
    or is not a valid network.
    """
    if file.is_dir():
        return _of_bundle(file, options)
    if prototxt is None and is_text(file):
        return _described(file, _read, None, options)
    with prototxt_of(file, prototxt) as chosen:
        return _described(file, _read if prototxt is None else read_caffemodel, chosen, options)


def _of_bundle(folder: Path, options: Options) -> dict[str, Any]:
    opened = open_bundle(folder, None, options)
    loaded, resolved = opened.loaded, opened.resolved
    source = identify(opened.weights, "weights")
    return {
        "file": folder.name,
        "prototxt": opened.definition.name,
        "bytes": source.size,
        **source.digests,
        **_network(loaded.graph, (opened.report.get("release") or {}).get("name")),
        "warnings": [*loaded.graph.warnings, *opened.warnings],
        "preprocessing": described(resolved.preprocess, resolved.origins) if resolved else None,
        "class_order": opened.classes.order,
        "tuned_from": opened.report.get("tuned_from"),
    }


def _network(built: Graph, release: str | None) -> dict[str, Any]:
    match = families.match(built)
    return {
        "release": release,
        **report.describe(built),
        "family": match.family if match else None,
        "architecture": match.summary if match else "a graph of no known SE family",
        "layer_table": report.layers(built),
        "dropped": [{"name": item.name, "type": item.type, "reason": item.reason} for item in built.dropped],
    }


def _described(file: Path, read: Callable[[Path], NetDef], prototxt: Path | None, options: Options) -> dict[str, Any]:
    net, definition = each([lambda: read(file), lambda: read_prototxt(prototxt) if prototxt else None])
    definition = definition or net
    weights = net if any(layer.blobs for layer in net.layers) else None
    built = build(definition, weights, options)
    source = identify(file, "caffemodel" if weights else "prototxt")
    return {
        "file": source.name,
        "prototxt": prototxt.name if prototxt else None,
        "bytes": source.size,
        **source.digests,
        **_network(built, source.release.name if source.release else None),
        "warnings": list(built.warnings),
    }


def _read(file: Path) -> NetDef:
    """By content, not by name: a prototxt is text."""
    if is_text(file):
        return read_prototxt(file)
    try:
        return read_caffemodel(file)
    except ReadError:
        if file.suffix == ".prototxt":
            return read_prototxt(file)
        raise
