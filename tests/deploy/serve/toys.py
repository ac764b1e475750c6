"""Small models for the server's tests."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx
from onnx import TensorProto, helper

from senet_convert.deploy.serve.models.served import DATATYPES, FREE, Served, Spec

Values = Sequence[onnx.ValueInfoProto]

_TYPES = {
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "INT8": TensorProto.INT8,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
}


def served(*inputs: Spec, batched: bool = True, max_batch: int = 1000) -> Served:
    """A model that is not there: what requests are held against."""
    outputs = (Spec("y", "FP32", (FREE, 3)),)
    return Served("toy", "1", Path("toy.onnx"), (), inputs, outputs, batched, max_batch, None, "no pictures")


def echo(file: Path) -> Path:
    """A model that gives back what it takes: for each datatype an input `in_FP32` and an output `out_FP32`."""
    nodes = [helper.make_node("Identity", [f"in_{name}"], [f"out_{name}"]) for name in DATATYPES]
    return _write(file, nodes, _values("in", ["n", "k"]), _values("out", ["n", "k"]))


def root(file: Path) -> Path:
    """y = sqrt(x) of shape [2, k], not batched: NaN below zero."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, "k"]) for name in ("x", "y"))
    return _write(file, [helper.make_node("Sqrt", ["x"], ["y"])], [x], [y])


def plus(file: Path, constant: float, shape: Sequence[int | str] = ("n", 3), kind: int = TensorProto.FLOAT) -> Path:
    """y = x + constant: versions of it are told apart by their answers."""
    x, y = (helper.make_tensor_value_info(name, kind, list(shape)) for name in ("x", "y"))
    return _write(file, [_constant("c", constant, kind), helper.make_node("Add", ["x", "c"], ["y"])], [x], [y])


def total(file: Path) -> Path:
    """y = a + 10 b, of two inputs with a batch."""
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2]) for name in ("a", "b")]
    nodes = [
        _constant("c", 10, TensorProto.FLOAT),
        helper.make_node("Mul", ["b", "c"], ["d"]),
        helper.make_node("Add", ["a", "d"], ["y"]),
    ]
    return _write(file, nodes, inputs, [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])])


def scores(file: Path, kind: int = TensorProto.FLOAT, labels: Sequence[str] = ()) -> Path:
    """y = x, four values for each item: a classifier's output, with class names."""
    x, y = (helper.make_tensor_value_info(name, kind, ["n", 4]) for name in ("x", "y"))
    metadata = {"labels": json.dumps(list(labels))} if labels else {}
    return _write(file, [helper.make_node("Identity", ["x"], ["y"])], [x], [y], metadata)


def endless(file: Path) -> Path:
    """y = x after as many rounds of a loop as `rounds` says: a run that lasts as long as its client likes."""
    rounds = helper.make_tensor_value_info("rounds", TensorProto.INT64, [1])
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y"))
    inside = [
        helper.make_tensor_value_info("i", TensorProto.INT64, []),
        helper.make_tensor_value_info("go", TensorProto.BOOL, []),
        helper.make_tensor_value_info("a", TensorProto.FLOAT, [1]),
    ]
    after = [
        helper.make_tensor_value_info("on", TensorProto.BOOL, []),
        helper.make_tensor_value_info("b", TensorProto.FLOAT, [1]),
    ]
    steps = [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Identity", ["a"], ["b"])]
    nodes = [
        _constant("true", 1, TensorProto.BOOL),
        helper.make_node("ReduceSum", ["rounds"], ["count"], keepdims=0),
        helper.make_node("Loop", ["count", "true", "x"], ["y"], body=helper.make_graph(steps, "body", inside, after)),
    ]
    return _write(file, nodes, [rounds, x], [y])


def scalar(file: Path) -> Path:
    """y = -x, of no axes at all."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, []) for name in ("x", "y"))
    return _write(file, [helper.make_node("Neg", ["x"], ["y"])], [x], [y])


def positives(file: Path) -> Path:
    """y = the values of x above zero: as many rows as there are such values, whatever the batch is."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["m"])
    nodes = [
        _constant("zero", 0, TensorProto.FLOAT),
        helper.make_node("Greater", ["x", "zero"], ["keep"]),
        helper.make_node("Compress", ["x", "keep"], ["y"], axis=0),
    ]
    return _write(file, nodes, [x], [y])


def stubborn(file: Path) -> Path:
    """A model that loads and cannot be run: it looks up the fifth of two values."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3]) for name in ("x", "y"))
    table = helper.make_tensor("table", TensorProto.FLOAT, [2], [0, 1])
    nodes = [
        helper.make_node("Constant", [], ["table"], value=table),
        _constant("four", 4, TensorProto.FLOAT),
        helper.make_node("Add", ["x", "four"], ["place"]),
        helper.make_node("Cast", ["place"], ["index"], to=TensorProto.INT64),
        helper.make_node("Gather", ["table", "index"], ["y"]),
    ]
    return _write(file, nodes, [x], [y])


def _constant(name: str, value: float, kind: int) -> onnx.NodeProto:
    return helper.make_node("Constant", [], [name], value=helper.make_tensor(name, kind, [], [value]))


def _values(prefix: str, shape: Sequence[str]) -> Values:
    return [helper.make_tensor_value_info(f"{prefix}_{name}", _TYPES[name], shape) for name in DATATYPES]


def _write(
    file: Path,
    nodes: Sequence[onnx.NodeProto],
    inputs: Values,
    outputs: Values,
    metadata: Mapping[str, str] | None = None,
) -> Path:
    graph = helper.make_graph(nodes, "toy", inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    helper.set_model_props(model, dict(metadata or {}))
    file.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, file)
    return file
