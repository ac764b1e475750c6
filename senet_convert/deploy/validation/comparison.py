"""Several engines on the same pictures: what each gets wrong, and how far they agree."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..model import Model, best
from .accuracy import Tally, judge

Floats = NDArray[np.float32]


@dataclass
class Pair:
    """Two engines: pictures that both put into one class, and the largest difference of any probability."""

    engines: tuple[str, str]
    images: int = 0
    same_top1: int = 0
    difference: float = 0.0

    def add(self, one: Floats, other: Floats) -> None:
        """The probabilities of a batch, float32 (N, classes), by both."""
        self.images += len(one)
        self.same_top1 += int((best(one, 1) == best(other, 1)).sum())
        self.difference = max(self.difference, float(np.abs(one - other).max(initial=0)))

    def plain(self) -> dict[str, Any]:
        """As data for JSON."""
        return {
            "engines": list(self.engines),
            "images": self.images,
            "same_top1": self.same_top1,
            "max_probability_difference": self.difference,
        }


class Agreement:
    """Counts over the pictures that all engines have judged; `engines` have distinct names."""

    def __init__(self, engines: Sequence[Model]) -> None:
        self.engines = tuple(engines)
        self.tallies = {model.engine: Tally() for model in engines}
        self.seconds = dict.fromkeys(self.tallies, 0.0)
        self.pairs = [Pair((one, other)) for one, other in combinations(self.tallies, 2)]

    def probabilities(self, names: Sequence[str], labels: Sequence[int], batch: NDArray[Any]) -> Floats:
        """Run every engine on a batch and count; gives the first one's probabilities."""
        found: dict[str, Floats] = {}
        for model in self.engines:
            start = time.perf_counter()
            found[model.engine] = model.probabilities(batch)
            self.seconds[model.engine] += time.perf_counter() - start
            for judged in judge(names, labels, found[model.engine]):
                self.tallies[model.engine].add(judged)
        for pair in self.pairs:
            pair.add(*(found[engine] for engine in pair.engines))
        return found[self.engines[0].engine]

    def plain(self) -> dict[str, Any]:
        """{"engines": errors and speed of each, "agreement": each pair}."""
        rows = [
            {
                "engine": name,
                "images": tally.images,
                "top1_error": tally.top1_error,
                "top5_error": tally.top5_error,
                "top1_wrong": tally.top1_wrong,
                "top5_wrong": tally.top5_wrong,
                "seconds": round(self.seconds[name], 3),
            }
            for name, tally in self.tallies.items()
        ]
        return {"engines": rows, "agreement": [pair.plain() for pair in self.pairs]}
