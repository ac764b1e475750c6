"""Blobs of few values, judged by the layer alone: does an engine compute them from its own bottoms?

What such a blob may be off by follows from its bottoms, and is wide where they cancel: a fault of the layer itself can
hide in it. Computed in float64 from the engine's own bottoms, whatever these are off by, only the layer's own rounding
is left: that of its products, its sums and its result.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod, sqrt

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..graph.graph import Node
from ..runner import GraphModule
from .runs import ULP, few_values

Array = NDArray[np.float32]

FACTOR = 8.0  # times the roundings that were drawn
DRAWS = 16  # how often they are drawn
LANES = 6  # the roundings of terms that cancel, as of so many sums side by side
SUM = 4.0  # of terms that do not cancel: the roundings of a running sum, per root of their number


@dataclass(frozen=True)
class Local:
    """How far an engine's top is off from what the layer makes of its bottoms, absolute, and what is allowed.

    `inherited` is what the errors of the bottoms make of the top.
    """

    error: float
    allowed: float
    inherited: float


class LocalErrors:
    """Keeps each engine's bottoms of blobs of few values until they are judged."""

    def __init__(self, runner: GraphModule, images: int) -> None:
        """For a batch of so many images, where the network leaves that free."""
        self._runner = runner
        self._few: dict[str, tuple[Node, int]] = few_values(runner.graph, images)
        self._last = {name: value for value, (node, _) in self._few.items() for name in node.inputs}
        self._bottoms: dict[str, Mapping[str, Array]] = {}
        self._dice = torch.Generator().manual_seed(0)

    def of(self, value: str, exact: Array, given: Mapping[str, Array]) -> dict[str, Local]:
        """For each engine that gives the value and all bottoms of its layer; none for a blob of many values."""
        found = {}
        if value in self._few:
            node, i = self._few[value]
            for engine, top in given.items():
                held = [self._bottoms.get(name, {}).get(engine) for name in node.inputs]
                if all(bottom is not None and np.isfinite(bottom).all() for bottom in held) and np.isfinite(top).all():
                    bottoms = [torch.from_numpy(np.asarray(bottom, np.float64)) for bottom in held]
                    local = self._judge(node, i, bottoms, top, exact)
                    if local is not None:
                        found[engine] = local
        return found

    def see(self, value: str, given: Mapping[str, Array]) -> None:
        """Remember what layers of few values are computed from, and forget what none needs any more."""
        if value in self._last:
            self._bottoms[value] = dict(given)
        for name in [name for name, last in self._last.items() if last == value]:
            self._bottoms.pop(name, None)

    def _judge(self, node: Node, i: int, bottoms: list[Tensor], top: Array, truth: Array) -> Local | None:
        weights = self._runner.weights_of(node, torch.float64)
        longest = sqrt(self._terms(node, bottoms, top))
        roundings = ULP * max(1.0, longest / LANES)
        with torch.inference_mode():
            exact = node.layer.torch(bottoms, weights)[i].numpy()
            if not exact.shape == top.shape == truth.shape or not np.isfinite(exact + truth).all():
                return None
            drawn = 0.0
            for _ in range(DRAWS):
                moved = node.layer.torch([self._rounded(bottom, roundings) for bottom in bottoms], weights)[i].numpy()
                drawn = max(drawn, float(np.abs(moved - exact).max(initial=0.0)))
        largest = float(np.abs(exact).max(initial=0.0))
        own = ULP * largest * (2 + longest / SUM) + 2 * node.layer.resolution
        error, inherited = (float(np.abs(exact - other).max(initial=0.0)) for other in (top, truth))
        return Local(error, FACTOR * drawn + own, inherited)

    def _terms(self, node: Node, bottoms: list[Tensor], top: Array) -> float:
        """How many terms a sum of the layer has, about: with weights all of a picture, else its share of it."""
        most = max(prod(bottom.shape[1:]) for bottom in bottoms)
        return float(most) if node.weights else max(1.0, most / max(1, prod(top.shape[1:])))

    def _rounded(self, values: Tensor, roundings: float) -> Tensor:
        return values * (1 + roundings * (2 * torch.rand(values.shape, generator=self._dice, dtype=torch.float64) - 1))
