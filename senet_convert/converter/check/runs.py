"""The generic runner three times, side by side: in float64, in float32, and in float32 with one more rounding.

Where a layer decides (an index, a comparison), the two float32 runs follow the exact one: what a layer decides by is
judged apart (`decisions`), and their values stay comparable behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..graph.graph import Graph, Node
from ..runner import GraphModule

Array = NDArray[Any]
Decide = Callable[[str, Tensor], Tensor]  # a value that jumps, and what exact arithmetic makes of it -> what counts

ULP = 2.0**-23  # the largest relative change by one more rounding
FEW = 16  # of how many values on a blob says enough about errors
DRAWS = 16  # how often errors are drawn for one of fewer


@dataclass(frozen=True)
class Step:
    """One value in all three runs."""

    value: str
    exact: Array
    plain: Array
    rounded: Array


def jumping(graph: Graph) -> dict[str, tuple[Node, int]]:
    """The values that jump: value -> the node and the number of its top."""
    return {node.outputs[i]: (node, i) for node in graph.nodes for i in node.layer.jumps()}


def lockstep(
    runner: GraphModule, tensors: Sequence[Tensor], decide: Decide | None = None, seed: int = 0
) -> Iterator[Step]:
    """Each value as it is computed, so that no run's values pile up. `decide` may take another decision's side.

    `seed` is that of the additional rounding.
    """
    dice = torch.Generator().manual_seed(seed)
    jumps = jumping(runner.graph)
    decided: dict[str, Tensor] = {}

    def exactly(value: str, top: Tensor) -> Tensor:
        if value not in jumps:
            return top
        decided[value] = decide(value, top) if decide else top
        return decided[value]

    def follow(value: str, top: Tensor) -> Tensor:
        return decided[value].to(top.dtype) if value in jumps else top

    def round_again(value: str, top: Tensor) -> Tensor:
        if value in jumps:
            return follow(value, top)
        return top * (1 + ULP * (2 * torch.rand(top.shape, generator=dice) - 1))

    with torch.inference_mode():
        runs = (
            runner.steps(*(tensor.double() for tensor in tensors), adjust=exactly),
            runner.steps(*tensors, adjust=follow),
            runner.steps(*tensors, adjust=round_again),
        )
        for (value, high), (_, low), (_, rounded) in zip(*runs, strict=True):
            yield Step(value, high.numpy(), low.numpy(), rounded.numpy())


class FewValues:
    """What the errors of its bottoms make of a blob of few values.

    On a blob of few values, measured errors say little: a sum that cancels is exact by luck in one run, and off in the
    next. What an engine may make of such a blob is therefore drawn: every value of its bottoms is changed, at random,
    by as much as the budget of that bottom allows, and the layer computed from them in float64.
    """

    def __init__(self, runner: GraphModule, images: int) -> None:
        """For a batch of so many images, where the network leaves that free."""
        self._runner = runner
        graph, jumps = runner.graph, jumping(runner.graph)
        self._few: dict[str, tuple[Node, int]] = {
            value: (node, i)
            for node in graph.nodes
            for i, value in enumerate(node.outputs)
            if _size(graph, value, images) < FEW and value not in jumps
        }
        self._last = {value: top for top, (node, _) in self._few.items() for value in node.inputs}
        self._bottoms: dict[str, tuple[Tensor, float]] = {}
        self._dice = torch.Generator().manual_seed(0)

    def error(self, value: str, exact: Array) -> float:
        """The largest absolute error that was drawn for a value; 0 where it holds many, or none was drawn."""
        if value not in self._few:
            return 0.0
        node, i = self._few[value]
        weights = self._runner.weights_of(node, torch.float64)
        found = 0.0
        with torch.inference_mode():
            for _ in range(DRAWS):
                top = node.layer.torch([self._changed(*self._bottoms[name]) for name in node.inputs], weights)[i]
                difference = np.abs(top.numpy() - exact)
                found = max(found, float(difference[np.isfinite(difference)].max(initial=0.0)))
        return found

    def keep(self, value: str, exact: Array, allowed: float) -> None:
        """Remember a value that blobs of few values are computed from, and its budget, an absolute error."""
        if value in self._last:
            self._bottoms[value] = torch.from_numpy(exact), allowed
        for name in [name for name, last in self._last.items() if last == value]:
            self._bottoms.pop(name, None)

    def _changed(self, values: Tensor, allowed: float) -> Tensor:
        return values + allowed * (2 * torch.rand(values.shape, generator=self._dice, dtype=torch.float64) - 1)


def _size(graph: Graph, value: str, images: int) -> int:
    free = graph.batched[value][:1] == (None,)
    return prod((images, *graph.shapes[value][1:]) if free else graph.shapes[value])


def behind(graph: Graph, values: Mapping[str, object]) -> frozenset[str]:
    """These values, and all that are computed from them."""
    found = set(values)
    for node in graph.nodes:
        if found.intersection(node.inputs):
            found.update(node.outputs)
    return frozenset(found)
