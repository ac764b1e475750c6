"""Counting right and wrong: top-1 and top-5 errors, each class on its own, and which classes are taken for which."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import exp, lgamma, log, log1p
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..labels.classes import Classes
from ..model import best

TOP = 5  # classes that are kept of each picture
CHANCE = 0.01  # a probability below which something is no accident


@dataclass(frozen=True)
class Judged:
    """One picture: what is right, the best classes (best first) and their probabilities."""

    name: str
    label: int
    top: tuple[int, ...]
    probabilities: tuple[float, ...]


def judge(names: Sequence[str], labels: Sequence[int], probabilities: NDArray[np.float32]) -> list[Judged]:
    """The pictures of a batch; `probabilities` is float32 (N, classes)."""
    order = best(probabilities, TOP)
    values = np.take_along_axis(probabilities, order, axis=1)
    return [
        Judged(name, label, tuple(map(int, top)), tuple(map(float, row)))
        for name, label, top, row in zip(names, labels, order, values, strict=True)
    ]


@dataclass
class Tally:
    """Counts over the pictures judged so far. Errors in %, exactly 100 * wrong / images."""

    images: int = 0
    top1_wrong: int = 0
    top5_wrong: int = 0
    broken: list[tuple[str, str]] = field(default_factory=list)  # (name, reason)
    _seen: Counter[int] = field(default_factory=Counter)
    _wrong1: Counter[int] = field(default_factory=Counter)
    _wrong5: Counter[int] = field(default_factory=Counter)
    _taken: Counter[tuple[int, int]] = field(default_factory=Counter)

    def add(self, judged: Judged) -> None:
        """Count one picture."""
        self.images += 1
        self._seen[judged.label] += 1
        if judged.top[0] != judged.label:
            self.top1_wrong += 1
            self._wrong1[judged.label] += 1
            self._taken[judged.label, judged.top[0]] += 1
        if judged.label not in judged.top[:TOP]:
            self.top5_wrong += 1
            self._wrong5[judged.label] += 1

    @property
    def done(self) -> int:
        """Pictures judged or found broken."""
        return self.images + len(self.broken)

    @property
    def top1_error(self) -> float:
        """In %."""
        return 100 * self.top1_wrong / self.images

    @property
    def top5_error(self) -> float:
        """In %."""
        return 100 * self.top5_wrong / self.images

    @property
    def by_chance(self) -> float:
        """The share of pictures that would be right if predictions had nothing to do with labels (Cohen, 1960)."""
        predicted = Counter({label: count - self._wrong1[label] for label, count in self._seen.items()})
        for (_, taken), count in self._taken.items():
            predicted[taken] += count
        return sum(count * predicted[label] for label, count in self._seen.items()) / self.images**2

    def per_class(self, classes: Classes) -> list[dict[str, Any]]:
        """Each class that occurred, worst first: {"index", "label", "wnid"?, "images", "top1_error", "top5_error"}."""
        rows = [
            {
                **classes.describe(index),
                "images": count,
                "top1_error": 100 * self._wrong1[index] / count,
                "top5_error": 100 * self._wrong5[index] / count,
            }
            for index, count in self._seen.items()
        ]
        return sorted(rows, key=lambda row: (-float(row["top1_error"]), int(row["index"])))

    def confusions(self, classes: Classes, most: int = 20) -> list[dict[str, Any]]:
        """The commonest mistakes: {"true", "predicted", "images", "share"}, the share in % of the true class."""
        common = sorted(self._taken.items(), key=lambda item: (-item[1], item[0]))[:most]
        return [
            {
                "true": classes.describe(true),
                "predicted": classes.describe(predicted),
                "images": count,
                "share": 100 * count / self._seen[true],
            }
            for (true, predicted), count in common
        ]


def no_better_than_chance(tally: Tally) -> bool:
    """Are so few pictures right that guessing would have done as well, and too many wrong for it to be bad luck?

    Two binomial tails: as many right by chance alone are likelier than CHANCE, and as few right by a network that knows
    every second picture are not.
    """
    right = tally.images - tally.top1_wrong
    guessed = 1 - _at_most(right - 1, tally.images, tally.by_chance)
    return guessed > CHANCE and _at_most(right, tally.images, 0.5) < CHANCE


def _at_most(successes: int, trials: int, share: float) -> float:
    """The probability of at most so many successes, each of `share`."""
    if successes < 0:
        return 0.0
    if share in (0, 1):
        return 1.0 if share == 0 or successes >= trials else 0.0
    terms = (
        lgamma(trials + 1) - lgamma(k + 1) - lgamma(trials - k + 1) + k * log(share) + (trials - k) * log1p(-share)
        for k in range(successes + 1)
    )
    return min(1.0, sum(exp(term) for term in terms))
