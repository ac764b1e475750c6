from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from .running import One, Refusal, f32, normal, run

SHAPE = (2, 3, 4, 5)
X, Y, Z = (normal(*SHAPE, seed=seed) for seed in range(3))


@pytest.mark.parametrize("factor_shape", [(2, 3), (2, 3, 1, 1)])
def test_axpy(one: One, factor_shape: tuple[int, ...]) -> None:
    a = normal(*factor_shape, seed=3)
    expected = np.empty(SHAPE)
    for n, c, h, w in np.ndindex(*SHAPE):
        expected[n, c, h, w] = float(a.reshape(2, 3)[n, c]) * X[n, c, h, w] + Y[n, c, h, w]
    one("Axpy", "", a, X, Y).check("y0", expected)


def test_axpy_of_other_ranks(one: One) -> None:
    a, x, y = normal(2, 3), normal(2, 3, seed=1), normal(2, 3, seed=2)
    one("Axpy", "", a, x, y).check("y0", a.astype(np.float64) * x + y)
    a, x, y = normal(2, 3), normal(2, 3, 4, seed=1), normal(2, 3, 4, seed=2)
    one("Axpy", "", a, x, y).check("y0", a[:, :, None].astype(np.float64) * x + y)


def test_axpy_refuses_what_does_not_fit(refusal: Refusal) -> None:
    assert "second and third bottom, of shapes 2x3x4x5 and 2x3x4x4" in refusal("Axpy", "", (2, 3), SHAPE, (2, 3, 4, 4))
    assert "first bottom has shape 2x4, the second 2x3x4x5" in refusal("Axpy", "", (2, 4), SHAPE, SHAPE)
    assert "first bottom has shape 2x3x4x1" in refusal("Axpy", "", (2, 3, 4, 1), SHAPE, SHAPE)


def along(x: np.ndarray, operand: np.ndarray, axis: int) -> np.ndarray:
    """The operand's value for every value of x, counted from `axis` on."""
    axis = axis % x.ndim if operand.ndim else 0
    full = np.empty(x.shape)
    for index in np.ndindex(*x.shape):
        full[index] = operand[index[axis : axis + operand.ndim]]
    return full


LEARNED = [(1, 1, (3,)), (2, 2, (4, 5)), (1, -1, (3, 4, 5)), (0, 2, (2, 3)), (-1, 1, (5,)), (1, 0, ()), (0, -1, SHAPE)]


@pytest.mark.parametrize(("axis", "num_axes", "shape"), LEARNED)
@pytest.mark.parametrize("bias", [False, True])
def test_scale(one: One, axis: int, num_axes: int, shape: tuple[int, ...], bias: bool) -> None:
    blobs = [normal(*shape, seed=seed).reshape(shape) for seed in range(1 + bias)]
    params = f"scale_param {{ axis: {axis} num_axes: {num_axes} bias_term: {str(bias).lower()} }}"
    found = one("Scale", params, X, blobs=blobs)
    expected = X * along(X, blobs[0], axis) + (along(X, blobs[1], axis) if bias else 0)
    found.check("y0", expected)
    assert found.graph.nodes[0].weights == ("layer/weight", "layer/bias")[: 1 + bias]


@pytest.mark.parametrize(
    ("axis", "shape"), [(0, (2, 3)), (1, (3,)), (2, (4, 5)), (-2, (4, 5)), (1, (3, 4, 5)), (0, SHAPE)]
)
@pytest.mark.parametrize("bias", [False, True])
def test_scale_by_a_bottom(one: One, axis: int, shape: tuple[int, ...], bias: bool) -> None:
    factor, blobs = normal(*shape), [normal(*shape, seed=1)] if bias else None
    found = one("Scale", f"scale_param {{ axis: {axis} bias_term: {str(bias).lower()} }}", X, factor, blobs=blobs)
    found.check("y0", X * along(X, factor, axis) + (along(X, blobs[0], axis) if blobs else 0))
    assert found.graph.nodes[0].weights == (("layer/bias",) if bias else ())


def test_scale_by_a_number(one: One) -> None:
    factor = np.asarray(np.float32(1.5))
    one("Scale", "scale_param { axis: 2 }", X, factor).check("y0", X * 1.5)
    found = one("Scale", "scale_param { axis: 2 bias_term: true }", X, factor, blobs=[np.asarray(np.float32(0.25))])
    found.check("y0", X * 1.5 + 0.25)


def test_a_number_needs_no_axis_but_its_bias_asks_for_one(one: One, refusal: Refusal) -> None:
    one("Scale", "scale_param { axis: 7 }", X, np.asarray(np.float32(1.5))).check("y0", X * 1.5)
    assert "axis 7 is out of range for a blob of 4 axes" in refusal(
        "Scale", "scale_param { axis: 7 bias_term: true }", SHAPE, ()
    )


@pytest.mark.parametrize(("axis", "num_axes", "shape"), LEARNED)
def test_bias(one: One, axis: int, num_axes: int, shape: tuple[int, ...]) -> None:
    bias = normal(*shape).reshape(shape)
    found = one("Bias", f"bias_param {{ axis: {axis} num_axes: {num_axes} }}", X, blobs=[bias])
    found.check("y0", X + along(X, bias, axis))
    assert found.graph.nodes[0].weights == ("layer/bias",)


def test_bias_by_a_bottom(one: One) -> None:
    for axis, shape in ((1, (3,)), (0, (2, 3)), (-1, (5,)), (2, ())):
        bias = normal(*shape).reshape(shape)
        one("Bias", f"bias_param {{ axis: {axis} }}", X, bias).check("y0", X + along(X, bias, axis))


