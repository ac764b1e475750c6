from __future__ import annotations

import numpy as np
import pytest

from .running import One, Refusal, f32, normal

X = np.concatenate([normal(44), f32([0.0, -0.0, 100.0, -100.0])]).reshape(2, 3, 4, 2)
POSITIVE = np.abs(normal(2, 9)) + np.float32(0.01)


def test_absval(one: One) -> None:
    one("AbsVal", "", X).check_exactly("y0", np.abs(X))


@pytest.mark.parametrize(
    ("power", "scale", "shift"),
    [(1, 1, 0), (1, -0.5, 0.25), (1, 1, 3), (2, 0.5, -1), (3, 1, 0), (0, 3, 2), (2, 0, -1.5), (0, 0, 0), (-1, 2, 0.5)],
)
def test_power(one: One, power: float, scale: float, shift: float) -> None:
    params = f"power_param {{ power: {power} scale: {scale} shift: {shift} }}"
    with np.errstate(divide="ignore"):
        expected = (shift + scale * X.astype(np.float64)) ** power
    one("Power", params, X).check("y0", expected)


@pytest.mark.parametrize(("power", "scale", "shift"), [(0.5, 2, 0.125), (-1.25, 1, 0), (0.75, 1, 0)])
def test_power_by_fractions(one: One, power: float, scale: float, shift: float) -> None:
    params = f"power_param {{ power: {power} scale: {scale} shift: {shift} }}"
    one("Power", params, POSITIVE).check("y0", (shift + scale * POSITIVE.astype(np.float64)) ** power)


def test_power_of_negative_values_is_not_a_number(one: One) -> None:
    found = one("Power", "power_param { power: 0.5 }", f32([[-1, 4, -0.25]]))
    found.check("y0", np.array([[np.nan, 2, np.nan]]))


def test_a_constant_power_does_not_look_at_its_bottom(one: One) -> None:
    x = f32([[np.nan, np.inf, 1]])
    one("Power", "power_param { power: 0 }", x).check_exactly("y0", np.ones((1, 3)))
    one("Power", "power_param { power: 3 scale: 0 shift: 2 }", x).check_exactly("y0", np.full((1, 3), 8.0))
    one("Power", "power_param { power: -1 scale: 0 }", x).check_exactly("y0", np.full((1, 3), np.inf))
    one("Power", "power_param { power: 0.5 scale: 0 shift: -1 }", x).check_exactly("y0", np.full((1, 3), np.nan))


@pytest.mark.parametrize(
    ("base", "scale", "shift"), [(-1, 1, 0), (2, 0.5, 1.5), (-1, -1, 0.5), (0.5, 1, -1), (1, 1, 3)]
)
def test_exp(one: One, base: float, scale: float, shift: float) -> None:
    x = X[:, :, :3]
    params = f"exp_param {{ base: {base} scale: {scale} shift: {shift} }}"
    one("Exp", params, x).check("y0", (np.e if base == -1 else base) ** (shift + scale * x.astype(np.float64)))


def test_exp_overflows_and_underflows(one: One) -> None:
    found = one("Exp", "", f32([[1000, -1000, 0]]))
    np.testing.assert_array_equal(found.onnx["y0"], [[np.inf, 0, 1]])
    np.testing.assert_array_equal(found.plain["y0"], [[np.inf, 0, 1]])


@pytest.mark.parametrize(
    ("params", "expected"),
    [("shift: 1000", np.inf), ("shift: 100", np.inf), ("shift: -1000", 0), ("base: 10 shift: 400", np.inf)],
)
def test_exp_of_a_shift_that_float32_cannot_hold(one: One, params: str, expected: float) -> None:
    """Caffe keeps base ^ shift as one float32 number: infinite from e ^ 89 on."""
    one("Exp", f"exp_param {{ {params} }}", f32([[1, -2, 0]])).check_exactly("y0", np.full((1, 3), expected))


@pytest.mark.parametrize(("base", "scale", "shift"), [(-1, 1, 0), (10, 3, 0.5), (0.5, 1, 0), (2, 0.5, 2)])
def test_log(one: One, base: float, scale: float, shift: float) -> None:
    params = f"log_param {{ base: {base} scale: {scale} shift: {shift} }}"
    expected = np.log(shift + scale * POSITIVE.astype(np.float64)) / (1 if base == -1 else np.log(base))
    one("Log", params, POSITIVE).check("y0", expected)


def test_log_of_nothing(one: One) -> None:
    one("Log", "", f32([[0, -1, 1]])).check("y0", np.array([[-np.inf, np.nan, 0]]))


def test_what_no_layer_can_be(refusal: Refusal) -> None:
    assert "base 0; it must be above 0" in refusal("Exp", "exp_param { base: 0 }", (2, 3))
    assert "base 1; it must be above 0 and not 1" in refusal("Log", "log_param { base: 1 }", (2, 3))
    assert "base -2" in refusal("Log", "log_param { base: -2 }", (2, 3))
