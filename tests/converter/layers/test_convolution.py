from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest

from .running import One, Refusal, normal, run

Sizes = tuple[int, ...]


def convolution(
    x: np.ndarray,
    weight: np.ndarray,
    stride: Sizes,
    pad: Sizes,
    dilation: Sizes,
    group: int = 1,
    after: Sizes | None = None,
) -> np.ndarray:
    """Cell by cell: every output is the sum of the products that its window covers; outside the map stands 0.

    `after`: other pads behind the map.
    """
    n, channels, *space = x.shape
    outputs, taken, *kernel = weight.shape
    # C++ divides integers towards zero
    out = [
        int((h + p + end - d * (k - 1) - 1) / s) + 1
        for h, p, end, d, k, s in zip(space, pad, after or pad, dilation, kernel, stride, strict=True)
    ]
    y = np.zeros((n, outputs, *out))
    for image, o, c in product(range(n), range(outputs), range(taken)):
        source = o // (outputs // group) * (channels // group) + c
        for place, cell in product(np.ndindex(*out), np.ndindex(*kernel)):
            at = tuple(i * s - p + j * d for i, s, p, j, d in zip(place, stride, pad, cell, dilation, strict=True))
            inside = all(0 <= a < size for a, size in zip(at, space, strict=True))
            y[(image, o, *place)] += float(x[(image, source, *at)] if inside else 0) * float(weight[(o, c, *cell)])
    return y


CASES = [
    # params, kernel, stride, pad, dilation, group
    ("kernel_size: 3 pad: 1", (3, 3), (1, 1), (1, 1), (1, 1), 1),
    ("kernel_size: 1", (1, 1), (1, 1), (0, 0), (1, 1), 1),
    ("kernel_size: 1 pad: 1 stride: 2", (1, 1), (2, 2), (1, 1), (1, 1), 1),
    ("kernel_h: 3 kernel_w: 2 stride_h: 2 stride_w: 1 pad_h: 1", (3, 2), (2, 1), (1, 0), (1, 1), 1),
    ("kernel_h: 1 kernel_w: 3 pad_w: 2 stride_h: 1 stride_w: 3", (1, 3), (1, 3), (0, 2), (1, 1), 1),
    ("kernel_size: 3 kernel_size: 2 pad: 1 pad: 0 stride: 2 stride: 1", (3, 2), (2, 1), (1, 0), (1, 1), 1),
    ("kernel_size: 3 dilation: 2 pad: 2", (3, 3), (1, 1), (2, 2), (2, 2), 1),
    ("kernel_size: 2 dilation: 1 dilation: 3 stride: 2", (2, 2), (2, 2), (0, 0), (1, 3), 1),
    ("kernel_size: 3 group: 2 pad: 1", (3, 3), (1, 1), (1, 1), (1, 1), 2),
    ("kernel_size: 2 group: 4 stride: 2 engine: CAFFE", (2, 2), (2, 2), (0, 0), (1, 1), 4),
    ("kernel_h: 7 kernel_w: 5", (7, 5), (1, 1), (0, 0), (1, 1), 1),
    ("kernel_size: 8 stride: 4 ", (8, 8), (4, 4), (0, 0), (1, 1), 1),  # beyond the map, one cell all the same
    ("kernel_h: 8 kernel_w: 3 stride: 2 pad_w: 1", (8, 3), (2, 2), (0, 1), (1, 1), 1),
]


