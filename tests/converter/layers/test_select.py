from __future__ import annotations

import numpy as np
import pytest

from .running import One, Refusal, normal

X = normal(6, 4, 6, 5)


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_slice_at_points(one: One, axis: int) -> None:
    params = f"slice_param {{ axis: {axis} slice_point: 1 slice_point: 3 }}"
    found = one("Slice", params, X, tops=3)
    for blob, part in zip(("y0", "y1", "y2"), np.split(X, [1, 3], axis), strict=True):
        found.check_exactly(blob, part)


@pytest.mark.parametrize(("axis", "parts"), [(0, 3), (0, 1), (1, 2), (2, 6), (-1, 5), (1, 1)])
def test_slice_into_equal_parts(one: One, axis: int, parts: int) -> None:
    found = one("Slice", f"slice_param {{ axis: {axis} }}", X, tops=parts)
    for i, part in enumerate(np.split(X, parts, axis)):
        found.check_exactly(f"y{i}", part)


def test_slice_of_a_free_batch_leaves_the_rest_to_the_last_part(one: One) -> None:
    found = one("Slice", "slice_param { axis: 0 slice_point: 2 }", X, tops=2)
    assert found.graph.batched["y0"] == (2, 4, 6, 5)
    assert found.graph.batched["y1"] == (None, 4, 6, 5)


def test_slice_by_its_older_name(one: One) -> None:
    found = one("Slice", "slice_param { slice_dim: 2 slice_point: 4 }", X, tops=2)
    found.check_exactly("y0", X[:, :, :4])
    found.check_exactly("y1", X[:, :, 4:])


def test_what_no_slice_can_be(refusal: Refusal) -> None:
    def said(params: str, tops: int = 2) -> str:
        return refusal("Slice", f"slice_param {{ {params} }}", (2, 5), tops=tops)

    assert "both axis and slice_dim" in said("axis: 1 slice_dim: 1")
    assert "5 values along the axis of a 2x5 bottom, 2 equal parts" in said("")
    assert "1 slice_point for 3 tops" in said("slice_point: 1", tops=3)
    assert "each must be larger" in said("slice_point: 2 slice_point: 2", tops=3)
    assert "each must be larger" in said("slice_point: 0")
    assert "slice_point 5 along an axis of 5" in said("slice_point: 5")


@pytest.mark.parametrize(
    ("axis", "offset", "taken"),
    [
        (2, (), np.s_[:, :, :2, :3]),
        (2, (1,), np.s_[:, :, 1:3, 1:4]),
        (2, (1, 2), np.s_[:, :, 1:3, 2:5]),
        (1, (1, 0, 2), np.s_[:, 1:3, :2, 2:5]),
        (3, (2,), np.s_[:, :, :, 2:5]),
        (-2, (4, 0), np.s_[:, :, 4:6, :3]),
        (0, (0, 2, 3, 1), np.s_[:2, 2:4, 3:5, 1:4]),
        (0, (1,), np.s_[1:3, 1:3, 1:3, 1:4]),
    ],
)
def test_crop(one: One, axis: int, offset: tuple[int, ...], taken: tuple[slice, ...]) -> None:
    given = " ".join(f"offset: {value}" for value in offset)
    found = one("Crop", f"crop_param {{ axis: {axis} {given} }}", X, np.zeros((2, 2, 2, 3)))
    found.check_exactly("y0", X[taken])


def test_crop_of_the_batch_follows_the_second_bottom(one: One) -> None:
    found = one("Crop", "crop_param { axis: 0 }", X, np.zeros((6, 2, 2, 3)))
    assert found.graph.batched["y0"][0] is None
    found.check_exactly("y0", X[:, :2, :2, :3])


def test_what_no_crop_can_be(refusal: Refusal) -> None:
    def said(params: str, *shapes: tuple[int, ...]) -> str:
        return refusal("Crop", f"crop_param {{ {params} }}", *shapes)

    assert "no room for 5x2 at offset 0x0" in said("", (1, 1, 4, 4), (1, 1, 5, 2))
    assert "no room for 2x2 at offset 0x3, axis 2 on" in said("offset: 0 offset: 3", (1, 1, 4, 4), (1, 1, 2, 2))
    assert "3 offset for the 2 axes" in said("offset: 1 offset: 1 offset: 1", (1, 1, 4, 4), (1, 1, 2, 2))
    assert "the same number of axes" in said("", (1, 1, 4, 4), (1, 1, 2))


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
@pytest.mark.parametrize("tiles", [1, 3])
def test_tile_repeats_whole_blocks(one: One, axis: int, tiles: int) -> None:
    found = one("Tile", f"tile_param {{ axis: {axis} tiles: {tiles} }}", X)
    found.check_exactly("y0", np.concatenate([X] * tiles, axis))


def test_tile_needs_a_number(refusal: Refusal) -> None:
    assert "tile_param lacks tiles" in refusal("Tile", "", (2, 3))
    assert "tiles is 0" in refusal("Tile", "tile_param { tiles: 0 }", (2, 3))


def test_filter_is_refused(refusal: Refusal) -> None:
    assert "the shapes of its tops depend on the data" in refusal("Filter", "", (2, 3), (2,))
