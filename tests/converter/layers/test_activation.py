from __future__ import annotations

from collections.abc import Callable
from math import exp, log, tanh

import numpy as np
import pytest

from senet_convert.converter.export.onnx import export

from .running import One, Refusal, f32, normal

# Ordinary values, zeros of both signs, and what overflows a careless exp().
EDGES = [0.0, -0.0, 1e-3, -1e-3, 20.5, -20.5, 88.0, -88.0, 100.0, -100.0, 1000.0, -1000.0]
X = np.concatenate([normal(36), f32(EDGES)]).reshape(2, 3, 4, 2)


def each(function: Callable[[float], float], x: np.ndarray = X) -> np.ndarray:
    """A scalar definition, applied value by value in float64."""
    return np.array([function(float(v)) for v in x.ravel()]).reshape(x.shape)


def sigmoid(v: float) -> float:
    return 1 / (1 + exp(-v)) if v >= -700 else 0.0


def bnll(v: float) -> float:
    return v + log(1 + exp(-v)) if v > 0 else log(1 + exp(v))


F = np.float32
CASES = {
    ("ReLU", ""): lambda v: max(v, 0),
    ("ReLU", "relu_param { negative_slope: 0 engine: CUDNN }"): lambda v: max(v, 0),
    ("ReLU", "relu_param { negative_slope: 0.1 }"): lambda v: max(v, 0) + float(F(0.1)) * min(v, 0),
    ("ReLU", "relu_param { negative_slope: -2 }"): lambda v: max(v, 0) - 2 * min(v, 0),
    ("ReLU", "relu_param { relu6: true }"): lambda v: min(max(v, 0), 6),
    ("ReLU", "relu_param { relu6: false negative_slope: 0.5 }"): lambda v: max(v, 0) + 0.5 * min(v, 0),
    ("ELU", ""): lambda v: max(v, 0) + exp(min(v, 0)) - 1,
    ("ELU", "elu_param { alpha: 0.25 }"): lambda v: max(v, 0) + 0.25 * (exp(min(v, 0)) - 1),
    ("Sigmoid", ""): sigmoid,
    ("TanH", ""): tanh,
    ("BNLL", ""): bnll,
    ("Swish", ""): lambda v: v * sigmoid(v),
    ("Swish", "swish_param { beta: 1.75 }"): lambda v: v * sigmoid(1.75 * v),
    ("Clip", "clip_param { min: -0.75 max: 1.5 }"): lambda v: max(-0.75, min(v, 1.5)),
}


@pytest.mark.parametrize(("kind", "params"), CASES)
def test_values(one: One, kind: str, params: str) -> None:
    one(kind, params, X).check("y0", each(CASES[kind, params]))


@pytest.mark.parametrize("threshold", [0.0, 0.5, -2.0])
def test_threshold_is_exclusive(one: One, threshold: float) -> None:
    x = np.append(X.ravel(), threshold).reshape(7, 7)
    one("Threshold", f"threshold_param {{ threshold: {threshold} }}", x).check_exactly(
        "y0", each(lambda v: v > threshold, x)
    )


def test_values_survive_infinity(one: One) -> None:
    x = f32([[np.inf, -np.inf, 1.0, -1.0]])
    one("ReLU", "relu_param { negative_slope: 0.5 }", x).check_exactly("y0", np.array([[np.inf, -np.inf, 1, -0.5]]))
    one("Sigmoid", "", x).check("y0", np.array([[1, 0, sigmoid(1), sigmoid(-1)]]))
    one("BNLL", "", x).check("y0", np.array([[np.inf, 0, bnll(1), bnll(-1)]]))


NOT_FINITE = f32([np.nan, np.inf, -np.inf, 2, -2, 0.5, -0.5, 0]).reshape(2, 2, 2, 1)  # max and min of Python are C++'s
OF_NOT_FINITE = {
    ("ReLU", ""): lambda v: max(v, 0) + 0.0 * min(v, 0),
    ("ReLU", "relu_param { negative_slope: -2 }"): lambda v: max(v, 0) - 2 * min(v, 0),
    ("ELU", "elu_param { alpha: 2 }"): lambda v: max(v, 0) + 2 * (exp(min(v, 0)) - 1),
    ("Sigmoid", ""): lambda v: 0.5 * tanh(0.5 * v) + 0.5,
    ("TanH", ""): tanh,
    ("BNLL", ""): lambda v: v + log(1 + exp(-v)) if v > 0 else log(1 + exp(v)),
    ("Clip", "clip_param { min: -0.75 max: 1.5 }"): lambda v: max(-0.75, min(v, 1.5)),
    ("Threshold", ""): lambda v: v > 0,
}


