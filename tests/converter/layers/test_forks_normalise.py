from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from senet_convert.errors import GraphError

from .running import One, Refusal, f32, layer, network, normal

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


GENETS = "scale_filler { type: 'constant' value: 1 } bias_filler { value: 0 }"


@pytest.mark.parametrize(
    ("params", "eps"),
    [
        ("", 1e-5),
        (f"frozen: false momentum: 0.95 {GENETS}", 1e-5),
        (f"frozen: true eps: 0.001 {GENETS}", 1e-3),
    ],
)
def test_batch_norm_of_cudnn(one: One, params: str, eps: float) -> None:
    found = one("CuDNNBatchNorm", f"cudnn_batch_norm_param {{ {params} }}", X, blobs=BLOBS)
    found.check("y0", normalised(X, eps))
    assert any("other forks keep others" in warning for warning in found.graph.warnings)


def test_batch_norm_of_cudnn_of_another_fork_is_refused(refusal: Refusal) -> None:
    message = refusal("CuDNNBatchNorm", "batch_norm_param { eps: 0.001 }", SHAPE)
    assert "its parameters stand in batch_norm_param; GENet's layer of this type has cudnn_batch_norm_param" in message


def test_statistics_of_the_batch_are_refused(refusal: Refusal) -> None:
    assert "bn_mode: LEARN normalises by" in refusal("BN", "bn_param { bn_mode: LEARN }", SHAPE)
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


@pytest.mark.parametrize(("params", "eps"), [("", 0.0), ("l2norm_param { eps: 0.5 }", 0.5)])
@pytest.mark.parametrize("shape", [(3, 7), (3, 7, 1, 1), (2, 4, 3, 5)])
def test_l2_norm_over_images(one: One, params: str, eps: float, shape: tuple[int, ...]) -> None:
    x = normal(*shape)
    expected = np.stack([image / (np.sqrt((image.astype(np.float64) ** 2).sum()) + eps) for image in x])
    one("L2Norm", params, x).check("y0", expected)


def test_l2_norm_over_channels_to_a_length(one: One) -> None:
    x = normal(2, 4, 3, 5)
    x[1, :, 2, 3] = 0
    expected = np.zeros(x.shape)
    for n, h, w in np.ndindex(2, 3, 5):
        length = (x[n, :, h, w].astype(np.float64) ** 2 / 9).sum() or 1
        expected[n, :, h, w] = x[n, :, h, w] / np.sqrt(length)
    found = one("L2Norm", "l2norm_param { l2_length: 9 }", x)
    found.check("y0", expected)
    np.testing.assert_allclose(np.sqrt((found.exact["y0"][0] ** 2).sum(0)), 3)


@pytest.mark.parametrize(
    ("params", "words"),
    [("eps: 1 l2_length: 1", "both eps and l2_length are given"), ("l2_length: 0", "l2_length is 0")],
)
def test_what_no_l2_norm_can_be(refusal: Refusal, params: str, words: str) -> None:
    assert words in refusal("L2Norm", f"l2norm_param {{ {params} }}", (2, 3))
    assert "at least two axes" in refusal("L2Norm", "", (2,))


def test_an_l2_norm_with_weights_is_another_layer(tmp_path: Path) -> None:
    """The name alone does not tell whether a fork has learned scales there: the blobs do."""
    inputs = {"x0": X}
    assert network(tmp_path, layer("L2Norm"), inputs, {}).accounts.arrays == {}
    with pytest.raises(GraphError, match=r"layer 'layer' \(L2Norm\): weights holds blobs for it, but .* learns\?"):
        network(tmp_path, layer("L2Norm"), inputs, {"layer": [SCALE]})


@pytest.mark.parametrize("shape", [(3, 7), (2, 4, 3), (2, 4, 3, 5)])
def test_norm_l2(one: One, shape: tuple[int, ...]) -> None:
    x = normal(*shape)
    x[0] *= np.float32(1e-4)  # 1e-7 counts here
    x[1] = 0
    expected = np.stack([image / np.sqrt((image.astype(np.float64) ** 2).sum() + 1e-7) for image in x])
    one("NormL2", "", x).check("y0", expected.reshape(*shape, *(1,) * (4 - len(shape))))


def test_norm_l2_takes_up_to_four_axes(refusal: Refusal) -> None:
    assert "NormL2 takes two to four axes" in refusal("NormL2", "", (2, 3, 4, 5, 6))