@pytest.mark.parametrize(("params", "kernel", "stride", "pad", "dilation", "group"), CASES)
@pytest.mark.parametrize("bias", [False, True])
def test_convolution(
    one: One, params: str, kernel: Sizes, stride: Sizes, pad: Sizes, dilation: Sizes, group: int, bias: bool
) -> None:
    x, weight, shift = normal(2, 4, 7, 5), normal(4, 4 // group, *kernel, seed=1), normal(4, seed=2)
    text = f"convolution_param {{ num_output: 4 bias_term: {str(bias).lower()} {params} }}"
    found = one("Convolution", text, x, blobs=[weight, shift] if bias else [weight])
    expected = convolution(x, weight, stride, pad, dilation, group)
    found.check("y0", expected + shift.reshape(4, 1, 1) if bias else expected)
    (node,) = found.graph.nodes
    assert node.layer.macs([x.shape], [expected.shape]) == expected.size * (4 // group) * int(np.prod(kernel))


@pytest.mark.parametrize("sides", [(1, 0, 0, 2), (0, 2, 1, 1), (2, 0, 2, 1), (0, 0, 0, 1), (1, 1, 1, 1)])
@pytest.mark.parametrize("rest", ["", "stride: 2", "stride: 3 dilation: 2", "group: 2"])
def test_pads_for_each_side_of_forks(one: One, sides: Sizes, rest: str) -> None:
    x, group = normal(2, 4, 7, 6), 2 if "group" in rest else 1
    weight = normal(4, 4 // group, 3, 3, seed=1)
    top, bottom, left, right = sides
    pads = " ".join(f"pad_{side}: {pad}" for side, pad in zip("tblr", sides, strict=True))
    text = f"convolution_param {{ num_output: 4 bias_term: false kernel_size: 3 {pads} {rest} }}"
    stride = (int(rest.split()[1]),) * 2 if "stride" in rest else (1, 1)
    dilation = (2, 2) if "dilation" in rest else (1, 1)
    expected = convolution(x, weight, stride, (top, left), dilation, group, (bottom, right))
    one("Convolution", text, x, blobs=[weight]).check("y0", expected)


def test_pads_for_each_side_over_what_they_can_be(refusal: Refusal) -> None:
    param = "convolution_param { num_output: 2 kernel_size: 3"
    message = refusal("Convolution", f"{param} pad: 1 pad_t: 1 }}", (1, 2, 5, 5))
    assert "for each side and in another way too" in message
    assert "are for two spatial axes; here are 1" in refusal("Convolution", f"{param} pad_t: 1 }}", (1, 2, 5))
    for kind in ("Deconvolution", "Im2col"):
        assert "are for layers of type Convolution" in refusal(kind, f"{param} pad_t: 1 }}", (1, 2, 5, 5))


@pytest.mark.parametrize("space", [(9,), (4, 5, 3)])
def test_convolution_over_other_numbers_of_axes(one: One, space: Sizes) -> None:
    rank = len(space)
    x, weight = normal(2, 3, *space), normal(2, 3, *(2,) * rank, seed=1)
    text = "convolution_param { num_output: 2 kernel_size: 2 pad: 1 stride: 2 bias_term: false force_nd_im2col: true }"
    found = one("Convolution", text, x, blobs=[weight])
    found.check("y0", convolution(x, weight, (2,) * rank, (1,) * rank, (1,) * rank))


@pytest.mark.parametrize(("shape", "axis"), [((2, 6), 1), ((2, 3, 6), -1), ((6,), 0)])
@pytest.mark.parametrize("group", [1, 3])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("transposed", [False, True])
def test_convolution_over_no_axis(one: One, shape: Sizes, axis: int, group: int, bias: bool, transposed: bool) -> None:
    """Every output is the sum over the channels of its group; there is no map that kernel or pad could reach over."""
    x, shift = normal(*shape), normal(9, seed=2)
    weight = normal(6, 9 // group, seed=1) if transposed else normal(9, 6 // group, seed=1)
    expected = np.zeros((*shape[:-1], 9))
    for o, c in product(range(9), range(6)):
        if o // (9 // group) == c // (6 // group):
            factor = weight[c, o % (9 // group)] if transposed else weight[o, c % (6 // group)]
            expected[..., o] += x[..., c].astype(np.float64) * float(factor)
    params = f"num_output: 9 kernel_size: 3 pad: 1 stride: 2 group: {group} axis: {axis}"
    text = f"convolution_param {{ {params} bias_term: {str(bias).lower()} }}"
    blobs = [weight, shift] if bias else [weight]
    found = one("Deconvolution" if transposed else "Convolution", text, x, blobs=blobs)
    found.check("y0", expected + shift if bias else expected)


def test_a_weight_that_is_not_a_number_over_no_axis(one: One) -> None:
    x, weight = normal(2, 3), normal(4, 3, seed=1)
    weight[1, 0] = np.nan
    found = one("Convolution", "convolution_param { num_output: 4 kernel_size: 1 bias_term: false }", x, blobs=[weight])
    for values in (found.exact, found.plain, found.onnx):
        np.testing.assert_array_equal(np.isnan(values["y0"]), [[False, True, False, False]] * 2)


@pytest.mark.parametrize("axis", [0, 2, -2])
def test_channels_may_stand_elsewhere(one: One, axis: int) -> None:
    x = normal(2, 3, 4, 5)
    first = axis % 4
    weight = normal(2, x.shape[first], *(2,) * (3 - first), seed=1)
    text = f"convolution_param {{ num_output: 2 kernel_size: 2 bias_term: false axis: {axis} }}"
    found = one("Convolution", text, x, blobs=[weight])
    ones = (1,) * (3 - first)
    flat = convolution(x.reshape(-1, *x.shape[first:]), weight, ones, (0,) * (3 - first), ones)
    found.check("y0", flat.reshape(*x.shape[:first], *flat.shape[1:]))
    one("Deconvolution", text, x, blobs=[np.swapaxes(weight, 0, 1)])  # torch and ONNX agree on its shape


def test_several_bottoms_share_the_weights(one: One) -> None:
    a, b, weight = normal(2, 3, 5, 4), normal(2, 3, 5, 4, seed=1), normal(2, 3, 3, 3, seed=2)
    found = one(
        "Convolution",
        "convolution_param { num_output: 2 kernel_size: 3 bias_term: false }",
        a,
        b,
        blobs=[weight],
        tops=2,
    )
    for blob, x in (("y0", a), ("y1", b)):
        found.check(blob, convolution(x, weight, (1, 1), (0, 0), (1, 1)))


@pytest.mark.parametrize(("params", "kernel", "stride", "pad", "dilation", "group"), CASES)
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_weights_that_are_not_finite_meet_padding(
    one: One, params: str, kernel: Sizes, stride: Sizes, pad: Sizes, dilation: Sizes, group: int, value: float
) -> None:
    """Caffe multiplies them by its zeros."""
    x, weight = normal(2, 4, 7, 5), normal(4, 4 // group, *kernel, seed=1)
    weight[1, 0, 0, 0] = weight[2, -1, -1, -1] = value
    text = f"convolution_param {{ num_output: 4 bias_term: false {params} }}"
    expected = convolution(x, weight, stride, pad, dilation, group)
    one("Convolution", text, x, blobs=[weight]).check("y0", expected)


@pytest.mark.parametrize("space", [(6,), (3, 4, 5)])
def test_an_infinite_weight_meets_padding_over_other_numbers_of_axes(one: One, space: Sizes) -> None:
    rank = len(space)
    x, weight = normal(2, 3, *space), normal(2, 3, *(2,) * rank, seed=1)
    weight[(0, 1, *(0,) * rank)] = np.inf
    text = "convolution_param { num_output: 2 kernel_size: 2 pad: 1 stride: 2 bias_term: false }"
    expected = convolution(x, weight, (2,) * rank, (1,) * rank, (1,) * rank)
    assert np.isnan(expected).any()
    one("Convolution", text, x, blobs=[weight]).check("y0", expected)


def test_an_infinite_weight_meets_the_pads_of_each_side(one: One) -> None:
    x, weight = normal(2, 3, 5, 4), normal(2, 3, 3, 3, seed=1)
    weight[0, 1, 2, 0] = np.inf
    text = "convolution_param { num_output: 2 kernel_size: 3 pad_b: 2 pad_l: 1 bias_term: false }"
    expected = convolution(x, weight, (1, 1), (0, 1), (1, 1), after=(2, 0))
    assert np.isnan(expected).any()
    one("Convolution", text, x, blobs=[weight]).check("y0", expected)


def test_a_weight_that_is_not_a_number_spoils_its_whole_channel(tmp_path: Path) -> None:
    """Caffe multiplies padding with it too; runtimes skip padding."""
    x, weight = normal(2, 3, 5, 4), normal(3, 3, 3, 3, seed=1)
    weight[1, 0, 0, 0] = np.nan
    text = (
        'layer { name: "c" type: "Convolution" bottom: "x" top: "c" '
        "convolution_param { num_output: 3 kernel_size: 3 pad: 1 bias_term: false } }\n"
        'layer { name: "r" type: "ReLU" bottom: "c" top: "r" }'
    )
    found = run(tmp_path, text, {"x": x}, {"c": [weight]})
    for values in (found.exact, found.onnx):
        for blob in ("c", "r"):
            assert np.isnan(values[blob][:, 1]).all()
            assert np.isfinite(values[blob][:, [0, 2]]).all()


def deconvolution(
    x: np.ndarray, weight: np.ndarray, stride: Sizes, pad: Sizes, dilation: Sizes, group: int = 1
) -> np.ndarray:
    """Every input value spreads over the window that the convolution would have made it from."""
    n, channels, *space = x.shape
    _, given, *kernel = weight.shape
    out = [
        s * (h - 1) + d * (k - 1) + 1 - 2 * p
        for h, p, d, k, s in zip(space, pad, dilation, kernel, stride, strict=True)
    ]
    y = np.zeros((n, given * group, *out))
    for image, c, o in product(range(n), range(channels), range(given)):
        target = c // (channels // group) * given + o
        for place, cell in product(np.ndindex(*space), np.ndindex(*kernel)):
            at = tuple(i * s - p + j * d for i, s, p, j, d in zip(place, stride, pad, cell, dilation, strict=True))
            if all(0 <= a < size for a, size in zip(at, out, strict=True)):
                y[(image, target, *at)] += float(x[(image, c, *place)]) * float(weight[(c, o, *cell)])
    return y


DECONVOLUTIONS = [
    ("kernel_size: 3", (3, 3), (1, 1), (0, 0), (1, 1), 1),
    ("kernel_size: 4 stride: 2 pad: 1", (4, 4), (2, 2), (1, 1), (1, 1), 1),
    ("kernel_size: 4 stride: 2 pad: 1 group: 4", (4, 4), (2, 2), (1, 1), (1, 1), 4),
    ("kernel_size: 3 stride: 2 group: 2", (3, 3), (2, 2), (0, 0), (1, 1), 2),
    ("kernel_h: 3 kernel_w: 2 stride_h: 2 stride_w: 3 pad_h: 1", (3, 2), (2, 3), (1, 0), (1, 1), 1),
    ("kernel_size: 3 dilation: 2 pad: 1", (3, 3), (1, 1), (1, 1), (2, 2), 1),
    ("kernel_size: 1 stride: 3", (1, 1), (3, 3), (0, 0), (1, 1), 1),
    ("kernel_size: 2 dilation: 3 stride: 2 group: 2 pad: 1", (2, 2), (2, 2), (1, 1), (3, 3), 2),
]


@pytest.mark.parametrize(("params", "kernel", "stride", "pad", "dilation", "group"), DECONVOLUTIONS)
@pytest.mark.parametrize("bias", [False, True])
def test_deconvolution(
    one: One, params: str, kernel: Sizes, stride: Sizes, pad: Sizes, dilation: Sizes, group: int, bias: bool
) -> None:
    x, weight, shift = normal(2, 4, 4, 3), normal(4, 4 // group, *kernel, seed=1), normal(4, seed=2)
    text = f"convolution_param {{ num_output: 4 bias_term: {str(bias).lower()} {params} }}"
    found = one("Deconvolution", text, x, blobs=[weight, shift] if bias else [weight])
    expected = deconvolution(x, weight, stride, pad, dilation, group)
    found.check("y0", expected + shift.reshape(4, 1, 1) if bias else expected)
    (node,) = found.graph.nodes
    assert node.layer.macs([x.shape], [expected.shape]) == x.size * (4 // group) * int(np.prod(kernel))


@pytest.mark.parametrize("space", [(6,), (3, 2, 4)])
def test_deconvolution_over_other_numbers_of_axes(one: One, space: Sizes) -> None:
    rank = len(space)
    x, weight = normal(2, 2, *space), normal(2, 3, *(3,) * rank, seed=1)
    text = "convolution_param { num_output: 3 kernel_size: 3 pad: 1 stride: 2 bias_term: false }"
    found = one("Deconvolution", text, x, blobs=[weight])
    found.check("y0", deconvolution(x, weight, (2,) * rank, (1,) * rank, (1,) * rank))


def test_several_bottoms_of_a_deconvolution(one: One) -> None:
    a, b, weight = normal(2, 3, 2, 3), normal(2, 3, 2, 3, seed=1), normal(3, 2, 2, 2, seed=2)
    text = "convolution_param { num_output: 2 kernel_size: 2 stride: 2 bias_term: false }"
    found = one("Deconvolution", text, a, b, blobs=[weight], tops=2)
    for blob, x in (("y0", a), ("y1", b)):
        found.check(blob, deconvolution(x, weight, (2, 2), (0, 0), (1, 1)))


@pytest.mark.parametrize(
    ("params", "kernel", "stride", "pad", "dilation"),
    [
        ("kernel_size: 2", (2, 2), (1, 1), (0, 0), (1, 1)),
        ("kernel_size: 3 pad: 1 stride: 2 num_output: 5 bias_term: true", (3, 3), (2, 2), (1, 1), (1, 1)),
        ("kernel_h: 2 kernel_w: 3 dilation: 2 pad_h: 3", (2, 3), (1, 1), (3, 0), (2, 2)),
        ("kernel_size: 8 stride: 4", (8, 8), (4, 4), (0, 0), (1, 1)),
    ],
)
def test_im2col(one: One, params: str, kernel: Sizes, stride: Sizes, pad: Sizes, dilation: Sizes) -> None:
    """A convolution whose weights pick one cell each; but it moves values, so that infinities stay where they are."""
    x = normal(2, 3, 7, 5)
    picks = np.eye(3 * kernel[0] * kernel[1], dtype=np.float32).reshape(-1, 3, *kernel)
    expected = convolution(x, picks, stride, pad, dilation)
    one("Im2col", f"convolution_param {{ {params} }}", x).check_exactly("y0", expected.astype(np.float32))
    x[0, 0, 0, 0] = np.inf
    found = one("Im2col", f"convolution_param {{ {params} }}", x)
    assert not np.isnan(found.onnx["y0"]).any()
    np.testing.assert_array_equal(found.onnx["y0"], found.exact["y0"])


def test_im2col_over_one_and_three_axes(one: One) -> None:
    for space in ((6,), (3, 4, 2)):
        rank = len(space)
        x = normal(2, 2, *space)
        picks = np.eye(2 * 2**rank, dtype=np.float32).reshape(-1, 2, *(2,) * rank)
        expected = convolution(x, picks, (1,) * rank, (1,) * rank, (1,) * rank)
        found = one("Im2col", "convolution_param { kernel_size: 2 pad: 1 }", x)
        found.check_exactly("y0", expected.astype(np.float32))


def test_im2col_over_four_axes(one: One) -> None:
    """Caffe has no limit, and neither has what only moves values."""
    x = normal(2, 2, 2, 3, 2, 3)
    picks = np.eye(2 * 2**4, dtype=np.float32).reshape(-1, 2, *(2,) * 4)
    expected = convolution(x, picks, (1,) * 4, (0,) * 4, (1,) * 4)
    one("Im2col", "convolution_param { kernel_size: 2 }", x).check_exactly("y0", expected.astype(np.float32))


def test_im2col_of_channels_in_the_first_axis(one: One) -> None:
    """The first axis counts as the batch, for all that the layers say; a larger one gives a larger top."""
    x = normal(2, 4, 3, 2)
    picks = np.eye(2 * 8, dtype=np.float32).reshape(-1, 2, 2, 2, 2)
    expected = convolution(x[None], picks, (1,) * 3, (0,) * 3, (1,) * 3)[0]
    found = one("Im2col", "convolution_param { kernel_size: 2 axis: 0 }", x)
    found.check_exactly("y0", expected.astype(np.float32))
    assert found.graph.batched["y0"] == (None, *expected.shape[1:])


def test_im2col_needs_a_map(refusal: Refusal) -> None:
    message = refusal("Im2col", "convolution_param { kernel_size: 1 }", (2, 4))
    assert "has no spatial axes after axis 1" in message


@pytest.mark.parametrize("kind", ["Convolution", "Deconvolution"])
def test_what_no_convolution_can_be(refusal: Refusal, kind: str) -> None:
    def said(params: str, *shapes: Sizes, tops: int = 1) -> str:
        return refusal(kind, f"convolution_param {{ {params} }}", *(shapes or ((2, 4, 5, 5),)), tops=tops)

    assert "convolution_param lacks num_output" in said("kernel_size: 3")
    assert "num_output is 0" in said("num_output: 0 kernel_size: 3")
    assert "num_output 3 is not divisible by group 2" in said("num_output: 3 group: 2 kernel_size: 3")
    assert "4 input channels are not divisible by group 3" in said("num_output: 3 group: 3 kernel_size: 3")
    assert "kernel 0x0" in said("num_output: 3 kernel_size: 0")
    assert "kernel is given both as one value and as kernel_h" in said(
        "num_output: 3 kernel_size: 1 kernel_h: 1 kernel_w: 1"
    )
    assert "kernel_h and kernel_w need each other" in said("num_output: 3 kernel_h: 1")
    assert "3 values of stride for 2 spatial axes" in said("num_output: 1 kernel_size: 1 stride: 1 stride: 1 stride: 1")
    assert "no kernel is given: kernel_size, or kernel_h and kernel_w" in said("num_output: 1")
    assert "bottoms that share weights need one shape" in said(
        "num_output: 1 kernel_size: 1", (2, 4, 5, 5), (2, 4, 5, 6), tops=2
    )
    assert "2 bottoms give 2 tops, not 1" in said("num_output: 1 kernel_size: 1", (2, 4, 5, 5), (2, 4, 5, 5))
    assert "2 values of kernel for 0 spatial axes" in said("num_output: 1 kernel_size: 1 kernel_size: 1", (2, 4))
    message = said("num_output: 1 kernel_size: 1", (1, 2, 3, 3, 3, 3))
    assert "shape 1x2x3x3x3x3 has 4 spatial axes; at most 3 can be converted" in message
    for side in ("h", "w"):
        message = said(f"num_output: 1 kernel_size: 3 stride_{side}: 2")
        assert "stride_h and stride_w need each other: Caffe takes 0 for the one that is not given" in message
    assert "pad_h and pad_w are for two spatial axes; here are 1" in said(
        "num_output: 1 kernel_size: 1 pad_h: 1", (2, 4, 5)
    )


def test_a_map_that_is_too_small(refusal: Refusal) -> None:
    message = refusal("Convolution", "convolution_param { num_output: 1 kernel_size: 7 }", (2, 4, 5, 9))
    assert "on a 5x9 map leaves -1x3: the map is too small" in message
    message = refusal("Deconvolution", "convolution_param { num_output: 1 kernel_size: 2 pad: 3 }", (2, 4, 5, 5))
    assert "leaves 0x0" in message


@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1])
def test_inner_product(one: One, axis: int, bias: bool, transpose: bool) -> None:
    x = normal(2, 3, 4, 2)
    rows = x.reshape(*x.shape[: axis % 4], -1)
    weight, shift = normal(5, rows.shape[-1], seed=1), normal(5, seed=2)
    expected = np.empty((*rows.shape[:-1], 5))
    for row, o in product(np.ndindex(*rows.shape[:-1]), range(5)):
        expected[(*row, o)] = sum(float(a) * float(b) for a, b in zip(rows[row], weight[o], strict=True))
    flags = f"bias_term: {str(bias).lower()} transpose: {str(transpose).lower()}"
    blobs = [weight.T if transpose else weight, *([shift] if bias else [])]
    found = one("InnerProduct", f"inner_product_param {{ num_output: 5 axis: {axis} {flags} }}", x, blobs=blobs)
    found.check("y0", expected + shift if bias else expected)
    (node,) = found.graph.nodes
    assert node.layer.macs([x.shape], [expected.shape]) == expected.size * rows.shape[-1]


def test_inner_product_of_rows(one: One) -> None:
    x, weight = normal(3, 7), normal(2, 7, seed=1)
    found = one("InnerProduct", "inner_product_param { num_output: 2 bias_term: false }", x, blobs=[weight])
    found.check("y0", x.astype(np.float64) @ weight.T)


@pytest.mark.parametrize("transpose", ["", "transpose: true"])
def test_an_inner_product_has_outputs(refusal: Refusal, transpose: str) -> None:
    params = f"inner_product_param {{ num_output: 0 {transpose} }}"
    assert "num_output is 0; it must be at least 1" in refusal("InnerProduct", params, (2, 3))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("shape", "axis"), [((3, 5), 1), ((2, 3, 2, 2), 1), ((2, 3, 5), 2)])
def test_inner_product_with_rows_of_length_1(one: One, shape: tuple[int, ...], axis: int, bias: bool) -> None:
    """The loop of ArcFace's Caffe: each row over the root of its squares' sum and 1e-6."""
    x = normal(*shape)
    k = int(np.prod(shape[axis:]))
    weight, shift = normal(4, k, seed=1), normal(4, seed=2)
    weight[1] *= np.float32(1e-3)  # 1e-6 counts here
    weight[2] = 0
    flat = x.reshape(*shape[:axis], k).astype(np.float64)
    expected = np.zeros((*shape[:axis], 4))
    for n, row in enumerate(weight.astype(np.float64)):
        expected[..., n] = flat @ (row / (row @ row + 1e-6) ** 0.5) + (shift[n] if bias else 0)
    params = f"num_output: 4 axis: {axis} normalize: true bias_term: {str(bias).lower()}"
    found = one("InnerProduct", f"inner_product_param {{ {params} }}", x, blobs=[weight, shift][: 1 + bias])
    found.check("y0", expected)
    np.testing.assert_array_equal(found.graph.accounts.arrays["layer/weight"], weight)


def test_inner_product_normalises_rows_only(refusal: Refusal) -> None:
    message = refusal("InnerProduct", "inner_product_param { num_output: 4 normalize: true transpose: true }", (2, 3))
    assert "normalize with transpose" in message
