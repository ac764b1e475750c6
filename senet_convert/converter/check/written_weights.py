"""Are the weights in the files that were written, every one, bit for bit?

The files are read back from the disk and compared with the arrays of the caffemodel, byte by byte.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

from ...proto.wire import BYTES, Walker
from ..graph.graph import Graph

Array = NDArray[Any]

_MODEL_GRAPH, _GRAPH_INITIALIZER = 7, 5  # field numbers of onnx.proto
_TENSOR_NAME, _TENSOR_RAW_DATA, _TENSOR_EXTERNAL = 8, 9, 13


@dataclass(frozen=True)
class Landed:
    """How many arrays were compared in one file, and what is wrong with it."""

    file: str
    arrays: int
    values: int
    faults: tuple[str, ...] = ()


def in_onnx(graph: Graph, path: Path, used: set[str]) -> Landed:
    """The weights `used` by the exported part of the graph, among the initializers of an ONNX file."""
    wanted = {key: array for key, array in graph.accounts.arrays.items() if key in used}
    return _compare(path.name, wanted, _initializers(path).get)


def in_safetensors(graph: Graph, path: Path, names: Mapping[str, str]) -> Landed:
    """All weights of the graph, under the names of a state_dict."""
    wanted = {names[key]: array for key, array in graph.accounts.arrays.items()}
    with safe_open(path, framework="numpy") as file:
        held = set(file.keys())
        return _compare(path.name, wanted, lambda name: file.get_tensor(name) if name in held else None)


def _compare(name: str, wanted: Mapping[str, Array], find: Callable[[str], Array | None]) -> Landed:
    """`find` gives one array of the file at a time, so that they are not all in memory at once."""
    faults = []
    for key, array in wanted.items():
        found = find(key)
        if found is None:
            faults.append(f"{name} lacks the weight '{key}'")
        elif not same_bytes(array, found):
            faults.append(f"{name}: the weight '{key}' is not what the caffemodel holds")
    return Landed(name, len(wanted), sum(array.size for array in wanted.values()), tuple(faults))


def same_bytes(one: Array, other: Array) -> bool:
    """Equal to the bit: NaNs compare by their payload, -0 differs from 0."""
    left, right = (np.ascontiguousarray(array).reshape(-1).view(np.uint8) for array in (one, other))
    return np.array_equal(left, right)


def _initializers(path: Path) -> dict[str, Array]:
    """Name -> bytes of every initializer, as views of the file; the map is closed when the last view goes."""
    with path.open("rb") as file:
        walker = Walker(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    found: dict[str, Array] = {}
    for model in walker.fields(0, len(walker.buffer)):
        if model.number != _MODEL_GRAPH or model.kind != BYTES:
            continue
        for item in walker.fields(model.start, model.stop):
            if item.number == _GRAPH_INITIALIZER and item.kind == BYTES:
                name, data = _tensor(walker, item.start, item.stop, path)
                found[name] = data
    return found


def _tensor(walker: Walker, start: int, stop: int, path: Path) -> tuple[str, Array]:
    name, data, place = "", np.empty(0, np.uint8), {}
    for item in walker.fields(start, stop):
        if item.number == _TENSOR_NAME:
            name = bytes(walker.buffer[item.start : item.stop]).decode()
        elif item.number == _TENSOR_RAW_DATA:
            data = np.frombuffer(walker.buffer, np.uint8, item.stop - item.start, item.start)
        elif item.number == _TENSOR_EXTERNAL:
            key, value = (bytes(walker.buffer[f.start : f.stop]).decode() for f in walker.fields(item.start, item.stop))
            place[key] = value
    if place:
        offset, length = int(place["offset"]), int(place["length"])
        data = np.memmap(path.parent / place["location"], np.uint8, "r", offset, (length,))
    return name, data
