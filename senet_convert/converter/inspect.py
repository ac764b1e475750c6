"""Looks at a network without converting it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import ReadError
from ..proto import NetDef, read_caffemodel, read_prototxt
from . import families, graph, report
from .passes import Options
from .released import identify
from .upgrade import is_text


def inspect(file: Path, prototxt: Path | None, options: Options) -> dict[str, Any]:
    """Layers, shapes, parameters and MACs of a caffemodel or a prototxt, as plain data.

    Raises ConvertError: the file cannot be read, or is not a valid network.
    """
    net = _read(file)
    definition = read_prototxt(prototxt) if prototxt else net
    weights = net if any(layer.blobs for layer in net.layers) else None
    built = graph.build(definition, weights, options)
    match = families.match(built)
    source = identify(file, "caffemodel" if weights else "prototxt")
    return {
        "file": source.name,
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
