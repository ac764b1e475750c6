from __future__ import annotations

import numpy as np
import pytest

from .running import One, Refusal, normal

X = normal(2, 8, 6, 4)


@pytest.mark.parametrize("crop", [(0, 0, 1, 1), (0, 2, 0, 1), (0, 0, 2, 0), (0, 0, 0, 0), (0, 3, 2, 1)])
def test_crop_center(one: One, crop: tuple[int, ...]) -> None:
    top = [size - 2 * n for size, n in zip(X.shape, crop, strict=True)]
    expected = np.empty(top, np.float32)
    for at in np.ndindex(*top):
        expected[at] = X[tuple(i + n for i, n in zip(at, crop, strict=True))]
    params = " ".join(f"crop_size: {n}" for n in crop)
    one("CropCenter", f"crop_center_param {{ {params} }}", X).check_exactly("y0", expected)


@pytest.mark.parametrize(
    ("crop", "words"),
    [
        ("crop_size: 1", "1 crop_size for a bottom of 3 axes (2x3x5)"),
        ("", "0 crop_size for a bottom of 3 axes"),
        ("crop_size: 0 crop_size: 0 crop_size: 3", "crop_size 3 at both ends of axis 2 leaves nothing of 5 cells"),
    ],
)
def test_what_no_crop_center_can_be(refusal: Refusal, crop: str, words: str) -> None:
    assert words in refusal("CropCenter", f"crop_center_param {{ {crop} }}", (2, 3, 5))


@pytest.mark.parametrize("dim", [(3, 2, 0, 1), (0, 1, 2, 3), (1, 0, 3, 2)])
def test_transpose(one: One, dim: tuple[int, ...]) -> None:
    expected = np.empty([X.shape[axis] for axis in dim], np.float32)
    for at in np.ndindex(*expected.shape):
        bottom = [0] * 4
        for i, axis in enumerate(dim):
            bottom[axis] = at[i]
        expected[at] = X[tuple(bottom)]
    params = " ".join(f"dim: {axis}" for axis in dim)
    one("Transpose", f"transpose_param {{ {params} }}", X).check_exactly("y0", expected)


@pytest.mark.parametrize("dim", ["", "dim: 1 dim: 0", "dim: 0 dim: 0 dim: 1", "dim: 0 dim: 1 dim: 3"])
def test_transpose_names_every_axis_once(refusal: Refusal, dim: str) -> None:
    message = refusal("Transpose", f"transpose_param {{ {dim} }}", (2, 3, 4))
    assert "a bottom of 3 axes (2x3x4); it must name each of 0 to 2 once" in message


@pytest.mark.parametrize("axis", [None, 1, 2, 3])
def test_reverse(one: One, axis: int | None) -> None:
    along = axis or 0
    expected = np.empty(X.shape, np.float32)
    for at in np.ndindex(*X.shape):
        expected[at] = X[(*at[:along], X.shape[along] - 1 - at[along], *at[along + 1 :])]
    params = "" if axis is None else f"reverse_param {{ axis: {axis} }}"
    one("Reverse", params, X).check_exactly("y0", expected)


@pytest.mark.parametrize("axis", [3, -1])
def test_reverse_counts_axes_from_0(refusal: Refusal, axis: int) -> None:
    message = refusal("Reverse", f"reverse_param {{ axis: {axis} }}", (2, 3, 4))
    assert f"axis {axis} is out of range for a blob of 3 axes" in message


def reorganised(x: np.ndarray, stride: int, reverse: bool) -> np.ndarray:
    """The loop of darknet and of its ports: places in flat memory."""
    batch, c, h, w = x.shape
    flat, top = x.ravel(), np.empty(x.size, np.float32)
    out_c = c // stride**2
    for b, k, j, i in np.ndindex(batch, c, h, w):
        one = i + w * (j + h * (k + c * b))
        c2, offset = k % out_c, k // out_c
        w2, h2 = i * stride + offset % stride, j * stride + offset // stride
        other = w2 + w * stride * (h2 + h * stride * (c2 + out_c * b))
        if reverse:
            top[other] = flat[one]
        else:
            top[one] = flat[other]
    if reverse:
        return top.reshape(batch, out_c, h * stride, w * stride)
    return top.reshape(batch, c * stride**2, h // stride, w // stride)


@pytest.mark.parametrize(("shape", "stride"), [((2, 8, 6, 4), 2), ((1, 9, 3, 6), 3), ((2, 5, 3, 3), 1)])
@pytest.mark.parametrize("reverse", [False, True])
def test_reorg(one: One, shape: tuple[int, ...], stride: int, reverse: bool) -> None:
    x = normal(*shape)
    params = f"reorg_param {{ stride: {stride} {'reverse: true' if reverse else ''} }}"
    found = one("Reorg", params, x)
    found.check_exactly("y0", reorganised(x, stride, reverse))
    assert any("darknet's order" in warning for warning in found.graph.warnings)


def test_reorg_is_not_space_to_depth(one: One) -> None:
    """The order that other forks have under the same name."""
    blocks = X.reshape(2, 8, 3, 2, 2, 2).transpose(0, 1, 3, 5, 2, 4).reshape(2, 32, 3, 2)
    assert not np.array_equal(one("Reorg", "reorg_param { stride: 2 }", X).exact["y0"], blocks)


@pytest.mark.parametrize(
    ("params", "shape", "words"),
    [
        ("", (1, 8, 4, 4), "lacks stride"),
        ("stride: 0", (1, 8, 4, 4), "it must be at least 1"),
        ("stride: 2", (1, 6, 4, 4), "channels by 4, height and width by 2"),
        ("stride: 2", (1, 8, 5, 4), "channels by 4, height and width by 2"),
        ("stride: 2 reverse: true", (1, 6, 5, 5), "it must divide channels by 4"),
        ("stride: 2", (8, 4, 4), "needs four axes"),
    ],
)
def test_what_no_reorg_can_be(refusal: Refusal, params: str, shape: tuple[int, ...], words: str) -> None:
    assert words in refusal("Reorg", f"reorg_param {{ {params} }}", shape)
