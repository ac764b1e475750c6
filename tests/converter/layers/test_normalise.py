from __future__ import annotations

from math import exp
from pathlib import Path

import numpy as np
import pytest

from senet_convert.converter.layers.normalise import BatchNorm
from senet_convert.errors import GraphError

from .running import One, Refusal, f32, normal, run

SHAPE = (2, 7, 6, 5)
X = normal(*SHAPE) * 3


@pytest.mark.parametrize("factor", [1.0, 0.9, 999.98, 0.0])
def test_batch_norm_divides_what_the_file_holds(one: One, factor: float) -> None:
    mean, variance = normal(7, seed=1), np.abs(normal(7, seed=2)) + np.float32(0.1)
    found = one("BatchNorm", "batch_norm_param { eps: 0.001 }", X, blobs=[mean, variance, f32([factor])])
    scale = np.float32(0) if factor == 0 else np.float32(1) / np.float32(factor)
    expected = np.empty(SHAPE)
    for n, c, h, w in np.ndindex(*SHAPE):
        deviation = (float(variance[c] * scale) + float(np.float32(0.001))) ** 0.5
        expected[n, c, h, w] = (float(X[n, c, h, w]) - float(mean[c] * scale)) / deviation
    found.check("y0", expected)
    arrays = found.graph.accounts.arrays
    np.testing.assert_array_equal(arrays["layer/mean"], mean * scale)
    np.testing.assert_array_equal(arrays["layer/variance"], variance * scale)


def test_a_factor_of_0_is_named(one: One) -> None:
    blobs = [normal(7), np.abs(normal(7)), f32([0])]
    (warning,) = one("BatchNorm", "", X, blobs=blobs).graph.warnings
    assert warning == (
        "blob 2, which mean and variance are divided by, is 0: Caffe takes both as 0 then. Was it saved before any "
        "training? Layers 'layer'"
    )
    assert one("BatchNorm", "", X, blobs=[*blobs[:2], f32([0.9])]).graph.warnings == ()


@pytest.mark.parametrize("shape", [(4, 6), (2, 3, 5), (2, 3, 2, 2, 2)])
def test_batch_norm_of_other_ranks(one: One, shape: tuple[int, ...]) -> None:
    x, mean, variance = normal(*shape), normal(shape[1], seed=1), np.abs(normal(shape[1], seed=2)) + np.float32(0.1)
    ones = (1,) * (len(shape) - 2)
    expected = (x - mean.reshape(-1, *ones)) / np.sqrt(variance.reshape(-1, *ones).astype(np.float64) + 1e-5)
    params = "batch_norm_param { use_global_stats: true moving_average_fraction: 0.5 }"
    one("BatchNorm", params, x, blobs=[mean, variance, np.ones(1)]).check("y0", expected)


def test_batch_norm_of_one_axis_has_no_channels(refusal: Refusal) -> None:
    assert "shape 4; BatchNorm needs two axes" in refusal("BatchNorm", "", (4,))


def test_batch_norm_without_variance_divides_by_the_root_of_eps(one: One) -> None:
    found = one("BatchNorm", "", X, blobs=[np.zeros(7), np.zeros(7), np.ones(1)])
    found.check("y0", X / np.sqrt(np.float64(np.float32(1e-5))))


def test_statistics_of_the_batch_are_refused(refusal: Refusal) -> None:
    assert "use_global_stats: false" in refusal("BatchNorm", "batch_norm_param { use_global_stats: false }", SHAPE)


@pytest.mark.parametrize(
    ("local_size", "alpha", "beta", "k"),
    [(5, 1, 0.75, 1), (3, 0.5, 0.75, 1), (5, 0.25, 0.5, 2), (9, 2, 1.25, 1), (1, 1, 0.5, 1)],
)
def test_lrn_across_channels(one: One, local_size: int, alpha: float, beta: float, k: float) -> None:
    half = local_size // 2
    expected = np.empty(SHAPE)
    for c in range(7):
        squares = X[:, max(c - half, 0) : c + half + 1].astype(np.float64) ** 2
        expected[:, c] = X[:, c] * (k + alpha / local_size * squares.sum(1)) ** -beta
    params = f"lrn_param {{ local_size: {local_size} alpha: {alpha} beta: {beta} k: {k} }}"
    one("LRN", params, X).check("y0", expected)


