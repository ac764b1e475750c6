from __future__ import annotations

from math import exp, log1p, tanh

import numpy as np
import pytest

from .running import One, Refusal, f32, normal
from .test_activation import X, each

SIXTH = float(np.float32(1 / 6))
FIFTH = float(np.float32(0.2))


def mish(v: float) -> float:
    return v * tanh(v if v > 700 else log1p(exp(v)))


CASES = {
    ("ReLU6", ""): lambda v: min(max(v, 0), 6),
    ("HardSigmoid", ""): lambda v: min(max(FIFTH * v + 0.5, 0), 1),
    ("HardSigmoid", "hardsigmoid_param { alpha: 0.16666667 beta: 0.25 }"): lambda v: min(max(SIXTH * v + 0.25, 0), 1),
    ("HardSwish", ""): lambda v: v * min(max(v + 3, 0), 6) / 6,
    ("Mish", ""): mish,
}


@pytest.mark.parametrize(("kind", "params"), CASES)
def test_values(one: One, kind: str, params: str) -> None:
    for x in (X, f32(np.linspace(-7, 7, 57).reshape(3, 19))):
        one(kind, params, x).check("y0", each(CASES[kind, params], x))


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 4, 5)])
@pytest.mark.parametrize(("params", "slope", "axis"), [("", 0, 1), ("negative_slope: 0.5 concat_axis: -1", 0.5, -1)])
def test_crelu_bends_both_signs(one: One, shape: tuple[int, ...], params: str, slope: float, axis: int) -> None:
    x = normal(*shape)
    both = np.concatenate([x, -x], axis)
    expected = np.maximum(both, 0) + slope * np.minimum(both, 0)
    one("CReLU", f"crelu_param {{ {params} }}", x).check_exactly("y0", expected)


def test_crelu_multiplies_infinity_by_a_slope_of_zero(unsound: One) -> None:
    found = unsound("CReLU", "", f32([[-np.inf, np.nan, -2, 2]]))
    found.check_exactly("y0", f32([[np.nan, np.nan, 0, 2, np.inf, np.nan, 2, 0]]))


def test_crelu_needs_its_axis(refusal: Refusal) -> None:
    assert "concat_axis 2 is out of range" in refusal("CReLU", "crelu_param { concat_axis: 2 }", (2, 3))


@pytest.mark.parametrize("kind", ["HardSigmoid", "HardSwish"])
def test_the_meaning_is_told_where_forks_disagree(one: One, kind: str) -> None:
    (warning,) = one(kind, "", X).graph.warnings
    assert warning.startswith(f"layer type {kind}: ")
    assert "some forks" in warning


@pytest.mark.parametrize(("params", "low", "high"), [("", 0, 1), ("minval: -0.5 maxval: 2", -0.5, 2)])
def test_brelu(one: One, params: str, low: float, high: float) -> None:
    x = normal(2, 3, 4) * 3
    expected = np.vectorize(lambda value: min(max(value, low), high))(x)
    one("BReLU", f"brelu_param {{ {params} }}", x).check_exactly("y0", expected)


def test_brelu_has_its_limits_in_order(refusal: Refusal) -> None:
    assert "minval 2 is above maxval 1" in refusal("BReLU", "brelu_param { minval: 2 }", (2, 3))
