from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from senet_convert.converter.export.onnx import ALIGNMENT, OPSETS, all_blobs, export
from senet_convert.converter.graph.graph import Graph
from senet_convert.converter.runner import lower
from senet_convert.deploy.runtime.session import Session, newest_opset
from senet_convert.errors import ConvertError
from tests.nets import INPUT, write


@pytest.fixture
def graph(tmp_path: Path) -> Graph:
    return write(tmp_path).graph()


def picture(n: int) -> np.ndarray:
    return np.random.default_rng(n).normal(0, 1, (n, 3, 12, 10)).astype(np.float32)


def values(graph: Graph, x: np.ndarray) -> dict[str, np.ndarray]:
    with torch.no_grad():
        return {name: value.numpy() for name, value in lower(graph).steps(torch.from_numpy(x))}


def test_values_and_nodes_bear_caffes_names(graph: Graph) -> None:
    model = export(graph).definition
    nodes = {node.name: node for node in model.graph.node}
    assert {"conv", "bn", "relu", "gap", "gate", "axpy", "pool", "fc", "prob"} <= set(nodes)
    assert nodes["relu"].output == ["conv"]
    assert nodes["conv"].input[1] == "conv/weight"
    assert [item.name for item in model.graph.input] == ["data"]
    assert [item.name for item in model.graph.output] == ["prob"]
    assert model.ir_version == 8
    assert model.opset_import[0].version == 17


def test_the_batch_axis_is_dynamic(graph: Graph, tmp_path: Path) -> None:
    export(graph).write(tmp_path / "m.onnx")
    session = Session(tmp_path / "m.onnx")
    assert session.shapes["data"] == ["batch", 3, 12, 10]
    for n in (1, 2, 5):
        found = session.run({"data": picture(n)})["prob"]
        np.testing.assert_allclose(found, values(graph, picture(n))["prob"], atol=1e-6)


@pytest.mark.parametrize("opset", [13, 17, 18, newest_opset(OPSETS[-1])])
def test_every_blob_is_the_same_in_every_opset(graph: Graph, tmp_path: Path, opset: int) -> None:
    model = export(graph, opset, all_blobs(graph))
    model.check()
    model.write(tmp_path / "m.onnx")
    onnx.checker.check_model(str(tmp_path / "m.onnx"), full_check=True)
    found = Session(tmp_path / "m.onnx").run({"data": picture(2)})
    want = values(graph, picture(2))
    assert list(found) == ["conv", "gap", "down", "sum", "pool", "fc", "prob"]
    for blob, value in found.items():
        exact = want[graph.blobs[blob]]
        assert np.abs(value - exact).max() <= 2e-6 * np.abs(exact).max(), blob


def test_outputs_can_be_chosen_and_the_rest_is_pruned(graph: Graph) -> None:
    model = export(graph, outputs=["gap", "conv"])
    assert [item.name for item in model.definition.graph.output] == ["gap", "conv"]
    assert "fc" not in {node.name for node in model.definition.graph.node}
    assert "fc/weight" not in model.initializers


@pytest.mark.parametrize("name", ["nothing", "data"])
def test_blobs_that_are_no_outputs_are_refused(graph: Graph, name: str) -> None:
    with pytest.raises(ConvertError, match=f"no such blob: {name}. The network has: conv, gap"):
        export(graph, outputs=[name])


def test_the_written_file_is_what_onnx_would_write(graph: Graph, tmp_path: Path) -> None:
    model = export(graph, metadata={"key": "value"})
    model.write(tmp_path / "m.onnx")
    loaded = onnx.load(str(tmp_path / "m.onnx"))
    assert {item.key: item.value for item in loaded.metadata_props} == {"key": "value"}
    assert {item.name for item in loaded.graph.initializer} == set(model.initializers)
    for item in loaded.graph.initializer:
        want = model.initializers[item.name]
        found = onnx.numpy_helper.to_array(item)
        assert item.raw_data
        assert (found.dtype, found.shape, found.tobytes()) == (want.dtype, want.shape, want.tobytes())


