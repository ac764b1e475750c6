from __future__ import annotations

import numpy as np
import pytest

from .running import One, Refusal, f32, normal

SHAPE = (2, 5, 4, 3)
X = normal(*SHAPE) * 3
SCALE, SHIFT, MEAN = (normal(5, seed=seed) for seed in (1, 2, 3))
VARIANCE = np.abs(normal(5, seed=4)) + np.float32(0.1)
BLOBS = [blob.reshape(1, 5, 1, 1) for blob in (SCALE, SHIFT, MEAN, VARIANCE)]


def normalised(x: np.ndarray, eps: float) -> np.ndarray:
    expected = np.empty(x.shape)
    for at in np.ndindex(*x.shape):
        c = at[1]
        deviation = (float(VARIANCE[c]) + float(np.float32(eps))) ** 0.5
        expected[at] = (float(x[at]) - float(MEAN[c])) / deviation * float(SCALE[c]) + float(SHIFT[c])
    return expected


@pytest.mark.parametrize(("params", "eps"), [("", 1e-5), ("eps: 0.01 frozen: true slope_filler { value: 1 }", 0.01)])
@pytest.mark.parametrize("shape", [SHAPE, (4, 5), (2, 5, 3)])
def test_bn_with_four_blobs(one: One, params: str, eps: float, shape: tuple[int, ...]) -> None:
    x = normal(*shape) * 3
    found = one("BN", f"bn_param {{ {params} }}", x, blobs=BLOBS)
    found.check("y0", normalised(x, eps))
    assert found.graph.nodes[0].weights == ("layer/scale", "layer/shift", "layer/mean", "layer/variance")


@pytest.mark.parametrize("shape", [SHAPE, (4, 5)])
def test_bn_with_two_blobs(one: One, shape: tuple[int, ...]) -> None:
    x = normal(*shape)
    found = one("BN", "bn_param { bn_mode: INFERENCE scale_filler { value: 1 } }", x, blobs=BLOBS[:2])
    ones = (1,) * (len(shape) - 2)
    found.check("y0", x.astype(np.float64) * SCALE.reshape(5, *ones) + SHIFT.reshape(5, *ones))
    assert any("SegNet" in warning for warning in found.graph.warnings)


@pytest.mark.parametrize(("params", "eps"), [("", 1e-5), ("eps: 0.001 momentum: 0.9 frozen: false", 1e-3)])
def test_batch_norm_of_cudnn(one: One, params: str, eps: float) -> None:
    found = one("CuDNNBatchNorm", f"batch_norm_param {{ {params} }}", X, blobs=BLOBS)
    found.check("y0", normalised(X, eps))
    assert any("other forks keep others" in warning for warning in found.graph.warnings)


def test_statistics_of_the_batch_are_refused(refusal: Refusal) -> None:
    assert "bn_mode: LEARN normalises by" in refusal("BN", "bn_param { bn_mode: LEARN }", SHAPE)
    params = "batch_norm_param { use_global_stats: false }"
    assert "use_global_stats: false" in refusal("CuDNNBatchNorm", params, SHAPE)
    assert "at least two axes" in refusal("BN", "", (3,))
    assert "at least two axes" in refusal("Normalize", "", (3,))


@pytest.mark.parametrize("shape", [SHAPE, (4, 5), (2, 5, 3)])
@pytest.mark.parametrize("across", [True, False])
@pytest.mark.parametrize("shared", [True, False])
def test_normalize_of_ssd(one: One, shape: tuple[int, ...], across: bool, shared: bool) -> None:
    x = normal(*shape)
    scale = np.asarray(np.float32(20)) if shared else SCALE
    expected = np.empty(shape)
    for n, *at in np.ndindex(*shape):
        c, cell = at[0], tuple(at[1:])
        taken = x[n] if across else x[(n, slice(None), *cell)]
        norm = (np.sum(taken.astype(np.float64) ** 2) + 0.25) ** 0.5
        expected[(n, *at)] = float(x[(n, *at)]) / norm * float(scale if shared else scale[c])
    flags = f"across_spatial: {str(across).lower()} channel_shared: {str(shared).lower()}"
    params = f"norm_param {{ {flags} eps: 0.25 scale_filler {{ value: 20 }} }}"
    one("Normalize", params, x, blobs=[scale]).check("y0", expected)


def test_normalize_without_parameters_learns_nothing(one: One) -> None:
    found = one("Normalize", "", X)
    flat = X.reshape(2, -1).astype(np.float64)
    found.check("y0", (flat / np.sqrt((flat**2).sum(1, keepdims=True))).reshape(SHAPE))
    assert found.graph.wanted == ()
    assert any("caffe-windows" in warning for warning in found.graph.warnings)


def test_normalize_keeps_zeros(one: One) -> None:
    x = f32(np.zeros((2, 3, 2, 2)))
    one("Normalize", "norm_param { }", x, blobs=[np.asarray(np.float32(3))]).check_exactly("y0", np.zeros(x.shape))
