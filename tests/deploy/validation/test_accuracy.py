from __future__ import annotations

import numpy as np
import pytest

from senet_convert.deploy.labels.classes import Classes
from senet_convert.deploy.validation.accuracy import Judged, Tally, judge, no_better_than_chance

NAMES = Classes(tuple("abcdefgh"))


def judged(label: int, *top: int) -> Judged:
    return Judged("x", label, top, tuple(1 / (k + 2) for k in range(len(top))))


def test_a_batch_is_judged() -> None:
    first, second = judge(["x", "y"], [1, 0], np.array([[0.1, 0.5, 0.4], [0.2, 0.2, 0.6]], np.float32))
    assert (first.name, first.label, first.top) == ("x", 1, (1, 2, 0))
    assert first.probabilities == pytest.approx((0.5, 0.4, 0.1))
    assert (second.name, second.label, second.top) == ("y", 0, (2, 0, 1))


def test_errors_are_exact_shares() -> None:
    tally = Tally()
    for case in (judged(0, 0, 1, 2, 3, 4), judged(0, 1, 0, 2, 3, 4), judged(7, 1, 0, 2, 3, 4)):
        tally.add(case)
    assert (tally.images, tally.top1_wrong, tally.top5_wrong) == (3, 2, 1)
    assert tally.top1_error == 200 / 3
    assert tally.top5_error == 100 / 3


def test_classes_and_mistakes() -> None:
    tally = Tally()
    for case in (judged(0, 0, 1), judged(0, 1, 0), judged(2, 1, 3), judged(2, 1, 2), judged(2, 0, 2), judged(3, 3)):
        tally.add(case)
    rows = tally.per_class(NAMES)
    assert [(row["label"], row["images"], row["top1_error"]) for row in rows] == [
        ("c", 3, 100),
        ("a", 2, 50),
        ("d", 1, 0),
    ]
    assert rows[0]["top5_error"] == 100 / 3
    worst = tally.confusions(NAMES, most=2)
    assert [(row["true"]["label"], row["predicted"]["label"], row["images"]) for row in worst] == [
        ("c", "b", 2),
        ("a", "b", 1),
    ]
    assert worst[1]["share"] == 50


def test_equals_stand_in_the_order_of_the_classes() -> None:
    """Not in that of the pictures: a run that is resumed, or in another order, prints the same."""
    tally = Tally()
    for case in (judged(5, 1, 5), judged(2, 7, 2), judged(2, 3, 2), judged(0, 6, 0)):
        tally.add(case)
    assert [row["label"] for row in tally.per_class(NAMES)] == ["a", "c", "f"]
    mistakes = [(row["true"]["label"], row["predicted"]["label"]) for row in tally.confusions(NAMES)]
    assert mistakes == [("a", "g"), ("c", "d"), ("c", "h"), ("f", "b")]


def tallied(pairs: list[tuple[int, int]]) -> Tally:
    tally = Tally()
    for label, predicted in pairs:
        tally.add(judged(label, predicted))
    return tally


@pytest.mark.parametrize(
    ("pairs", "guessed"),
    [
        ([(k % 10, (k * 7 + k // 10) % 10) for k in range(500)], True),  # every answer with every label: one of ten
        ([(k % 10, 3) for k in range(500)], True),  # always the same
        ([(k % 10, (k + 1) % 10) for k in range(500)], True),  # numbered otherwise: none is right
        ([(k % 10, k % 10 if k % 4 == 0 else 3) for k in range(500)], False),  # 32 % right: poor, and no accident
        ([(k % 10, k % 10) for k in range(500)], False),
        ([(0, 0)] * 500, False),  # one class, and all of it right
        ([(0, 1), (1, 2), (2, 3)], False),  # three wrong ones tell nothing
        ([(k, (k + 1) % 8) for k in range(8)], True),
    ],
)
def test_what_guessing_does_as_well_is_told(pairs: list[tuple[int, int]], guessed: bool) -> None:
    assert no_better_than_chance(tallied(pairs)) is guessed
