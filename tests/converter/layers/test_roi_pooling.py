from __future__ import annotations

from math import ceil, floor
from pathlib import Path

import numpy as np
import pytest

from senet_convert.converter.export.onnx import export
from senet_convert.converter.layers.roi_pooling import LAST_OPSET
from senet_convert.errors import ConvertError

from . import running
from .running import One, Refusal, layer, network, normal

LOWEST = float(np.finfo(np.float32).min)
MAPS = normal(2, 3, 14, 18)


@pytest.fixture(autouse=True)
def opsets(monkeypatch: pytest.MonkeyPatch) -> None:
    """onnxruntime has the operator up to LAST_OPSET."""
    monkeypatch.setattr(running, "OPSETS_TRIED", (13, 17, 18, LAST_OPSET))


def away(x: float) -> int:
    return floor(x + 0.5) if x >= 0 else -floor(-x + 0.5)


def pooled(maps: np.ndarray, regions: np.ndarray, height: int, width: int, scale: float) -> np.ndarray:
    """ROIPoolingLayer::Forward_cpu."""
    f = np.float32
    top = np.zeros((len(regions), maps.shape[1], height, width))
    for r, (number, *corners) in enumerate(regions):
        x1, y1, x2, y2 = (away(float(f(c) * f(scale))) for c in corners)
        high, wide = max(y2 - y1 + 1, 1), max(x2 - x1 + 1, 1)
        bin_h, bin_w = f(high) / f(height), f(wide) / f(width)
        for ph in range(height):
            for pw in range(width):
                top_row, end_row = floor(f(ph) * bin_h), ceil(f(ph + 1) * bin_h)
                left, right = floor(f(pw) * bin_w), ceil(f(pw + 1) * bin_w)
                rows = range(min(max(top_row + y1, 0), maps.shape[2]), min(max(end_row + y1, 0), maps.shape[2]))
                columns = range(min(max(left + x1, 0), maps.shape[3]), min(max(right + x1, 0), maps.shape[3]))
                for c in range(maps.shape[1]):
                    cells = [maps[int(number), c, h, w] for h in rows for w in columns]
                    top[r, c, ph, pw] = max([LOWEST, *cells]) if cells else 0  # Python's max takes what is larger
    return top


def regions(count: int, scale: float, seed: int) -> np.ndarray:
    """Inside, across the edges, beyond them, with crossed corners; on halves of cells as well."""
    random = np.random.default_rng(seed)
    corners = random.uniform(-6, 22, (count, 4)) / scale
    corners[::3] = np.round(corners[::3] * scale * 2) / (2 * scale)
    corners[::2, 2:] = np.maximum(corners[::2, :2], corners[::2, 2:])
    return np.concatenate([random.integers(0, 2, (count, 1)), corners], 1).astype(np.float32)


@pytest.mark.parametrize("scale", [1.0, 0.0625, 0.125, 0.3])
@pytest.mark.parametrize("size", [(7, 7), (6, 3), (1, 1)])
def test_roi_pooling(one: One, scale: float, size: tuple[int, int]) -> None:
    boxes = regions(40, scale, seed=size[0])
    params = f"roi_pooling_param {{ pooled_h: {size[0]} pooled_w: {size[1]} spatial_scale: {scale} }}"
    expected = pooled(MAPS, boxes, *size, scale)
    one("ROIPooling", params, MAPS, boxes).check_exactly("y0", expected)


def test_only_what_is_larger_is_a_maximum(unsound: One) -> None:
    maps, boxes = MAPS.copy(), regions(20, 1, 0)
    maps[:, :, ::2, 3:9] = np.nan
    maps[:, 1, :, ::2] = -np.inf
    maps[0, 2] = np.nan
    expected = pooled(maps, boxes, 3, 3, 1.0)
    unsound("ROIPooling", "roi_pooling_param { pooled_h: 3 pooled_w: 3 }", maps, boxes).check_exactly("y0", expected)
    assert LOWEST in expected


def test_regions_may_have_more_axes(one: One) -> None:
    boxes = regions(5, 1, 0)
    found = one("ROIPooling", "roi_pooling_param { pooled_h: 2 pooled_w: 2 }", MAPS, boxes.reshape(5, 5, 1, 1))
    found.check_exactly("y0", pooled(MAPS, boxes, 2, 2, 1.0))


def test_opsets_without_the_operator_are_refused(tmp_path: Path) -> None:
    params = "roi_pooling_param { pooled_h: 2 pooled_w: 2 }"
    graph = network(tmp_path, layer("ROIPooling", params, 2), {"x0": MAPS, "x1": regions(5, 1, 0)}, {})
    with pytest.raises(ConvertError, match="from opset 22 on; choose --opset 21 or an older one"):
        export(graph, LAST_OPSET + 1)


@pytest.mark.parametrize(
    ("params", "shapes", "words"),
    [
        ("pooled_h: 2", ((1, 2, 3, 4), (5, 5)), "lacks pooled_w"),
        ("pooled_h: 0 pooled_w: 2", ((1, 2, 3, 4), (5, 5)), "both must be at least 1"),
        ("pooled_h: 2 pooled_w: 2", ((1, 2, 3, 4), (5, 4)), "ROIPooling takes (N, C, H, W) and (R, 5)"),
        ("pooled_h: 2 pooled_w: 2", ((1, 2, 3), (5, 5)), "1x2x3 and 5x5"),
    ],
)
def test_what_no_roi_pooling_can_be(
    refusal: Refusal, params: str, shapes: tuple[tuple[int, ...], ...], words: str
) -> None:
    assert words in refusal("ROIPooling", f"roi_pooling_param {{ {params} }}", *shapes)