@pytest.mark.parametrize("kind", ["Scale", "Bias"])
def test_nothing_is_broadcast(refusal: Refusal, kind: str) -> None:
    message = refusal(kind, f"{kind.lower()}_param {{ axis: 0 }}", SHAPE, (2, 3, 1, 1))
    assert "shape 2x3x1x1; from axis 0 on the first, 2x3x4x5, has 2x3x4x5. Caffe does not broadcast" in message
    assert "num_axes 3 from axis 2" in refusal(kind, f"{kind.lower()}_param {{ axis: 2 num_axes: 3 }}", SHAPE)
    assert "axis 4 is out of range" in refusal(kind, f"{kind.lower()}_param {{ axis: 4 }}", SHAPE)


def test_eltwise(one: One) -> None:
    x, y, z = (a.astype(np.float64) for a in (X, Y, Z))
    one("Eltwise", "", X, Y).check("y0", x + y)
    one("Eltwise", "", X, Y, Z).check("y0", x + y + z)
    found = one("Eltwise", "eltwise_param { operation: SUM coeff: 0.5 coeff: -1.25 coeff: 1 }", X, Y, Z)
    found.check("y0", 0.5 * x - 1.25 * y + z)
    one("Eltwise", "eltwise_param { operation: PROD stable_prod_grad: false }", X, Y, Z).check("y0", x * y * z)
    one("Eltwise", "eltwise_param { operation: MAX coeff: 3 coeff: 4 }", X, Y).check("y0", np.maximum(x, y))
    one("Eltwise", "eltwise_param { operation: MAX }", X, Y, Z).check("y0", np.maximum(np.maximum(x, y), z))


def test_eltwise_max_compares(unsound: One) -> None:
    """Of two values that do not compare as larger, the second of the first two stays, then the one from before."""
    rows = np.meshgrid(*[f32([np.nan, np.inf, -np.inf, 1])] * 3)
    a, b, c = (row.reshape(4, 16) for row in rows)
    top = np.where(a > b, a, b)
    unsound("Eltwise", "eltwise_param { operation: MAX }", a, b).check_exactly("y0", top)
    expected = np.where(c > top, c, top)
    unsound("Eltwise", "eltwise_param { operation: MAX }", a, b, c).check_exactly("y0", expected)


def test_eltwise_reads_a_blob_twice(tmp_path: Path) -> None:
    text = 'layer { name: "twice" type: "Eltwise" bottom: "x" bottom: "x" top: "y" }'
    run(tmp_path, text, {"x": X}).check("y", 2.0 * X)


def test_eltwise_refuses_what_does_not_fit(refusal: Refusal) -> None:
    assert "2x3 and 2x4; Eltwise needs one shape" in refusal("Eltwise", "", (2, 3), (2, 4))
    assert "2x3 and 1x3" in refusal("Eltwise", "", (2, 3), (1, 3))
    assert "1 coeff for 2 bottoms" in refusal("Eltwise", "eltwise_param { coeff: 1 }", (2, 3), (2, 3))
    params = "eltwise_param { operation: PROD coeff: 1 coeff: 1 }"
    assert "coeff is for operation: SUM" in refusal("Eltwise", params, (2, 3), (2, 3))
    assert "it has 1 bottoms, its type takes 2 or more" in refusal("Eltwise", "", (2, 3))


@pytest.mark.parametrize(
    "params", ["", "concat_param { axis: 2 }", "concat_param { axis: -1 }", "concat_param { axis: 0 }"]
)
def test_concat(one: One, params: str) -> None:
    axis = int(params.split()[3]) if params else 1
    shape = list(SHAPE)
    shape[axis] += 2
    other = normal(*shape, seed=5)
    one("Concat", params, X, other, Y).check_exactly("y0", np.concatenate([X, other, Y], axis))


def test_concat_by_its_older_name_and_of_one(one: One) -> None:
    one("Concat", "concat_param { concat_dim: 2 }", X, Y).check_exactly("y0", np.concatenate([X, Y], 2))
    one("Concat", "", X).check_exactly("y0", X)


def test_concat_refuses_what_does_not_fit(refusal: Refusal) -> None:
    assert "2x3x4 and 2x3x5 differ outside axis 1" in refusal("Concat", "", (2, 3, 4), (2, 3, 5))
    assert "2x3x4 and 2x3 differ" in refusal("Concat", "", (2, 3, 4), (2, 3))
    assert "both axis and concat_dim" in refusal("Concat", "concat_param { axis: 1 concat_dim: 1 }", (2, 3), (2, 3))


NOT_IN_PLACE = {
    "Eltwise": 'bottom: "z"',
    "Eltwise of MAX": 'bottom: "z" eltwise_param { operation: MAX }',
    "Concat": 'bottom: "z"',
    "Axpy": 'bottom: "z" bottom: "z"',
    "AbsVal": "",
    "LRN": "",
    "Flatten": "",
    "Tile": "tile_param { tiles: 2 }",
}


@pytest.mark.parametrize("name", NOT_IN_PLACE)
def test_what_has_no_form_in_place(tmp_path: Path, name: str) -> None:
    kind = name.split()[0]
    text = f'layer {{ name: "again" type: "{kind}" bottom: "x" top: "x" {NOT_IN_PLACE[name]} }}'
    with pytest.raises(Exception, match=f"layer 'again'.*layers of type {kind} cannot work in place"):
        run(tmp_path, text, {"x": X, "z": Z})


def test_a_product_in_place(tmp_path: Path) -> None:
    text = """
layer { name: "one" type: "Power" bottom: "x" top: "p" power_param { scale: 2 } }
layer { name: "again" type: "Eltwise" bottom: "p" bottom: "y" bottom: "z" top: "p" eltwise_param { operation: PROD } }
"""
    run(tmp_path, text, {"x": X, "y": Y, "z": Z}).check("p", 2.0 * X * Y * Z)
