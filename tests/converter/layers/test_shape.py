from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from .running import One, Refusal, normal, run

X = normal(2, 3, 4, 5)

RESHAPES = [
    # wanted, axis, num_axes, result
    ((0, -1), 0, -1, (2, 60)),
    ((0, 0, -1), 0, -1, (2, 3, 20)),
    ((-1,), 0, -1, (120,)),
    ((3, 2, 20), 0, -1, (3, 2, 20)),
    ((-1, 3, 0, 0), 0, -1, (2, 3, 4, 5)),
    ((-1, 2), 1, 2, (2, 6, 2, 5)),
    ((6, -1), 1, -1, (2, 6, 10)),
    ((1,), 1, 0, (2, 1, 3, 4, 5)),
    ((1,), 0, 0, (1, 2, 3, 4, 5)),
    ((1, 1), -1, -1, (2, 3, 4, 5, 1, 1)),
    ((12, 5), -4, -1, (2, 12, 5)),
    ((0, 5, 1), 2, -1, (2, 3, 4, 5, 1)),
    ((-1, 6, 4, 5), 0, -1, (1, 6, 4, 5)),
    ((2, -1), 0, -1, (2, 60)),
]


@pytest.mark.parametrize(("wanted", "axis", "num_axes", "result"), RESHAPES)
def test_reshape(one: One, wanted: tuple[int, ...], axis: int, num_axes: int, result: tuple[int, ...]) -> None:
    dims = " ".join(f"dim: {dim}" for dim in wanted)
    found = one("Reshape", f"reshape_param {{ shape {{ {dims} }} axis: {axis} num_axes: {num_axes} }}", X)
    found.check_exactly("y0", X.reshape(result))


def test_reshape_of_no_axes_leaves_the_batch_free(one: One) -> None:
    found = one("Reshape", "reshape_param { num_axes: 0 }", X)
    found.check_exactly("y0", X)
    assert found.graph.batched["y0"] == (None, *X.shape[1:])


def test_what_no_reshape_can_be(refusal: Refusal) -> None:
    def said(params: str) -> str:
        return refusal("Reshape", f"reshape_param {{ {params} }}", (2, 3, 4))

    assert "a shape of 33 dimensions; Caffe has at most 32" in said("shape {" + " dim: 1" * 33 + " }")

    assert "a 2x3x4 bottom has 24 values, the wanted 5x5 has 25" in said("shape { dim: 5 dim: 5 }")
    assert "cannot be divided by 7" in said("shape { dim: 7 dim: -1 }")
    assert "one dimension may be -1" in said("shape { dim: -1 dim: -1 }")
    assert "none smaller" in said("shape { dim: -2 }")
    assert "axis 4 is out of range" in said("shape { dim: 0 } axis: 4")
    assert "num_axes 3 from axis 1 on goes beyond" in said("shape { dim: 0 } axis: 1 num_axes: 3")
    assert "dimension 1 is to be copied" in said("shape { dim: 12 dim: 0 } axis: 2 num_axes: 1")


@pytest.mark.parametrize(
    ("axis", "end", "result"),
    [
        (1, -1, (2, 60)),
        (2, -1, (2, 3, 20)),
        (1, 2, (2, 12, 5)),
        (0, -1, (120,)),
        (-3, -2, (2, 12, 5)),
        (0, 1, (6, 4, 5)),
    ],
)
def test_flatten(one: One, axis: int, end: int, result: tuple[int, ...]) -> None:
    one("Flatten", f"flatten_param {{ axis: {axis} end_axis: {end} }}", X).check_exactly("y0", X.reshape(result))


def test_flatten_of_rows(one: One) -> None:
    one("Flatten", "", X[:, :, 0, 0]).check_exactly("y0", X[:, :, 0, 0])


def test_what_no_flatten_can_be(refusal: Refusal) -> None:
    assert "axis 3 stands behind end_axis 1" in refusal(
        "Flatten", "flatten_param { axis: 3 end_axis: 1 }", (2, 3, 4, 5)
    )
    assert "end_axis 4 is out of range" in refusal("Flatten", "flatten_param { end_axis: 4 }", (2, 3, 4, 5))


ALIASES = {
    "Flatten": "",
    "Reshape": "reshape_param { shape { dim: 0 dim: -1 } }",
    "Concat": "",
    "Slice": "",
}


@pytest.mark.parametrize("kind", ALIASES)
def test_memory_that_is_shared_changes_with_its_other_name(tmp_path: Path, kind: str) -> None:
    """What is overwritten in place changes for all who read it later, and for nobody who read it before."""
    text = f"""
layer {{ name: "one" type: "Power" bottom: "x" top: "a" }}
layer {{ name: "two" type: "{kind}" bottom: "a" top: "b" {ALIASES[kind]} }}
layer {{ name: "before" type: "Power" bottom: "a" top: "early" power_param {{ scale: 2 }} }}
layer {{ name: "over" type: "ReLU" bottom: "b" top: "b" }}
layer {{ name: "after" type: "Power" bottom: "a" top: "late" power_param {{ scale: 2 }} }}
"""
    found = run(tmp_path, text, {"x": X})
    found.check_exactly("early", 2 * X)
    found.check_exactly("late", 2 * np.maximum(X, 0))
    found.check_exactly("a", np.maximum(X, 0))
    assert any("'over' overwrites 'b' in place" in warning for warning in found.graph.warnings)


def test_a_slice_in_parts_shares_nothing(tmp_path: Path) -> None:
    text = """
layer { name: "one" type: "Power" bottom: "x" top: "a" }
layer { name: "two" type: "Slice" bottom: "a" top: "b" top: "c" slice_param { slice_point: 1 } }
layer { name: "over" type: "ReLU" bottom: "b" top: "b" }
layer { name: "after" type: "Power" bottom: "a" top: "late" power_param { scale: 2 } }
"""
    found = run(tmp_path, text, {"x": X})
    found.check_exactly("late", 2 * X)
    found.check_exactly("b", np.maximum(X[:, :1], 0))
    assert not found.graph.warnings


def test_a_batch_in_another_axis_counts_as_fixed(tmp_path: Path) -> None:
    text = """
layer { name: "turn" type: "Reshape" bottom: "x" top: "y" reshape_param { shape { dim: 1 dim: 1 dim: -1 dim: 5 } } }
layer { name: "pool" type: "Pooling" bottom: "y" top: "z" pooling_param { kernel_size: 3 stride: 2 } }
"""
    assert run(tmp_path, text, {"x": X}).graph.batched["x"] == X.shape
