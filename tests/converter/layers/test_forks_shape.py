from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest

from .running import One, Refusal, f32, layer, normal, run

X = normal(2, 6, 4, 5)


@pytest.mark.parametrize(
    ("order", "axes"),
    [((0, 2, 3, 1), (0, 2, 3, 1)), ((0, 3), (0, 3, 1, 2)), ((), (0, 1, 2, 3)), ((1, 0, 3, 2), (1, 0, 3, 2))],
)
def test_permute(one: One, order: tuple[int, ...], axes: tuple[int, ...]) -> None:
    params = " ".join(f"order: {axis}" for axis in order)
    one("Permute", f"permute_param {{ {params} }}", X).check_exactly("y0", X.transpose(axes))


def test_what_no_permute_can_be(refusal: Refusal) -> None:
    assert "names an axis twice" in refusal("Permute", "permute_param { order: 1 order: 1 }", (2, 3))
    assert "a blob of 2 axes does not have" in refusal("Permute", "permute_param { order: 2 }", (2, 3))


def test_a_permute_that_keeps_the_order_shares_memory(tmp_path: Path) -> None:
    """As in SSD: an in-place layer behind it changes its bottom too."""
    text = layer("Permute", "permute_param { order: 0 order: 1 }")
    text += 'layer { name: "relu" type: "ReLU" bottom: "y0" top: "y0" }\n'
    text += 'layer { name: "late" type: "Power" bottom: "x0" top: "late" power_param { scale: 2 } }\n'
    found = run(tmp_path, text, {"x0": X})
    found.check_exactly("late", np.maximum(X, 0) * 2)


@pytest.mark.parametrize("group", [1, 2, 3, 6])
@pytest.mark.parametrize("shape", [(2, 6), (2, 6, 4, 5), (2, 6, 3)])
def test_shuffle_channel(one: One, group: int, shape: tuple[int, ...]) -> None:
    x = normal(*shape)
    expected = np.empty_like(x)
    columns = 6 // group
    for row, column in product(range(group), range(columns)):
        expected[:, column * group + row] = x[:, row * columns + column]
    one("ShuffleChannel", f"shuffle_channel_param {{ group: {group} }}", x).check_exactly("y0", expected)


def test_groups_must_divide_the_channels(refusal: Refusal) -> None:
    for group in (0, 4):
        message = refusal("ShuffleChannel", f"shuffle_channel_param {{ group: {group} }}", (2, 6, 2))
        assert f"group {group} on a bottom of shape 2x6x2: it must divide the channels" in message


def bilinear(x: np.ndarray, height: int, width: int) -> np.ndarray:
    """caffe_cpu_interp2, cell by cell."""
    *images, rows, columns = x.shape
    top = np.empty((*images, height, width))
    for h, w in product(range(height), range(width)):
        places = []
        for i, out, size in ((h, height, rows), (w, width, columns)):
            place = i * (size - 1) / (out - 1) if out > 1 else 0.0
            low = int(place)
            places.append((low, int(low < size - 1), place - low))
        (h1, hp, dh), (w1, wp, dw) = places
        top[..., h, w] = (1 - dh) * ((1 - dw) * x[..., h1, w1] + dw * x[..., h1, w1 + wp]) + dh * (
            (1 - dw) * x[..., h1 + hp, w1] + dw * x[..., h1 + hp, w1 + wp]
        )
    return top


SIZES = [
    ("height: 9 width: 7", (9, 7), (0, 0)),
    ("height: 1 width: 3", (1, 3), (0, 0)),
    ("height: 4 width: 5", (4, 5), (0, 0)),
    ("zoom_factor: 2", (7, 9), (0, 0)),
    ("shrink_factor: 2", (2, 3), (0, 0)),
    ("shrink_factor: 2 zoom_factor: 3", (4, 7), (0, 0)),
    ("zoom_factor: 8", (25, 33), (0, 0)),
    ("zoom_factor: 2 pad_beg: -1", (5, 7), (1, 0)),
    ("height: 6 width: 6 pad_beg: -1 pad_end: -2", (6, 6), (1, 2)),
]


@pytest.mark.parametrize(("params", "size", "crop"), SIZES)
def test_interp(one: One, params: str, size: tuple[int, int], crop: tuple[int, int]) -> None:
    begin, end = crop
    x = X[:, :, begin : 4 - end, begin : 5 - end].astype(np.float64)
    one("Interp", f"interp_param {{ {params} }}", X).check("y0", bilinear(x, *size))


