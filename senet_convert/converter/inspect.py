"""Looks at a network without converting it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import ReadError, each
from ..proto import NetDef, is_text, read_caffemodel, read_prototxt
from . import families
from .graph.build import build
from .graph.draft import Options
from .network import prototxt_of
from .report import report
from .report.released import identify


def inspect(file: Path, prototxt: Path | None, options: Options) -> dict[str, Any]:
    """Layers, shapes, parameters and MACs of a caffemodel or a prototxt, as plain data.

    A caffemodel is looked at with the prototxt that converting it takes. Raises ConvertError: the file cannot be read,
    or is not a valid network.
    """
    if prototxt is None and is_text(file):
        return _described(file, _read, None, options)
    with prototxt_of(file, prototxt) as chosen:
        return _described(file, _read if prototxt is None else read_caffemodel, chosen, options)


def _described(file: Path, read: Callable[[Path], NetDef], prototxt: Path | None, options: Options) -> dict[str, Any]:
    net, definition = each([lambda: read(file), lambda: read_prototxt(prototxt) if prototxt else None])
    definition = definition or net
    weights = net if any(layer.blobs for layer in net.layers) else None
    built = build(definition, weights, options)
    match = families.match(built)
    source = identify(file, "caffemodel" if weights else "prototxt")
    return {
        "file": source.name,
        "prototxt": prototxt.name if prototxt else None,
        "bytes": source.size,
        **source.digests,
        "release": source.release.name if source.release else None,
        **report.describe(built),
        "family": match.family if match else None,
        "architecture": match.summary if match else "a graph of no known SE family",
        "layer_table": report.layers(built),
        "dropped": [{"name": item.name, "type": item.type, "reason": item.reason} for item in built.dropped],
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
