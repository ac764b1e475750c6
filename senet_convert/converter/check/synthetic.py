"""Deterministic inputs for the check: smooth pictures, the same bits on every machine."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...deploy.images.preprocess import Preprocess
from ..graph.graph import Graph

COUNT, MOST = 2, 16  # pictures where the batch is free: more of small ones, so that no blob holds just a few values
ENOUGH = COUNT * 3 * 224 * 224  # values
OCTAVES = ((2, 8), (4, 4), (8, 2), (16, 1))  # cells along the longer side, weight
CONTRAST = 14  # tenths
# Sides of the pictures for the check of a model that takes any size, as multiples of the network's input: landscape,
# portrait, so small that it grows, nearly square, tiny, long.
SIDES = ((1.37, 2.21), (2.83, 1.19), (0.41, 0.29), (1.03, 1.07), (0.05, 0.17), (3.1, 1.01))
LEAST = 3  # of these


def smooth(name: str, height: int, width: int, channels: int) -> NDArray[np.uint8]:
    """Smooth colour noise, uint8 (height, width, channels): octaves of bilinear random grids, in integers only.

    Natural pictures are smooth; white noise would leave deep layers nearly constant, and hide faults there.
    """
    rs = np.random.RandomState(zlib.crc32(name.encode()))
    total: NDArray[Any] = np.zeros((height, width, channels), np.int64)
    for cells, weight in OCTAVES:
        cell = max(1, max(height, width) // cells)
        rows, row_at = _grid(height, cell)
        columns, column_at = _grid(width, cell)
        values = rs.randint(0, 256, size=(rows[-1] + 2, columns[-1] + 2, channels), dtype=np.int64)
        across = values[rows] * (2 * cell - row_at)[:, None, None] + values[rows + 1] * row_at[:, None, None]
        both: NDArray[Any] = (
            across[:, columns] * (2 * cell - column_at)[None, :, None]
            + across[:, columns + 1] * column_at[None, :, None]
        )
        total += weight * (both // (4 * cell * cell))
    mean = total // sum(weight for _, weight in OCTAVES)
    clipped: NDArray[np.uint8] = np.clip(128 + (mean - 128) * CONTRAST // 10, 0, 255).astype(np.uint8)
    return clipped


def samples(graph: Graph, preprocess: Preprocess) -> list[NDArray[np.uint8]]:
    """Smooth pictures for the check, uint8 (H, W, C), as many as `inputs` would make.

    Of any size they are `LEAST` or more, and no more than there are `SIDES`.
    """
    (name,) = graph.inputs
    count, channels, height, width = inputs(graph)[name].shape
    sides: Sequence[tuple[int, int]] = [(height, width)] * count
    if preprocess.any_size:
        few = SIDES[: count if graph.batched[name][0] == 1 else max(count, LEAST)]
        sides = [(max(1, round(height * down)), max(1, round(width * across))) for down, across in few]
    return [smooth(f"{name}/{i}", *side, channels) for i, side in enumerate(sides)]


def _grid(length: int, cell: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For each pixel its cell, and twice its distance into it."""
    pixels = np.arange(length, dtype=np.int64)
    return pixels // cell, 2 * (pixels % cell) + 1


def inputs(graph: Graph, mean: tuple[float, ...] = (), scale: float = 1.0) -> dict[str, NDArray[np.float32]]:
    """A float32 array for every input of the graph: pictures less their mean where an input holds maps.

    The batch is the file's own where the network fixes it, else `COUNT` or more.
    """
    return {name: _input(graph, name, mean, scale) for name in graph.inputs}


def _input(graph: Graph, name: str, mean: tuple[float, ...], scale: float) -> NDArray[Any]:
    shape = list(graph.shapes[name])
    if shape and graph.batched[name][0] is None:
        shape[0] = min(max(ENOUGH // max(prod(graph.shapes[graph.inputs[0]][1:]), 1), COUNT), MOST)
    below = _index_limit(graph, name)
    if below is not None:
        return np.random.RandomState(zlib.crc32(name.encode())).randint(0, below, shape).astype(np.float32)
    if len(shape) == 4 and min(shape[2:]) >= 8:
        n, channels, height, width = shape
        pixels = np.stack([smooth(f"{name}/{i}", height, width, channels) for i in range(n)]).astype(np.float32)
        offset = np.asarray(mean, np.float32) if len(mean) in (1, channels) else np.float32(128)
        return np.ascontiguousarray(((pixels - offset) * np.float32(scale)).transpose(0, 3, 1, 2))
    values = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
    return np.asarray(values, np.float32)


def _index_limit(graph: Graph, name: str) -> int | None:
    """What the values of an input must stay below where layers look something up by them."""
    limits = [
        limit
        for node in graph.readers[name]
        for i, limit in node.layer.index_limits([_least(graph, value) for value in node.inputs]).items()
        if node.inputs[i] == name
    ]
    return min(limits, default=None)


def _least(graph: Graph, value: str) -> tuple[int, ...]:
    """The shape of a value in the smallest batch that is made."""
    return tuple(COUNT if dim is None else dim for dim in graph.batched[value])