def test_interp_to_the_size_of_another_bottom(one: One) -> None:
    one("Interp", "", X, normal(2, 1, 8, 3)).check("y0", bilinear(X.astype(np.float64), 8, 3))


def test_interp_of_one_cell(one: One) -> None:
    x = normal(2, 3, 1, 1)
    one("Interp", "interp_param { height: 3 width: 4 }", x).check("y0", np.broadcast_to(x, (2, 3, 3, 4)))


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ("", "neither height and width, nor zoom_factor, nor shrink_factor"),
        ("height: 3", "neither height and width"),
        ("zoom_factor: 0", "must be at least 1"),
        ("zoom_factor: 2 pad_beg: 1", "Interp only crops"),
        ("zoom_factor: 2 pad_beg: -3 pad_end: -1", "leave nothing of 4x5"),
    ],
)
def test_what_no_interp_can_be(refusal: Refusal, params: str, words: str) -> None:
    assert words in refusal("Interp", f"interp_param {{ {params} }}", (2, 3, 4, 5))


def test_interp_takes_one_size(refusal: Refusal) -> None:
    message = refusal("Interp", "interp_param { zoom_factor: 2 }", (2, 3, 4, 5), (2, 3, 8, 8))
    assert "the second bottom gives the size" in message
    assert "needs four axes" in refusal("Interp", "interp_param { zoom_factor: 2 }", (2, 3, 4))


@pytest.mark.parametrize(
    ("params", "height", "width"), [("", 2, 2), ("scale: 3", 3, 3), ("scale_h: 2 scale_w: 1", 2, 1)]
)
def test_upsample_repeats_cells(one: One, params: str, height: int, width: int) -> None:
    expected = np.empty((2, 6, 4 * height, 5 * width), np.float32)
    for h, w in np.ndindex(*expected.shape[2:]):
        expected[..., h, w] = X[..., h // height, w // width]
    one("Upsample", f"upsample_param {{ {params} }}", X).check_exactly("y0", expected)


def placed(x: np.ndarray, places: np.ndarray, height: int, width: int) -> np.ndarray:
    """Caffe's loop: later values overwrite earlier ones."""
    top = np.zeros((*x.shape[:2], height * width))
    for n, c in np.ndindex(*x.shape[:2]):
        for value, place in zip(x[n, c].ravel(), places[n, c].ravel(), strict=True):
            top[n, c, int(place)] = value
    return top.reshape(*x.shape[:2], height, width)


@pytest.mark.parametrize(
    ("params", "size"),
    [
        ("", (8, 10)),
        ("scale: 2 pad_out_h: true", (7, 10)),
        ("scale_h: 2 scale_w: 2 pad_out_w: true", (8, 9)),
        ("upsample_h: 9 upsample_w: 11", (9, 11)),
        ("scale: 2 upsample_h: 8 upsample_w: 11", (8, 11)),
    ],
)
def test_upsample_to_places(one: One, params: str, size: tuple[int, int]) -> None:
    random = np.random.default_rng(0)
    places = f32([random.permutation(size[0] * size[1])[:20] for _ in range(12)]).reshape(X.shape)
    one("Upsample", f"upsample_param {{ {params} }}", X, places).check_exactly("y0", placed(X, places, *size))


def test_upsample_undoes_a_pooling(tmp_path: Path) -> None:
    x = normal(2, 3, 6, 8)
    text = (
        'layer { name: "p" type: "Pooling" bottom: "x" top: "p" top: "m" pooling_param { kernel_size: 2 stride: 2 } }\n'
    )
    text += 'layer { name: "u" type: "Upsample" bottom: "p" bottom: "m" top: "u" upsample_param { scale: 2 } }\n'
    found = run(tmp_path, text, {"x": x})
    found.check_exactly("u", placed(found.exact["p"], found.exact["m"], 6, 8))


def test_what_no_upsample_can_be(refusal: Refusal) -> None:
    shape = (2, 3, 4, 5)
    assert "scale 0x0" in refusal("Upsample", "upsample_param { scale: 0 }", shape)
    assert "both scale and scale_h" in refusal("Upsample", "upsample_param { scale: 2 scale_h: 2 scale_w: 2 }", shape)
    assert "need the places as a second bottom" in refusal("Upsample", "upsample_param { pad_out_h: true }", shape)
    assert "places alike" in refusal("Upsample", "", shape, (2, 3, 4, 4))
    assert "places alike" in refusal("Upsample", "", (2, 3))
