"""Blocks are found by what they compute; what only looks like one is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from senet_convert.deploy.serve.gates import excitation
from senet_convert.deploy.serve.gates.excitation import Block
from senet_convert.errors import ConvertError

CONVOLUTIONS = "d = Conv(p, w1)  r = Relu(d)  u = Conv(r, w2)"


def model(body: str, opset: int = 18) -> onnx.ModelProto:
    """A graph x -> y of maps (N, 4, 8, 8); w1 and w2 are 1x1 convolutions, m1 and m2 matrices."""
    found = parser.parse_model(
        f'<ir_version: 10, opset_import: ["": {opset}]> g (float[N, 4, 8, 8] x, float[N, 4, 8, 8] z) '
        f"=> (float[N, 4, 8, 8] y) {{ {body} }}"
    )
    shapes = {"w1": (2, 4, 1, 1), "w2": (4, 2, 1, 1), "m1": (4, 2), "m2": (2, 4), "w3": (1, 4, 1, 1)}
    weights = {name: np.ones(shape, np.float32) for name, shape in shapes.items()}
    numbers = {"axes": np.array([2, 3]), "last": np.array([-1]), "four": np.array([0, 4, 1, 1]), "one": np.float32(1)}
    for name, value in {**weights, **numbers, "zero": np.uint8(0)}.items():
        found.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    return found


@pytest.mark.parametrize(
    "body",
    [
        f"p = GlobalAveragePool(x) {CONVOLUTIONS} g = Sigmoid(u) y = Mul(x, g)",
        f"p = GlobalAveragePool(x) {CONVOLUTIONS} g = HardSigmoid(u) y = Mul(g, x)",
        f"p = AveragePool <kernel_shape = [8, 8]> (x) {CONVOLUTIONS} g = Sigmoid(u) y = Mul(x, g)",
        f"p = ReduceMean <keepdims = 1> (x, axes) {CONVOLUTIONS} g = Sigmoid(u) y = Mul(x, g)",
        f"a = GlobalAveragePool(x) b = GlobalMaxPool(x) p = Add(a, b) {CONVOLUTIONS} g = Sigmoid(u) y = Mul(x, g)",
        "p = ReduceMean <keepdims = 0> (x, axes) d = MatMul(p, m1) r = Relu(d) u = MatMul(r, m2) g = Sigmoid(u) "
        "e = Unsqueeze(g, axes) y = Mul(x, e)",
        "p = GlobalAveragePool(x) f = Flatten(p) d = Gemm(f, m1) r = Relu(d) u = Gemm(r, m2) g = Sigmoid(u) "
        "e = Reshape(g, four) y = Mul(e, x)",
        f"q = QuantizeLinear(x, one, zero) i = DequantizeLinear(q, one, zero) p = GlobalAveragePool(i) {CONVOLUTIONS} "
        "g = Sigmoid(u) h = QuantizeLinear(g, one, zero) e = DequantizeLinear(h, one, zero) y = Mul(i, e)",
    ],
)
def test_blocks_in_all_their_forms(body: str) -> None:
    (block,) = excitation.find(model(body))
    assert (block.gate, block.channels, block.size) == ("g", 4, (8, 8))


def test_the_axes_of_a_reduction_may_be_an_attribute() -> None:
    body = f"p = ReduceMean <axes = [-1, -2], keepdims = 1> (x) {CONVOLUTIONS} g = Sigmoid(u) y = Mul(x, g)"
    assert len(excitation.find(model(body, opset=17))) == 1


@pytest.mark.parametrize(
    "body",
    [
        "g = Sigmoid(x) y = Mul(x, g)",  # swish
        "s = Conv(x, w3) g = Sigmoid(s) y = Mul(x, g)",  # attention in space
        f"p = GlobalAveragePool(z) {CONVOLUTIONS} g = Sigmoid(u) y = Mul(x, g)",  # of another map
        f"a = GlobalAveragePool(x) p = Add(a, z) {CONVOLUTIONS} g = Sigmoid(u) y = Mul(x, g)",  # not of x alone
        f"p = GlobalAveragePool(x) {CONVOLUTIONS} g = Relu(u) y = Mul(x, g)",  # no gate
        f"p = AveragePool <kernel_shape = [4, 4]> (x) {CONVOLUTIONS} g = Sigmoid(u) y = Mul(x, g)",  # not global
        f"p = ReduceMean <keepdims = 1> (x, last) {CONVOLUTIONS} g = Sigmoid(u) y = Mul(x, g)",
        "g = Sigmoid(one) y = Mul(x, g)",  # constant
        f"p = GlobalAveragePool(x) {CONVOLUTIONS} g = Sigmoid(u) y = Add(x, g)",
    ],
)
def test_what_only_looks_like_a_block(body: str) -> None:
    assert excitation.find(model(body)) == ()


def test_the_demo_has_five(bundle: Path) -> None:
    found = excitation.blocks(bundle / "model.onnx")
    assert found[0] == Block("conv2_1", "conv2_1_1x1_up", 32, (8, 8))
    assert [(block.channels, block.size) for block in found[1:]] == [(64, (4, 4))] * 2 + [(96, (2, 2))] * 2


def test_a_broken_file_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"nonsense")
    with pytest.raises(ConvertError, match=r"x\.onnx: cannot be read"):
        excitation.blocks(tmp_path / "x.onnx")
