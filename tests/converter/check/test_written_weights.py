from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from senet_convert.converter.check import written_weights
from senet_convert.converter.export.onnx import export
from senet_convert.converter.graph.graph import Graph
from tests.nets import write


@pytest.fixture
def graph(tmp_path: Path) -> Graph:
    return write(tmp_path).graph()


@pytest.mark.parametrize("limit", [10**9, 100])
def test_weights_are_found_in_the_onnx_file(graph: Graph, tmp_path: Path, limit: int) -> None:
    model = export(graph)
    model.write(tmp_path / "m.onnx", limit)
    found = written_weights.in_onnx(graph, tmp_path / "m.onnx", set(model.initializers))
    assert found.faults == ()
    assert found.arrays == 9
    assert found.values == sum(array.size for array in graph.accounts.arrays.values())


def test_one_flipped_bit_shows(graph: Graph, tmp_path: Path) -> None:
    export(graph).write(tmp_path / "m.onnx")
    data = bytearray((tmp_path / "m.onnx").read_bytes())
    at = data.index(graph.accounts.arrays["fc/weight"].tobytes())
    data[at + 5] ^= 1
    (tmp_path / "m.onnx").write_bytes(data)
    found = written_weights.in_onnx(graph, tmp_path / "m.onnx", set(graph.accounts.arrays))
    assert found.faults == ("m.onnx: the weight 'fc/weight' is not what the caffemodel holds",)


def test_a_lacking_weight_shows(graph: Graph, tmp_path: Path) -> None:
    model = export(graph, outputs=["gap"])
    model.write(tmp_path / "m.onnx")
    found = written_weights.in_onnx(graph, tmp_path / "m.onnx", set(graph.accounts.arrays))
    assert "m.onnx lacks the weight 'fc/bias'" in found.faults


def test_safetensors_are_compared_under_their_names(graph: Graph, tmp_path: Path) -> None:
    names = {key: f"net.{i}" for i, key in enumerate(graph.accounts.arrays)}
    arrays = {names[key]: np.array(array) for key, array in graph.accounts.arrays.items()}
    safetensors.numpy.save_file(arrays, tmp_path / "a.safetensors")
    assert written_weights.in_safetensors(graph, tmp_path / "a.safetensors", names).faults == ()
    arrays["net.0"].reshape(-1)[0] = -0.0
    del arrays["net.1"]
    safetensors.numpy.save_file(arrays, tmp_path / "b.safetensors")
    assert len(written_weights.in_safetensors(graph, tmp_path / "b.safetensors", names).faults) == 2
