"""Where the cells of one map lie on another: the FCN fork's CROP takes its offset from it (pycaffe's coord_map.py)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..layers import LayerFault
from ..layers.base import Shape
from .node import Node

Line = tuple[float, float]  # factor and shift: a cell of one map, times the factor, plus the shift, is one of the other
NEARLY = 1e-3  # of a cell
STEPS = 200_000  # for all questions about one network: FCN's three take some hundreds


class Coordinates:
    """Answers for a network that is being built: `nodes` and `shapes` grow."""

    def __init__(self, nodes: Sequence[Node], shapes: Mapping[str, Shape | None]) -> None:
        self._nodes = nodes
        self._shapes = shapes
        self._makers: dict[str, Node] = {}
        self._entered = 0  # nodes that `_makers` has
        self._left = STEPS

    def offset(self, source: str, target: str) -> tuple[int, int]:
        """How many rows and columns of the map `source` lie before the first of `target`, by what both come from.

        Raises LayerFault: no map that both come from, other strides, no whole number of cells, too much to look at.
        """
        for node in self._nodes[self._entered :]:
            self._makers.update(dict.fromkeys(node.outputs, node))
        self._entered = len(self._nodes)
        forward = self._back(source)
        for value, to_target in self._back(target).items():
            if value in forward:
                rows, columns = (_offset(one, other) for one, other in zip(forward[value], to_target, strict=True))
                return rows, columns
        raise LayerFault(
            "its bottoms are computed from no map that both have in common; give crop_param, with type Crop"
        )

    def _back(self, start: str) -> dict[str, tuple[Line, Line]]:
        """From each map that `start` is computed from, nearest first, its lines to `start` along height and width."""
        found: dict[str, tuple[Line, Line]] = {start: ((1.0, 0.0), (1.0, 0.0))}
        queue = [start]
        for value in queue:
            node = self._makers.get(value)
            for bottom in node.inputs if node else ():
                self._left -= 1
                if self._left < 0:
                    raise LayerFault(
                        f"where its bottoms lie on each other takes more than {STEPS} steps to find, with all layers "
                        "like it; give crop_param, with type Crop"
                    )
                lines = None if node is None or bottom in found else self._lines(node, bottom, value)
                if lines is not None:
                    rows, columns = ((a * c, a * d + b) for (a, b), (c, d) in zip(found[value], lines, strict=True))
                    found[bottom] = rows, columns
                    queue.append(bottom)
        return found

    def _lines(self, node: Node, bottom: str, top: str) -> tuple[Line, Line] | None:
        """None for a layer that keeps no grid, and for a bottom that only says a size."""
        shape, below = self._shapes.get(top), self._shapes.get(bottom)
        if not shape or not below or len(below) != 4 or len(shape) != 4:
            return None
        lines = node.layer.grid(below)
        same = lines is not None and all(line == (1, 0) for line in lines)
        return None if same and below[2:] != shape[2:] else lines


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
