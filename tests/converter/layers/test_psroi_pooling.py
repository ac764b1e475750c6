from __future__ import annotations

from math import ceil, floor
from pathlib import Path

import numpy as np
import pytest

from senet_convert.converter.export.onnx import export
from senet_convert.errors import ConvertError

from .running import BESIDE, SPOILT, One, Refusal, layer, network, normal

MAPS = normal(2, 3 * 9, 11, 13)


def away(x: float) -> int:
    return floor(x + 0.5) if x >= 0 else -floor(-x + 0.5)


def pooled(maps: np.ndarray, regions: np.ndarray, scale: float, dim: int, group: int) -> np.ndarray:
    """PSROIPoolingForward of R-FCN."""
    f = np.float32
    height, width = maps.shape[2:]
    top = np.zeros((len(regions), dim, group, group))
    for r, (number, x1, y1, x2, y2) in enumerate(regions):
        start_w, start_h = f(away(float(x1))) * f(scale), f(away(float(y1))) * f(scale)
        end_w, end_h = f(away(float(x2)) + 1.0) * f(scale), f(away(float(y2)) + 1.0) * f(scale)
        bin_h, bin_w = max(end_h - start_h, f(0.1)) / f(group), max(end_w - start_w, f(0.1)) / f(group)
        for d in range(dim):
            for ph in range(group):
                for pw in range(group):
                    hstart = min(max(floor(f(ph) * bin_h + start_h), 0), height)
                    wstart = min(max(floor(f(pw) * bin_w + start_w), 0), width)
                    hend = min(max(ceil(f(ph + 1) * bin_h + start_h), 0), height)
                    wend = min(max(ceil(f(pw + 1) * bin_w + start_w), 0), width)
                    if hend <= hstart or wend <= wstart:
                        continue
                    channel = (d * group + ph) * group + pw
                    cells = maps[int(number), channel, hstart:hend, wstart:wend].astype(np.float64)
                    top[r, d, ph, pw] = cells.sum() / ((hend - hstart) * (wend - wstart))
    return top


def regions(count: int, scale: float, seed: int) -> np.ndarray:
    """Inside, across the edges, beyond them, with crossed corners; on halves of pixels as well."""
    random = np.random.default_rng(seed)
    corners = random.uniform(-5, 17, (count, 4)) / scale
    corners[::3] = np.round(corners[::3] * 2) / 2
    corners[::2, 2:] = np.maximum(corners[::2, :2], corners[::2, 2:])
    return np.concatenate([random.integers(0, 2, (count, 1)), corners], 1).astype(np.float32)


@pytest.mark.parametrize("scale", [1.0, 0.0625, 0.3])
@pytest.mark.parametrize(("dim", "group"), [(3, 3), (27, 1)])
def test_psroi_pooling(one: One, scale: float, dim: int, group: int) -> None:
    boxes = regions(40, scale, seed=group)
    params = f"psroi_pooling_param {{ spatial_scale: {scale} output_dim: {dim} group_size: {group} }}"
    expected = pooled(MAPS, boxes, scale, dim, group)
    assert (expected == 0).any()
    assert (expected != 0).any()
    one("PSROIPooling", params, MAPS, boxes).check("y0", expected)


def test_regions_may_have_more_axes(one: One) -> None:
    boxes = regions(5, 1, 0)
    params = "psroi_pooling_param { spatial_scale: 1 output_dim: 3 group_size: 3 }"
    found = one("PSROIPooling", params, MAPS, boxes.reshape(5, 5, 1, 1))
    found.check("y0", pooled(MAPS, boxes, 1.0, 3, 3))


def test_values_that_would_spread_are_refused(tmp_path: Path) -> None:
    params = "psroi_pooling_param { spatial_scale: 1 output_dim: 3 group_size: 3 }"
    inputs = {"x0": MAPS, "x1": regions(5, 1, 0)}
    graph = network(tmp_path, BESIDE + layer("PSROIPooling", params, 2), inputs, {"spoilt": [SPOILT]})
    with pytest.raises(ConvertError, match="PSROIPooling in a network with weights that are NaN or infinite"):
        export(graph, 17)


@pytest.mark.parametrize(
    ("params", "shapes", "words"),
    [
        ("output_dim: 3 group_size: 3", ((1, 27, 3, 4), (5, 5)), "lacks spatial_scale"),
        ("spatial_scale: 1 output_dim: 0 group_size: 3", ((1, 27, 3, 4), (5, 5)), "both must be at least 1"),
        ("spatial_scale: 1 output_dim: 3 group_size: 3", ((1, 27, 3, 4), (5, 4)), "takes (N, C, H, W) and (R, 5)"),
        ("spatial_scale: 1 output_dim: 3 group_size: 2", ((1, 27, 3, 4), (5, 5)), "group_size 2 need 12"),
    ],
)
def test_what_no_psroi_pooling_can_be(
    refusal: Refusal, params: str, shapes: tuple[tuple[int, ...], ...], words: str
) -> None:
    assert words in refusal("PSROIPooling", f"psroi_pooling_param {{ {params} }}", *shapes)