@pytest.mark.parametrize(("kind", "params"), OF_NOT_FINITE)
def test_values_that_are_not_finite(unsound: One, kind: str, params: str) -> None:
    unsound(kind, params, NOT_FINITE).check("y0", each(OF_NOT_FINITE[kind, params], NOT_FINITE))


@pytest.mark.parametrize("slope", [np.nan, np.inf, -np.inf, 0])
@pytest.mark.parametrize("shared", [False, True])
def test_prelu_multiplies_its_slope_by_zero_too(one: One, unsound: One, slope: float, shared: bool) -> None:
    slopes = [slope] if shared else [0.25, slope]
    blob = f32(slope) if shared else f32(slopes)
    expected = np.empty(NOT_FINITE.shape)
    for place in np.ndindex(*NOT_FINITE.shape):
        v = float(NOT_FINITE[place])
        expected[place] = max(v, 0) + slopes[place[1] % len(slopes)] * min(v, 0)
    params = f"prelu_param {{ channel_shared: {str(shared).lower()} }}"
    (one if slope else unsound)("PReLU", params, NOT_FINITE, blobs=[blob]).check_exactly("y0", expected)


@pytest.mark.parametrize(
    ("kind", "params", "op"), [("ReLU", "", "Relu"), ("Clip", "clip_param { min: 0 max: 1 }", "Clip")]
)
def test_finite_weights_take_the_quickest_way(one: One, kind: str, params: str, op: str) -> None:
    found = one(kind, params, X)
    assert [node.op_type for node in export(found.graph).definition.graph.node] == [op]


@pytest.mark.parametrize("shape", [(2, 5), (2, 5, 4), (2, 5, 2, 3), (2, 5, 2, 3, 2)])
@pytest.mark.parametrize("shared", [False, True])
def test_prelu_has_a_slope_per_channel_or_one(one: One, shape: tuple[int, ...], shared: bool) -> None:
    x = normal(*shape) * 10
    slope = np.float32(0.3) if shared else f32([0.1, -0.5, 0, 2, 0.25])
    found = one("PReLU", f"prelu_param {{ channel_shared: {str(shared).lower()} }}", x, blobs=[np.asarray(slope)])
    per_channel = slope if shared else slope.reshape(1, 5, *(1,) * (len(shape) - 2))
    found.check("y0", np.maximum(x, 0) + per_channel * np.minimum(x, 0).astype(np.float64))
    assert found.graph.nodes[0].weights == ("layer/slope",)


def test_what_no_layer_can_be(refusal: Refusal) -> None:
    assert "clip_param lacks max, min, which has no default" in refusal("Clip", "", (2, 3))
    assert "relu6 with negative_slope 0.5" in refusal("ReLU", "relu_param { relu6: true negative_slope: 0.5 }", (2, 3))
    assert "negative_slope is inf" in refusal("ReLU", "relu_param { negative_slope: inf }", (2, 3))
    assert "PReLU needs at least two axes" in refusal("PReLU", "", (2,))


def test_clip_takes_the_upper_limit_first(one: One, unsound: One) -> None:
    """std::max(min, std::min(x, max)): with min above max everything is min, NaN too."""
    x = normal(2, 3, 4) * 3
    found = one("Clip", "clip_param { min: 2 max: -1 }", x)
    found.check_exactly("y0", np.full(x.shape, 2))
    assert found.graph.warnings == (
        "clip_param has min 2 above max -1: as in Caffe every value becomes 2. Is that meant? Layers 'layer'",
    )
    x[0, 0] = np.nan
    unsound("Clip", "clip_param { min: 2 max: -1 }", x).check_exactly("y0", np.full(x.shape, 2))
    assert one("Clip", "clip_param { min: -1 max: 2 }", x * 0).graph.warnings == ()
