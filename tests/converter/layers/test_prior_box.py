from __future__ import annotations

from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from .running import One, Refusal, layer, network, normal, run

FEATURES, IMAGE = normal(2, 3, 3, 4), normal(2, 3, 30, 50)


def priors(
    sizes: list[float],
    most: list[float],
    ratios: list[float],
    cells: tuple[int, int],
    image: tuple[int, int],
    steps: tuple[float, float] | None = None,
    offset: float = 0.5,
    clip: bool = False,
    variance: tuple[float, ...] = (0.1,),
) -> np.ndarray:
    """prior_box_layer.cpp, value by value; `ratios` with their inverses, without 1."""
    f = np.float32
    height, width = image
    step_h, step_w = (f(s) for s in steps) if steps else (f(height) / f(cells[0]), f(width) / f(cells[1]))
    values: list[float] = []
    for h in range(cells[0]):
        for w in range(cells[1]):
            x, y = f(f(w) + f(offset)) * step_w, f(f(h) + f(offset)) * step_h
            boxes: list[tuple[float, float]] = []
            for i, size in enumerate(sizes):
                side = int(size)
                boxes.append((side, side))
                if most:
                    boxes.append((sqrt(side * int(most[i])), sqrt(side * int(most[i]))))
                boxes += [(side * sqrt(f(r)), side / sqrt(f(r))) for r in ratios]
            for bw, bh in boxes:
                across, up = float(f(bw)) / 2, float(f(bh)) / 2
                values += [
                    (float(x) - across) / width,
                    (float(y) - up) / height,
                    (float(x) + across) / width,
                    (float(y) + up) / height,
                ]
    corners = np.asarray(values, f)
    if clip:
        corners = corners.clip(0, 1)
    spread = np.resize(np.asarray(variance, f), corners.size)
    return np.stack([corners, spread])[None]


THIRD = float(np.float32(1 / 3))
CASES: list[tuple[str, dict[str, Any]]] = [
    ("min_size: 10", {"sizes": [10], "most": [], "ratios": []}),
    ("min_size: 10 max_size: 21", {"sizes": [10], "most": [21], "ratios": []}),
    ("min_size: 35.84 max_size: 76.8", {"sizes": [35], "most": [76], "ratios": []}),
    ("min_size: 10 aspect_ratio: 2", {"sizes": [10], "most": [], "ratios": [2, 0.5]}),
    ("min_size: 10 aspect_ratio: 2 flip: false", {"sizes": [10], "most": [], "ratios": [2]}),
    ("min_size: 7 aspect_ratio: 1 aspect_ratio: 2 aspect_ratio: 2", {"sizes": [7], "most": [], "ratios": [2, 0.5]}),
    ("min_size: 7 aspect_ratio: 2 aspect_ratio: 0.5", {"sizes": [7], "most": [], "ratios": [2, 0.5]}),
    (
        "min_size: 4 min_size: 9 max_size: 9 max_size: 15 aspect_ratio: 3",
        {"sizes": [4, 9], "most": [9, 15], "ratios": [3, THIRD]},
    ),
    ("min_size: 25 clip: true", {"sizes": [25], "most": [], "ratios": [], "clip": True}),
    ("min_size: 9 variance: 0.3", {"sizes": [9], "most": [], "ratios": [], "variance": (0.3,)}),
    (
        "min_size: 9 variance: 0.1 variance: 0.1 variance: 0.2 variance: 0.4",
        {"sizes": [9], "most": [], "ratios": [], "variance": (0.1, 0.1, 0.2, 0.4)},
    ),
    ("min_size: 9 img_size: 64", {"sizes": [9], "most": [], "ratios": [], "image": (64, 64)}),
    ("min_size: 9 img_h: 20 img_w: 64", {"sizes": [9], "most": [], "ratios": [], "image": (20, 64)}),
    ("min_size: 9 step: 8", {"sizes": [9], "most": [], "ratios": [], "steps": (8, 8)}),
    ("min_size: 9 step_h: 7.5 step_w: 12", {"sizes": [9], "most": [], "ratios": [], "steps": (7.5, 12)}),
    ("min_size: 9 offset: 0", {"sizes": [9], "most": [], "ratios": [], "offset": 0.0}),
]


@pytest.mark.parametrize(("params", "given"), CASES)
def test_prior_box(one: One, params: str, given: dict[str, Any]) -> None:
    expected = priors(**{"cells": (3, 4), "image": (30, 50), **given})
    found = one("PriorBox", f"prior_box_param {{ {params} }}", FEATURES, IMAGE)
    found.check_exactly("y0", expected)
    assert expected.shape == found.graph.shapes["y0"]


def test_the_top_is_a_constant_whatever_the_batch(tmp_path: Path) -> None:
    params = "prior_box_param { min_size: 9 }"
    graph = network(tmp_path, layer("PriorBox", params, 2), {"x0": FEATURES, "x1": IMAGE}, {})
    assert graph.batched["y0"] == (1, 2, 48)
    assert graph.batched["x0"][0] is None


def test_priors_of_several_maps_are_joined(tmp_path: Path) -> None:
    params = "prior_box_param { min_size: 9 }"
    text = layer("PriorBox", params, 2)
    text += 'layer { name: "two" type: "PriorBox" bottom: "x1" bottom: "x1" top: "y1" ' + params + " }\n"
    text += 'layer { name: "all" type: "Concat" bottom: "y0" bottom: "y1" top: "y2" concat_param { axis: 2 } }\n'
    found = run(tmp_path, text, {"x0": FEATURES, "x1": IMAGE})
    parts = [priors([9], [], [], cells, (30, 50)) for cells in ((3, 4), (30, 50))]
    found.check_exactly("y2", np.concatenate(parts, 2))


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ("max_size: 3", "lacks min_size"),
        ("min_size: 4 max_size: 5 max_size: 6", "2 max_size for 1 min_size"),
        ("min_size: 4 max_size: 4", "max_size 4 is not above min_size 4"),
        ("min_size: 0", "min_size 0; it must be positive"),
        ("min_size: 4 aspect_ratio: -1", "aspect_ratio -1"),
        ("min_size: 4 variance: 0.1 variance: 0.2", "give one or four"),
        ("min_size: 4 img_size: 3 img_h: 4", "both img_size and img_h are given"),
        ("min_size: 4 img_h: 4", "only img_h is given; give both img_h and img_w, or img_size"),
        ("min_size: 4 step: 4 step_h: 3 step_w: 3", "both step and step_h, step_w are given"),
        ("min_size: 4 step: 0", "step is 0.0; it must be above 0"),
    ],
)
def test_what_no_prior_box_can_be(refusal: Refusal, params: str, words: str) -> None:
    assert words in refusal("PriorBox", f"prior_box_param {{ {params} }}", (1, 2, 3, 4), (1, 3, 30, 50))


def test_maps_have_four_axes(refusal: Refusal) -> None:
    message = refusal("PriorBox", "prior_box_param { min_size: 4 }", (1, 2, 3), (1, 3, 30, 50))
    assert "1x2x3 and 1x3x30x50; PriorBox takes (N, C, H, W)" in message