@pytest.mark.parametrize("local_size", [1, 3, 5, 13, 15])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_lrn_adds_and_subtracts_along_the_channels(unsound: One, local_size: int, value: float) -> None:
    """What is not finite stays in Caffe's running sum."""
    x, half = X.copy(), local_size // 2
    x[:, 2, 1:3] = value
    squares = np.pad(x.astype(np.float64) ** 2, ((0, 0), (half, half), (0, 0), (0, 0)))
    sums, expected = squares[:, :local_size].sum(1), np.empty(SHAPE)
    with np.errstate(invalid="ignore"):
        for c in range(7):
            if c:
                sums = sums + squares[:, c + local_size - 1] - squares[:, c - 1]
            expected[:, c] = x[:, c] * (1 + sums / local_size) ** -0.75
    unsound("LRN", f"lrn_param {{ local_size: {local_size} }}", x).check("y0", expected)


@pytest.mark.parametrize(("local_size", "alpha", "beta"), [(3, 0.5, 0.75), (5, 1.5, 0.5), (9, 1, 1), (1, 2, 0.75)])
def test_lrn_within_channels_knows_no_k(one: One, local_size: int, alpha: float, beta: float) -> None:
    half = local_size // 2
    expected = np.empty(SHAPE)
    for h, w in np.ndindex(*SHAPE[2:]):
        window = X[:, :, max(h - half, 0) : h + half + 1, max(w - half, 0) : w + half + 1].astype(np.float64)
        mean = (window**2).sum((2, 3)) / local_size**2
        expected[:, :, h, w] = X[:, :, h, w] * (1 + alpha * mean) ** -beta
    params = f"local_size: {local_size} alpha: {alpha} beta: {beta} k: 7 norm_region: WITHIN_CHANNEL"
    one("LRN", f"lrn_param {{ {params} }}", X).check("y0", expected)


def test_lrn_keeps_small_values_beside_large_ones(one: One) -> None:
    """Adding and subtracting along the channels would leave nothing of them."""
    x = np.ones((1, 9, 2, 2), np.float32)
    x[:, 0] = 1e4
    found = one("LRN", "lrn_param { local_size: 3 }", x)
    one_alone = 1 / 2**0.75
    for values in (found.exact, found.plain, found.onnx):
        np.testing.assert_allclose(values["y0"][:, 3:8], one_alone, rtol=1e-6)


def test_what_no_lrn_can_be(refusal: Refusal) -> None:
    assert "local_size is 4; it must be odd" in refusal("LRN", "lrn_param { local_size: 4 }", SHAPE)
    assert "needs four axes" in refusal("LRN", "", (2, 3, 4))


@pytest.mark.parametrize("across", [False, True])
@pytest.mark.parametrize("variance", [False, True])
@pytest.mark.parametrize("eps", ["", "eps: 0.25"])
def test_mvn(one: One, across: bool, variance: bool, eps: str) -> None:
    axes = (1, 2, 3) if across else (2, 3)
    y = X.astype(np.float64) - X.mean(axes, dtype=np.float64, keepdims=True)
    if variance:  # eps is added to the deviation, not below the root
        y /= np.sqrt((y**2).mean(axes, keepdims=True)) + (0.25 if eps else 1e-9)
    flags = f"normalize_variance: {str(variance).lower()} across_channels: {str(across).lower()} {eps}"
    one("MVN", f"mvn_param {{ {flags} }}", X).check("y0", y)