def test_large_models_keep_their_weights_beside_them(graph: Graph, tmp_path: Path) -> None:
    export(graph).write(tmp_path / "small.onnx")
    export(graph).write(tmp_path / "large.onnx", single_file_limit=100)
    assert not (tmp_path / "small.onnx.data").exists()
    assert (tmp_path / "large.onnx.data").stat().st_size > 4096
    onnx.checker.check_model(str(tmp_path / "large.onnx"), full_check=True)
    one, other = (Session(tmp_path / f"{name}.onnx").run({"data": picture(2)})["prob"] for name in ("small", "large"))
    assert np.array_equal(one, other)


def test_names_of_vanished_layers_are_outputs_all_the_same(tmp_path: Path) -> None:
    text = (
        INPUT
        + 'layer { name: "r" type: "ReLU" bottom: "data" top: "r" }\n'
        + 'layer { name: "d" type: "Dropout" bottom: "r" top: "d" }\n'
    )
    graph = write(tmp_path, text).graph()
    export(graph, outputs=all_blobs(graph)).write(tmp_path / "m.onnx")
    found = Session(tmp_path / "m.onnx").run({"data": picture(2)})
    assert graph.outputs == ("d",)
    assert np.array_equal(found["d"], found["r"])


def test_a_broken_export_is_caught(graph: Graph) -> None:
    model = export(graph)
    model.definition.graph.node[0].op_type = "NoSuchOperator"
    with pytest.raises(ConvertError, match="not valid"):
        model.check()


def test_weights_beside_a_model_lie_where_a_runtime_can_map_them(tmp_path: Path) -> None:
    text = INPUT + "".join(
        f'layer {{ name: "fc{i}" type: "InnerProduct" bottom: "data" top: "fc{i}" inner_product_param {{ '
        f"num_output: {i} }} }}\n"
        for i in (3, 5, 7)
    )
    model = export(write(tmp_path, text).graph())
    model.write(tmp_path / "m.onnx", single_file_limit=100)
    tensors = onnx.load(str(tmp_path / "m.onnx"), load_external_data=False).graph.initializer
    places = {tensor.name: {item.key: item.value for item in tensor.external_data} for tensor in tensors}
    beside = [place for place in places.values() if place]
    data = (tmp_path / "m.onnx.data").read_bytes()
    assert [int(place["length"]) for place in beside] == [outputs * 360 * 4 for outputs in (3, 5, 7)]
    assert [int(place["offset"]) % ALIGNMENT for place in beside] == [0, 0, 0]
    for name, place in places.items():
        if place:
            held = data[int(place["offset"]) :][: int(place["length"])]
            assert held == model.initializers[name].tobytes(), name


def test_only_an_axis_of_the_batchs_length_is_called_the_batch(tmp_path: Path) -> None:
    """Three rows of each image are free too, but three times as many."""
    rows = "reshape_param { shape { dim: -1 dim: 120 } }"
    text = INPUT + f'layer {{ name: "rows" type: "Reshape" bottom: "data" top: "rows" {rows} }}'
    graph = write(tmp_path, text + 'layer { name: "r" type: "ReLU" bottom: "data" top: "r" }').graph()
    model = export(graph)
    first = {value.name: value.type.tensor_type.shape.dim[0] for value in model.definition.graph.output}
    assert {name: (dim.dim_param, dim.dim_value) for name, dim in first.items()} == {"rows": ("", 0), "r": ("batch", 0)}
    model.write(tmp_path / "m.onnx")
    assert Session(tmp_path / "m.onnx").run({"data": picture(5)})["rows"].shape == (15, 120)


def test_inputs_that_no_output_needs_are_not_asked_for(tmp_path: Path) -> None:
    text = "".join(
        f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ dim: 2 dim: 3 }} }} }}\n'
        f'layer {{ name: "{name}/relu" type: "ReLU" bottom: "{name}" top: "{name}/relu" }}\n'
        for name in ("x", "y")
    )
    model = export(write(tmp_path, text).graph(), outputs=["y/relu"])
    assert [item.name for item in model.definition.graph.input] == ["y"]
    model.write(tmp_path / "m.onnx")
    x = np.array([[-1, 0, 2], [3, -4, 5]], np.float32)
    assert Session(tmp_path / "m.onnx").run({"y": x})["y/relu"].tolist() == [[0, 0, 2], [3, 0, 5]]
