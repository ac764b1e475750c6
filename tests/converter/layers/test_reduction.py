from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from .running import One, Refusal, normal

X = normal(2, 3, 4, 5)
OPERATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "SUM": np.sum,
    "ASUM": lambda v: np.sum(np.abs(v)),
    "SUMSQ": lambda v: np.sum(v * v),
    "MEAN": np.mean,
}


@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1, -3])
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("coeff", [1, -0.5])
def test_reduction(one: One, operation: str, axis: int, coeff: float) -> None:
    before = X.shape[: axis % 4]
    expected = np.empty(before)
    for place in np.ndindex(*before):
        expected[place] = coeff * OPERATIONS[operation](X[place].astype(np.float64))
    params = f"reduction_param {{ operation: {operation} axis: {axis} coeff: {coeff} }}"
    one("Reduction", params, X).check("y0", expected)


def test_reduction_sums_everything_by_itself(one: One) -> None:
    one("Reduction", "", X).check("y0", np.asarray(X.sum(dtype=np.float64)))


def largest(values: np.ndarray, k: int) -> list[tuple[float, int]]:
    """Caffe sorts (value, index) pairs, largest first."""
    return sorted(((float(v), i) for i, v in enumerate(values)), reverse=True)[:k]


TIES = np.random.default_rng(0).integers(0, 3, (2, 4, 3, 3)).astype(np.float32)


@pytest.mark.parametrize("x", [X, TIES, TIES[0, 0], TIES[0], np.zeros((3, 7), np.float32)], ids=lambda x: str(x.shape))
@pytest.mark.parametrize("top_k", [1, 2, 3])
@pytest.mark.parametrize("out_max_val", [False, True])
def test_arg_max_of_images(one: One, x: np.ndarray, top_k: int, out_max_val: bool) -> None:
    rows = [largest(image.ravel(), top_k) for image in x]
    expected = np.array([[[i for _, i in row]] + ([[v for v, _ in row]] if out_max_val else []) for row in rows])
    params = f"argmax_param {{ top_k: {top_k} out_max_val: {str(out_max_val).lower()} }}"
    found = one("ArgMax", params, x)
    found.check_exactly("y0", expected.reshape(len(x), 1 + out_max_val, top_k, *(1,) * (x.ndim - 3)))


@pytest.mark.parametrize("x", [X, TIES], ids=["plain", "ties"])
@pytest.mark.parametrize("axis", [0, 1, 2, -1])
@pytest.mark.parametrize("top_k", [1, 2])
@pytest.mark.parametrize("out_max_val", [False, True])
def test_arg_max_along_an_axis(one: One, x: np.ndarray, axis: int, top_k: int, out_max_val: bool) -> None:
    lines = np.moveaxis(x, axis, -1)
    expected = np.empty((*lines.shape[:-1], top_k))
    for place in np.ndindex(*lines.shape[:-1]):
        expected[place] = [v if out_max_val else i for v, i in largest(lines[place], top_k)]
    params = f"argmax_param {{ axis: {axis} top_k: {top_k} out_max_val: {str(out_max_val).lower()} }}"
    one("ArgMax", params, x).check_exactly("y0", np.moveaxis(expected, -1, axis))


def test_arg_max_of_single_values(one: One) -> None:
    one("ArgMax", "", normal(4)).check_exactly("y0", np.zeros((4, 1, 1)))


def test_what_no_reduction_can_be(refusal: Refusal) -> None:
    assert "axis 3 is out of range" in refusal("Reduction", "reduction_param { axis: 3 }", (2, 3))
    assert "top_k 4 of the 3 values of a 2x3 bottom" in refusal("ArgMax", "argmax_param { top_k: 4 }", (2, 3))
    assert "top_k 0" in refusal("ArgMax", "argmax_param { top_k: 0 }", (2, 3))
    assert "top_k 3 of the 2 values" in refusal("ArgMax", "argmax_param { top_k: 3 axis: 0 }", (2, 3))