def test_mvn_of_other_ranks_gives_four_axes(one: One) -> None:
    x = normal(2, 3, 5)
    y = x - x.mean(2, dtype=np.float64, keepdims=True)
    one("MVN", "", x).check("y0", (y / (np.sqrt((y**2).mean(2, keepdims=True)) + 1e-9))[..., None])
    rows = x[:, :, 0]
    one("MVN", "", rows).check_exactly("y0", np.zeros((2, 3, 1, 1)))  # every value is its own mean
    one("MVN", "", rows[0]).check_exactly("y0", np.zeros((3, 1, 1, 1)))
    one("MVN", "", rows[0, 0]).check_exactly("y0", np.zeros((1, 1, 1, 1)))
    one("MVN", "mvn_param { eps: 0.5 }", np.zeros((2, 3, 4))).check_exactly("y0", np.zeros((2, 3, 4, 1)))
    one("MVN", "mvn_param { eps: 0 }", rows).check_exactly("y0", np.full((2, 3, 1, 1), np.nan))  # 0 / 0
    y = rows - rows.mean(1, dtype=np.float64, keepdims=True)
    found = one("MVN", "mvn_param { across_channels: true normalize_variance: false }", rows)
    found.check("y0", y[:, :, None, None])


def test_mvn_in_place_and_blobs_in_the_same_memory(tmp_path: Path) -> None:
    """The blob takes its new axes; the other name of its memory keeps its own."""
    text = """
layer { name: "one" type: "Power" bottom: "x" top: "a" power_param { shift: 1 } }
layer { name: "two" type: "Reshape" bottom: "a" top: "b" reshape_param { shape { dim: 0 dim: 3 dim: 5 } } }
layer { name: "over" type: "MVN" bottom: "b" top: "b" mvn_param { normalize_variance: false } }
layer { name: "after" type: "Power" bottom: "a" top: "late" }
"""
    x = normal(2, 15)
    maps = x.reshape(2, 3, 5, 1).astype(np.float64)
    found = run(tmp_path, text, {"x": x})
    found.check("b", maps - maps.mean(2, keepdims=True))
    found.check("late", (maps - maps.mean(2, keepdims=True)).reshape(2, 15))


def test_an_mvn_differs_in_shape_from_a_bottom_of_fewer_axes(tmp_path: Path) -> None:
    text = """
layer { name: "mvn" type: "MVN" bottom: "x" top: "m" }
layer { name: "sum" type: "Eltwise" bottom: "m" bottom: "x" top: "y" }
"""
    with pytest.raises(GraphError, match="shapes 2x3x4x1 and 2x3x4; Eltwise needs one shape"):
        run(tmp_path, text, {"x": normal(2, 3, 4)})


def test_mvn_takes_at_most_four_axes(refusal: Refusal) -> None:
    assert "takes at most four axes" in refusal("MVN", "", (1, 2, 3, 4, 5))


def test_lrn_in_place_only_within_channels(tmp_path: Path) -> None:
    def text(region: str) -> str:
        params = f"local_size: 3 norm_region: {region}"
        return (
            'layer { name: "p" type: "Power" bottom: "x" top: "p" }\n'
            f'layer {{ name: "again" type: "LRN" bottom: "p" top: "p" lrn_param {{ {params} }} }}\n'
            f'layer {{ name: "apart" type: "LRN" bottom: "x" top: "y" lrn_param {{ {params} }} }}'
        )

    found = run(tmp_path, text("WITHIN_CHANNEL"), {"x": X})
    for values in (found.exact, found.plain, found.onnx):
        np.testing.assert_array_equal(values["p"], values["y"])
    assert not np.array_equal(found.exact["p"], X)
    with pytest.raises(GraphError, match=r"layer 'again'.*layers of type LRN cannot work in place"):
        run(tmp_path, text("ACROSS_CHANNELS"), {"x": X})


@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1, -2])
def test_softmax(one: One, axis: int) -> None:
    x = np.moveaxis(X, axis, -1).astype(np.float64)
    expected = np.empty(x.shape)
    for place in np.ndindex(*x.shape[:-1]):
        powers = [exp(v - x[place].max()) for v in x[place]]
        expected[place] = np.array(powers) / sum(powers)
    one("Softmax", f"softmax_param {{ axis: {axis} engine: CAFFE }}", X).check("y0", np.moveaxis(expected, -1, axis))


