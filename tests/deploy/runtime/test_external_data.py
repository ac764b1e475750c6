"""Models that name files, or memory, which are not theirs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, NodeProto, SparseTensorProto, TensorProto, helper

from senet_convert.deploy.runtime.external_data import require_confined
from senet_convert.deploy.runtime.session import Session
from senet_convert.errors import ConvertError

VALUES = np.array([1, 2, 3, 4], np.float32)
OLD, NEW = "1.24.1", "1.27.0"


def outside(location: str) -> TensorProto:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", "0"), ("length", "16")):
        tensor.external_data.add(key=key, value=value)
    return tensor


def built(nodes: list[NodeProto], **parts: list[object]) -> ModelProto:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in "xy")
    functions = parts.pop("functions", [])
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    graph = helper.make_graph(nodes, "graph", [x], [y], **parts)  # type: ignore[arg-type]
    return helper.make_model(graph, opset_imports=imports, ir_version=8, functions=functions)


ADD = helper.make_node("Add", ["x", "w"], ["y"])


def in_initializer(location: str) -> ModelProto:
    return built([ADD], initializer=[outside(location)])


def in_constant(location: str) -> ModelProto:
    return built([helper.make_node("Constant", [], ["w"], value=outside(location)), ADD])


def in_branch(location: str) -> ModelProto:
    out = helper.make_tensor_value_info("o", TensorProto.FLOAT, [4])
    branch = helper.make_graph([helper.make_node("Identity", ["w"], ["o"])], "b", [], [out], [outside(location)])
    nodes = [helper.make_node("If", ["c"], ["z"], then_branch=branch, else_branch=branch)]
    condition = helper.make_tensor("c", TensorProto.BOOL, [], [True])
    return built([*nodes, helper.make_node("Add", ["x", "z"], ["y"])], initializer=[condition])


def in_sparse(location: str) -> ModelProto:
    indices = helper.make_tensor("i", TensorProto.INT64, [4], range(4))
    return built([ADD], sparse_initializer=[SparseTensorProto(values=outside(location), indices=indices, dims=[4])])


def in_function(location: str) -> ModelProto:
    body = [
        helper.make_node("Constant", [], ["w"], value=outside(location)),
        helper.make_node("Add", ["a", "w"], ["b"]),
    ]
    own = helper.make_function("own", "F", ["a"], ["b"], body, [helper.make_opsetid("", 17)])
    return built([helper.make_node("F", ["x"], ["y"], domain="own")], functions=[own])


PLACES = [in_initializer, in_constant, in_branch, in_sparse, in_function]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model's folder with weights of its own, beside a file and a link to it that are none of its business."""
    place = tmp_path / "model"
    place.mkdir()
    for file in (tmp_path / "secret", place / "own"):
        VALUES.tofile(file)
    (place / "link").symlink_to(tmp_path / "secret")
    (place / "linked").symlink_to(tmp_path)
    return place


@pytest.mark.parametrize("in_place", PLACES)
@pytest.mark.parametrize("location", ["../secret", "/secret", "link", "linked/secret", "a/../../secret"])
@pytest.mark.parametrize("from_bytes", [False, True])
def test_other_files_are_not_read(
    in_place: Callable[[str], ModelProto], location: str, from_bytes: bool, folder: Path
) -> None:
    model = in_place(str(folder.parent / "secret") if location == "/secret" else location).SerializeToString()
    file = folder / "model.onnx"
    file.write_bytes(model)
    given = model if from_bytes else None
    with pytest.raises(ConvertError, match="which is not in the model's folder"):
        require_confined(file, given, OLD)
    with pytest.raises(ConvertError, match="cannot load it"):  # by the onnxruntime that is installed
        Session(file, threads=1, model=given)


@pytest.mark.parametrize("in_place", PLACES)
def test_memory_is_not_read(in_place: Callable[[str], ModelProto], folder: Path) -> None:
    file = folder / "model.onnx"
    onnx.save(in_place("*/_ORT_MEM_ADDR_/*"), str(file))
    with pytest.raises(ConvertError, match="from memory"):
        require_confined(file, None, OLD)


@pytest.mark.parametrize("in_place", PLACES)
def test_a_models_own_weights_are(in_place: Callable[[str], ModelProto], folder: Path) -> None:
    file = folder / "model.onnx"
    file.write_bytes(in_place("own").SerializeToString())
    require_confined(file, None, OLD)
    np.testing.assert_array_equal(Session(file, threads=1).run({"x": np.zeros(4, np.float32)})["y"], VALUES)


def test_nothing_is_parsed_where_onnxruntime_sees_to_it(tmp_path: Path) -> None:
    require_confined(tmp_path / "missing.onnx", None, NEW)
    require_confined(tmp_path / "missing.onnx", None, "2.0.0rc1")
    with pytest.raises(ConvertError, match="cannot be read as ONNX"):
        require_confined(tmp_path / "missing.onnx", b"\xff", OLD)
