from __future__ import annotations

from itertools import product
from math import ceil
from pathlib import Path

import numpy as np
import pytest

from .running import PLAIN, One, Refusal, normal, run

LOWEST = -np.finfo(np.float32).max


def starts(
    size: int, kernel: int, stride: int, pad: int, mode: str, after: int | None = None, padded: bool = False
) -> list[int]:
    """Where the windows begin along one axis, by pooling_layer.cpp; `padded`: whether any axis has a pad."""
    span = (size + pad + (pad if after is None else after) - kernel) / stride
    out = (ceil(span) if mode == "CEIL" else int(np.floor(span))) + 1
    if (pad or after or padded) and (out - 1) * stride >= size + pad:
        out -= 1
    return [i * stride - pad for i in range(out)]


def pooled(
    x: np.ndarray,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    pad: tuple[int, int],
    mode: str = "CEIL",
    after: tuple[int, int] | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Maxima, where they stand, and averages, window by window; `after`: other pads behind the map."""
    *images, height, width = x.shape
    after = pad if after is None else after
    padded = any(pad + after)
    rows, columns = (
        starts(side, k, s, p, mode, end, padded)
        for side, k, s, p, end in zip((height, width), kernel, stride, pad, after, strict=True)
    )
    shape = (*images, len(rows), len(columns))
    best, mask, mean = np.full(shape, LOWEST, np.float64), np.full(shape, -1.0), np.zeros(shape)
    for i, j in product(range(len(rows)), range(len(columns))):
        # what padding adds counts for the divisor, what rounding adds does not
        bottom, right = min(rows[i] + kernel[0], height + after[0]), min(columns[j] + kernel[1], width + after[1])
        divisor = (bottom - rows[i]) * (right - columns[j])
        for h, w in product(range(max(rows[i], 0), min(bottom, height)), range(max(columns[j], 0), min(right, width))):
            value = x[..., h, w].astype(np.float64)
            mask[..., i, j] = np.where(value > best[..., i, j], h * width + w, mask[..., i, j])
            best[..., i, j] = np.where(value > best[..., i, j], value, best[..., i, j])
            with np.errstate(invalid="ignore"):
                mean[..., i, j] += value
        with np.errstate(invalid="ignore"):
            mean[..., i, j] = mean[..., i, j] / np.float64(divisor)
    return best, mask, mean


def possible(size: tuple[int, int], kernel: int, stride: int, pad: int, mode: str) -> bool:
    return pad < kernel and all(len(starts(side, kernel, stride, pad, mode)) for side in size)


SIZES = [(7, 10), (6, 6), (1, 5), (2, 9)]
KERNELS, STRIDES, PADS = (1, 2, 3, 5, 7), (1, 2, 3, 4), (0, 1, 2)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("mode", ["CEIL", "FLOOR"])
def test_windows_of_all_kinds(tmp_path: Path, size: tuple[int, int], mode: str) -> None:
    """Every kernel, stride and pad that Caffe takes: overhang, empty windows, kernels larger than the map."""
    x = normal(2, 2, *size)
    geometries = [g for g in product(KERNELS, STRIDES, PADS) if possible(size, *g, mode)]
    text = ""
    for kernel, stride, pad in geometries:
        shape = f"kernel_size: {kernel} stride: {stride} pad: {pad} round_mode: {mode}"
        for kind, tops in (("MAX", ("max", "mask")), ("AVE", ("ave",))):
            names = [f"{top}_{kernel}_{stride}_{pad}" for top in tops]
            text += f'layer {{ name: "{names[0]}" type: "Pooling" bottom: "x" '
            text += " ".join(f'top: "{name}"' for name in names) + f" pooling_param {{ pool: {kind} {shape} }} }}\n"
    found = run(tmp_path, text, {"x": x})
    empty = 0
    for kernel, stride, pad in geometries:
        best, mask, mean = pooled(x, (kernel, kernel), (stride, stride), (pad, pad), mode)
        end = f"_{kernel}_{stride}_{pad}"
        found.check_exactly(f"max{end}", best)
        found.check_exactly(f"mask{end}", mask)
        found.check(f"ave{end}", mean)
        empty += bool((mask == -1).any())
    assert empty > 0 or mode == "FLOOR"


@pytest.mark.parametrize("tops", [1, 2])
def test_sides_of_their_own(one: One, tops: int) -> None:
    x = normal(2, 3, 8, 9)
    sides = "kernel_h: 3 kernel_w: 4 stride_h: 2 stride_w: 3 pad_h: 1 pad_w: 2"
    best, mask, mean = pooled(x, (3, 4), (2, 3), (1, 2))
    found = one("Pooling", f"pooling_param {{ {sides} engine: CAFFE }}", x, tops=tops)
    found.check_exactly("y0", best)
    if tops == 2:
        found.check_exactly("y1", mask)
    one("Pooling", f"pooling_param {{ pool: AVE {sides} }}", x).check("y0", mean)


def test_global_pooling(one: One) -> None:
    x = normal(2, 3, 6, 5)
    best, mask, mean = pooled(x, (6, 5), (1, 1), (0, 0))
    one("Pooling", "pooling_param { global_pooling: true }", x).check_exactly("y0", best)
    one("Pooling", "pooling_param { pool: AVE global_pooling: true stride: 1 pad: 0 }", x).check("y0", mean)
    one("Pooling", "pooling_param { global_pooling: true }", x, tops=2).check_exactly("y1", mask)


def not_finite(*shape: int) -> np.ndarray:
    """Values with blocks of NaN and infinities among them."""
    x = normal(*shape)
    x[..., :3, :4] = np.nan
    x[..., 2:4, 3:6] = -np.inf
    x[..., 5, 5] = np.inf
    x[0, 1] = np.nan
    x[1, 1] = -np.inf
    return x


@pytest.mark.parametrize("tops", [1, 2])
@pytest.mark.parametrize(
    ("kernel", "stride", "pad"), [(2, 1, 0), (3, 2, 0), (3, 2, 1), (2, 2, 1), (1, 3, 0), (1, 4, 0)]
)
def test_only_what_is_larger_is_a_maximum(unsound: One, kernel: int, stride: int, pad: int, tops: int) -> None:
    """NaN and -inf leave -FLT_MAX, where Caffe starts."""
    x = not_finite(2, 3, 7, 9)
    best, mask, _ = pooled(x, (kernel,) * 2, (stride,) * 2, (pad,) * 2, "CEIL")
    params = f"pooling_param {{ kernel_size: {kernel} stride: {stride} pad: {pad} }}"
    found = unsound("Pooling", params, x, tops=tops)
    found.check_exactly("y0", best)
    if tops == 2:
        found.check_exactly("y1", mask)
    assert LOWEST in best
    assert not np.isnan(best).any()


@pytest.mark.parametrize("tops", [1, 2])
def test_only_what_is_larger_is_a_maximum_of_the_whole_map(unsound: One, tops: int) -> None:
    x = not_finite(2, 3, 7, 9)
    best, mask, _ = pooled(x, (7, 9), (1, 1), (0, 0), "CEIL")
    found = unsound("Pooling", "pooling_param { global_pooling: true }", x, tops=tops)
    found.check_exactly("y0", best)
    if tops == 2:
        found.check_exactly("y1", mask)
        assert set(mask[:, 1].ravel()) == {-1}


def test_only_what_is_larger_is_a_maximum_of_a_pyramid(unsound: One) -> None:
    x = not_finite(2, 3, 8, 8)
    parts = [pooled(x, (side, side), (side, side), (0, 0), "CEIL")[0].reshape(2, -1) for side in (8, 4)]
    unsound("SPP", "spp_param { pyramid_height: 2 }", x).check_exactly("y0", np.concatenate(parts, 1))


def test_the_first_of_equal_maxima_counts(one: One) -> None:
    x = np.random.default_rng(0).integers(0, 3, (2, 3, 7, 6)).astype(np.float32)
    params = "pooling_param { kernel_size: 3 stride: 2 pad: 1 }"
    best, mask, _ = pooled(x, (3, 3), (2, 2), (1, 1))
    found = one("Pooling", params, x, tops=2)
    found.check_exactly("y0", best)
    found.check_exactly("y1", mask)


@pytest.mark.parametrize(
    ("params", "kernel", "stride", "pad"),
    [
        ("kernel_h: 3 kernel_w: 1 stride: 2 pad_h: 1 pad_w: 0", (3, 1), (2, 2), (1, 0)),
        ("kernel_h: 1 kernel_w: 3 stride: 3 pad_h: 0 pad_w: 2", (1, 3), (3, 3), (0, 2)),
    ],
)
def test_a_pad_on_one_axis_drops_a_window_outside_on_the_other(
    one: One, params: str, kernel: tuple[int, int], stride: tuple[int, int], pad: tuple[int, int]
) -> None:
    x = normal(2, 3, 8, 8)
    best, mask, mean = pooled(x, kernel, stride, pad)
    assert best.shape[2:] != pooled(x, kernel, stride, (0, 0))[0].shape[2:]
    found = one("Pooling", f"pooling_param {{ {params} }}", x, tops=2)
    found.check_exactly("y0", best)
    found.check_exactly("y1", mask)
    one("Pooling", f"pooling_param {{ pool: AVE {params} }}", x).check("y0", mean)


@pytest.mark.parametrize(("ceil_mode", "mode"), [("true", "CEIL"), ("false", "FLOOR")])
@pytest.mark.parametrize("other", ["", "round_mode: FLOOR", "round_mode: CEIL"])
def test_ceil_mode_of_forks_overrules_round_mode(one: One, ceil_mode: str, mode: str, other: str) -> None:
    x = normal(2, 3, 8, 6)
    best = pooled(x, (3, 3), (2, 2), (0, 0), mode)[0]
    params = f"kernel_size: 3 stride: 2 ceil_mode: {ceil_mode} {other}"
    one("Pooling", f"pooling_param {{ {params} }}", x).check_exactly("y0", best)


@pytest.mark.parametrize("sides", [(1, 0, 0, 2), (0, 2, 1, 1), (0, 1, 0, 1), (2, 0, 2, 1), (1, 1, 1, 1), (0, 0, 0, 1)])
@pytest.mark.parametrize("mode", ["true", "false"])
@pytest.mark.parametrize("stride", [1, 2, 4])
def test_pads_for_each_side(one: One, sides: tuple[int, int, int, int], mode: str, stride: int) -> None:
    x = normal(2, 3, 7, 6)
    top, bottom, left, right = sides
    rounding = "CEIL" if mode == "true" else "FLOOR"
    best, mask, mean = pooled(x, (3, 3), (stride, stride), (top, left), rounding, (bottom, right))
    params = f"kernel_size: 3 stride: {stride} ceil_mode: {mode} " + " ".join(
        f"pad_{side}: {pad}" for side, pad in zip("tblr", sides, strict=True)
    )
    found = one("Pooling", f"pooling_param {{ {params} }}", x, tops=2)
    found.check_exactly("y0", best)
    found.check_exactly("y1", mask)
    one("Pooling", f"pooling_param {{ pool: AVE {params} }}", x).check("y0", mean)


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ("kernel_size: 2 pad_l: 2", "pad 2 with kernel 2"),
        ("kernel_size: 2 pad: 0 pad_l: 1", "for each side and in another way too"),
        ("global_pooling: true pad_b: 1", "global_pooling: true needs pad 0 and stride 1"),
        ("", "neither kernel_size, kernel_h and kernel_w, nor global_pooling"),
        ("kernel_size: 0", "kernel 0x0"),
        ("kernel_size: 2 stride: 0", "stride 0x0"),
        ("kernel_h: 2", "by both kernel_h and kernel_w"),
        ("kernel_size: 2 kernel_h: 2 kernel_w: 2", "by both kernel_h and kernel_w"),
        ("kernel_size: 2 pad: 2", "pad 2 with kernel 2"),
        ("global_pooling: true kernel_size: 3", "global_pooling: true together with a kernel size"),
        ("global_pooling: true pad: 1", "global_pooling: true needs pad 0 and stride 1"),
        ("global_pooling: true stride_h: 2 stride_w: 2", "global_pooling: true needs pad 0 and stride 1"),
        ("kernel_size: 2 stride: 2 stride_h: 1 stride_w: 1", "stride is given both as one value and as stride_h"),
        ("kernel_size: 2 stride: 2 stride_w: 2", "stride is given both as one value and as stride_h"),
        ("kernel_size: 2 stride_h: 2", "stride_h and stride_w need each other"),
        ("kernel_size: 2 pad: 0 pad_h: 1 pad_w: 1", "pad is given both as one value and as pad_h, pad_w"),
        ("kernel_size: 2 pad_w: 1", "pad_h and pad_w need each other"),
        ("global_pooling: true pad_h: 0", "pad_h and pad_w need each other"),
        ("pool: STOCHASTIC kernel_size: 2", "pool: STOCHASTIC is for training"),
        ("kernel_size: 9", "on a 5x5 map leaves no output"),
    ],
)
def test_what_no_pooling_can_be(refusal: Refusal, params: str, words: str) -> None:
    assert words in refusal("Pooling", f"pooling_param {{ {params} }}", (2, 3, 5, 5))


def test_pooling_needs_maps_and_its_tops(refusal: Refusal) -> None:
    assert "needs four axes" in refusal("Pooling", "pooling_param { kernel_size: 1 }", (2, 3, 5))
    message = refusal("Pooling", "pooling_param { pool: AVE kernel_size: 1 }", (2, 3, 5, 5), tops=2)
    assert "pool: AVE has one top only" in message
    assert "it has 3 tops, its type takes 1 to 2" in refusal("Pooling", "", (2, 3, 5, 5), tops=3)


@pytest.mark.parametrize("kind", ["MAX", "AVE"])
@pytest.mark.parametrize("size", [(8, 8), (7, 11), (10, 13), (4, 8)])
def test_spatial_pyramid(one: One, size: tuple[int, int], kind: str) -> None:
    x = normal(2, 3, *size)
    parts = []
    for bins in (1, 2, 4):
        kernel = [ceil(side / bins) for side in size]
        pad = [(k * bins - side + 1) // 2 for k, side in zip(kernel, size, strict=True)]
        best, _, mean = pooled(x, (kernel[0], kernel[1]), (kernel[0], kernel[1]), (pad[0], pad[1]))
        parts.append((best if kind == "MAX" else mean).reshape(2, -1))
    found = one("SPP", f"spp_param {{ pyramid_height: 3 pool: {kind} }}", x)
    found.check("y0", np.concatenate(parts, 1), plain=PLAIN if kind == "AVE" else 0)


def test_a_pyramid_of_one_level_stays_a_map(one: One) -> None:
    x = normal(2, 3, 5, 4)
    one("SPP", "spp_param { pyramid_height: 1 }", x).check_exactly("y0", x.max((2, 3), keepdims=True))


def test_what_no_pyramid_can_be(refusal: Refusal) -> None:
    assert "4x4 bins of a 3x3 map: pad 1 with kernel 1" in refusal(
        "SPP", "spp_param { pyramid_height: 3 }", (1, 2, 3, 3)
    )
    assert "pyramid_height is 0" in refusal("SPP", "spp_param { pyramid_height: 0 }", (1, 2, 3, 3))
    assert "spp_param lacks pyramid_height" in refusal("SPP", "", (1, 2, 3, 3))
    assert "needs four axes" in refusal("SPP", "spp_param { pyramid_height: 1 }", (1, 2, 3))
    assert "pool: STOCHASTIC" in refusal("SPP", "spp_param { pyramid_height: 1 pool: STOCHASTIC }", (1, 2, 3, 3))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("mode", ["CEIL", "FLOOR"])
def test_averages_over_the_map_alone(tmp_path: Path, size: tuple[int, int], mode: str) -> None:
    """AVE_EXC_PAD of Synopsys's fork: what padding adds counts for no divisor."""
    x = normal(2, 2, *size)
    geometries = [g for g in product(KERNELS, STRIDES, PADS) if possible(size, *g, mode)]
    text = ""
    for kernel, stride, pad in geometries:
        shape = f"kernel_size: {kernel} stride: {stride} pad: {pad} round_mode: {mode}"
        text += f'layer {{ name: "p{kernel}{stride}{pad}" type: "Pooling" bottom: "x" top: "p{kernel}{stride}{pad}" '
        text += f"pooling_param {{ pool: AVE_EXC_PAD {shape} }} }}\n"
    found = run(tmp_path, text, {"x": x})
    for kernel, stride, pad in geometries:
        rows, columns = (starts(side, kernel, stride, pad, mode) for side in size)
        expected = np.zeros((2, 2, len(rows), len(columns)))
        for i, j in np.ndindex(*expected.shape[2:]):
            top, left = max(rows[i], 0), max(columns[j], 0)
            bottom, right = min(rows[i] + kernel, size[0]), min(columns[j] + kernel, size[1])
            cells = x[..., top:bottom, left:right].sum((2, 3), dtype=np.float64)
            with np.errstate(invalid="ignore"):  # a window outside of the map has 0 cells, or fewer
                expected[..., i, j] = cells / np.float64((bottom - top) * (right - left))
        found.check(f"p{kernel}{stride}{pad}", expected)


def test_averages_over_the_map_alone_with_a_pad_for_each_side(one: One) -> None:
    x = normal(1, 2, 5, 6)
    params = "pooling_param { pool: AVE_EXC_PAD kernel_size: 3 stride: 2 pad_t: 0 pad_b: 1 pad_l: 2 pad_r: 1 }"
    expected = np.zeros((1, 2, 3, 4))
    for i, j in np.ndindex(3, 4):
        expected[..., i, j] = x[..., 2 * i : 2 * i + 3, max(2 * j - 2, 0) : 2 * j + 1].mean((2, 3), dtype=np.float64)
    one("Pooling", params, x).check("y0", expected)
