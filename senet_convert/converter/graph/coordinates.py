"""Where the cells of one map lie on another: the FCN fork's CROP takes its offset from it (pycaffe's coord_map.py)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..layers import LayerFault
from ..layers.base import Shape
from .node import Node

Line = tuple[float, float]  # factor and shift: a cell of one map, times the factor, plus the shift, is one of the other
NEARLY = 1e-3  # of a cell


def offset(source: str, target: str, nodes: Sequence[Node], shapes: Mapping[str, Shape | None]) -> tuple[int, int]:
    """How many rows and columns of the map `source` lie before the first of `target`, by what both are computed from.

    Raises LayerFault: no map that both come from, other strides, or no whole number of cells.
    """
    makers = {value: node for node in nodes for value in node.outputs}
    forward = _back(source, makers, shapes)
    for value, to_target in _back(target, makers, shapes).items():
        if value in forward:
            rows, columns = (_offset(one, other) for one, other in zip(forward[value], to_target, strict=True))
            return rows, columns
    raise LayerFault("its bottoms are computed from no map that both have in common; give crop_param, with type Crop")


def _back(start: str, makers: Mapping[str, Node], shapes: Mapping[str, Shape | None]) -> dict[str, tuple[Line, Line]]:
    """From each map that `start` is computed from, nearest first, its lines to `start` along height and width."""
    found: dict[str, tuple[Line, Line]] = {start: ((1.0, 0.0), (1.0, 0.0))}
    queue = [start]
    for value in queue:
        node, shape = makers.get(value), shapes.get(value)
        for bottom in node.inputs if node else ():
            below = shapes.get(bottom)
            if bottom in found or node is None or not shape or not below or len(below) != 4 or len(shape) != 4:
                continue
            lines = node.layer.grid(below)
            if all(line == (1, 0) for line in lines) and below[2:] != shape[2:]:
                continue  # a layer that keeps no grid, or a bottom that only says a size
            rows, columns = ((a * c, a * d + b) for (a, b), (c, d) in zip(found[value], lines, strict=True))
            found[bottom] = rows, columns
            queue.append(bottom)
    return found


def _offset(to_source: Line, to_target: Line) -> int:
    """Cell 0 of the target in cells of the source."""
    factor = to_source[0] / to_target[0]
    shift = to_source[1] - to_target[1] * factor
    if abs(factor - 1) > NEARLY:
        raise LayerFault(f"its first bottom has {factor:g} times as many cells as its second; Crop takes maps alike")
    if shift < -NEARLY or abs(shift - round(shift)) > NEARLY:
        raise LayerFault(
            f"its second bottom begins {shift:g} cells into its first; that must be a whole number, from 0"
        )
    return round(shift)