def test_softmax_saturates(one: One) -> None:
    one("Softmax", "", f32([[1000, -1000, 0], [88, 88, 88], [-1000, -1000, -1000]])).check(
        "y0", np.array([[1, 0, 0], [1 / 3] * 3, [1 / 3] * 3])
    )


def test_softmax_along_an_axis_that_is_not_there(refusal: Refusal) -> None:
    assert "axis 2 is out of range for a blob of 2 axes" in refusal("Softmax", "softmax_param { axis: 2 }", (2, 3))


def nvidias(channels: int, correction: float = 1.0) -> list[np.ndarray]:
    """mean, variance, correction, scale, bias, as NVIDIA Caffe saves them."""
    mean, variance, scale, bias = (normal(1, channels, 1, 1, seed=seed) for seed in (1, 2, 3, 4))
    return [mean, np.abs(variance) + np.float32(0.1), f32([correction]), scale, bias]


@pytest.mark.parametrize(
    ("params", "eps"),
    [
        ("scale_bias: true", 1e-5),
        ("scale_bias: true eps: 0.001 use_global_stats: false", 1e-3),
        ("scale_bias: true eps: 1e-9", 1e-5),
        ("scale_filler { value: 1 }", 1e-5),
        ("bias_filler { value: 0 }", 1e-5),
        ("scale_bias: false scale_filler { value: 1 } bias_filler { value: 0 }", 1e-5),
    ],
)
@pytest.mark.parametrize("correction", [1.0, 0.0, 999.0])
def test_batch_norm_of_nvidia(one: One, params: str, eps: float, correction: float) -> None:
    blobs = nvidias(7, correction)
    blobs[1][0, :2] = np.float32(1e-6)  # eps counts here
    found = one("BatchNorm", f"batch_norm_param {{ {params} }}", X, blobs=blobs)
    mean, variance, _, scale, bias = (blob.ravel().astype(np.float64) for blob in blobs)
    expected = np.empty(SHAPE)
    for n, c, h, w in np.ndindex(*SHAPE):
        normal_value = (float(X[n, c, h, w]) - mean[c]) * (variance[c] + float(np.float32(eps))) ** -0.5
        expected[n, c, h, w] = normal_value * scale[c] + bias[c]
    found.check("y0", expected)
    assert found.graph.nodes[0].weights == ("layer/mean", "layer/variance", "layer/scale", "layer/bias")
    assert found.graph.warnings == ()


def test_blobs_of_nvidia_may_have_one_axis(one: One) -> None:
    found = one("BatchNorm", "batch_norm_param { scale_bias: true }", X, blobs=[blob.ravel() for blob in nvidias(7)])
    assert found.graph.accounts.arrays["layer/bias"].shape == (7,)


def test_blobs_of_nvidia_under_a_stock_prototxt_are_named(one: One) -> None:
    with pytest.raises(GraphError, match=r"5 blobs .*saved by NVIDIA Caffe.*scale_bias: true into batch_norm_param"):
        one("BatchNorm", "", X, blobs=nvidias(7))
    with pytest.raises(GraphError, match="saved by NVIDIA Caffe, which divides by no third blob"):
        one("BatchNorm", "", X, blobs=nvidias(7)[:3])
    with pytest.raises(GraphError, match=r"holds 3 blobs .*the network needs 5"):
        one("BatchNorm", "batch_norm_param { scale_bias: true }", X, blobs=nvidias(7)[:3])
    with pytest.raises(GraphError, match="holds blobs of shape 1x6x1x1"):
        one("BatchNorm", "batch_norm_param { scale_bias: true }", X, blobs=nvidias(6))


def test_what_nvidias_solver_learns() -> None:
    layer = BatchNorm(scale_bias=True)
    assert [layer.is_learned(i, 5) for i in range(5)] == [False, False, False, True, True]
    assert not any(BatchNorm().is_learned(i, 3) for i in range(3))
