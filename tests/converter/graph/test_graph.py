from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from senet_convert.converter.graph.build import build
from senet_convert.converter.graph.graph import Graph, describe
from senet_convert.errors import GraphError, WeightsError
from senet_convert.proto import caffe_pb2, read_caffemodel
from tests.nets import INPUT, SE_NET, blob, definition, write


def graph(tmp_path: Path, text: str) -> Graph:
    return build(definition(tmp_path, text), None)


def relu(name: str, bottom: str, top: str) -> str:
    return f'layer {{ name: "{name}" type: "ReLU" bottom: "{bottom}" top: "{top}" }}\n'


def test_in_place_chains_become_values(tmp_path: Path) -> None:
    found = graph(tmp_path, SE_NET)
    assert [(node.name, node.inputs, node.outputs) for node in found.nodes[:5]] == [
        ("conv", ("data",), ("conv@conv",)),
        ("bn", ("conv@conv",), ("conv@bn",)),
        ("scale", ("conv@bn",), ("conv@scale",)),
        ("relu", ("conv@scale",), ("conv",)),
        ("gap", ("conv",), ("gap",)),
    ]
    assert found.inputs == ("data",)
    assert found.outputs == ("prob",)
    assert found.shapes["conv@bn"] == (2, 6, 12, 10)
    assert found.shapes["pool"] == (2, 6, 6, 5)
    assert describe(found) == "data 2x3x12x10 -> prob 2x7"


def test_the_batch_is_free_where_shapes_follow_it(tmp_path: Path) -> None:
    found = graph(tmp_path, SE_NET)
    assert found.batched["data"] == (None, 3, 12, 10)
    assert found.batched["prob"] == (None, 7)


def test_a_reshape_to_fixed_sizes_fixes_the_batch(tmp_path: Path) -> None:
    shape = "reshape_param { shape { dim: 2 dim: 360 } }"
    found = graph(tmp_path, INPUT + f'layer {{ name: "r" type: "Reshape" bottom: "data" top: "r" {shape} }}')
    assert found.batched["data"] == (2, 3, 12, 10)


def test_nodes_are_pruned_to_what_an_output_needs(tmp_path: Path) -> None:
    found = graph(tmp_path, INPUT + relu("a", "data", "a") + relu("b", "data", "b") + relu("c", "a", "c"))
    assert [node.name for node in found.needed_for(["c"])] == ["a", "c"]


def test_a_caffemodel_alone_gives_the_same_graph(tmp_path: Path) -> None:
    from senet_convert.proto import read_caffemodel

    files = write(tmp_path)
    weights = read_caffemodel(files.caffemodel)
    alone, both = build(weights, weights), files.graph()
    assert alone.nodes == both.nodes
    assert alone.accounts.keys == both.accounts.keys


def test_blobs_for_a_layer_that_takes_none_are_refused(tmp_path: Path) -> None:
    files = write(tmp_path)
    net = caffe_pb2.NetParameter.FromString(files.caffemodel.read_bytes())
    next(layer for layer in net.layer if layer.name == "relu").blobs.append(blob(np.ones(6, np.float32)))
    files.caffemodel.write_bytes(net.SerializeToString())
    with pytest.raises(GraphError, match=r"layer 'relu' \(ReLU\): \S*net.caffemodel holds blobs for it, but"):
        files.graph()


@pytest.mark.parametrize("blobs", [True, False])
def test_weights_of_which_none_lands_are_refused(tmp_path: Path, blobs: bool) -> None:
    files = write(tmp_path)
    net = caffe_pb2.NetParameter.FromString(files.caffemodel.read_bytes())
    files.prototxt.write_text(INPUT + relu("other", "data", "other"))
    if blobs:
        words = (
            r"net.prototxt: no layer that runs needs weights, but \S*net.caffemodel holds some for conv, bn, scale, "
            r"down, fc. Is it the prototxt of another network\?$"
        )
        with pytest.raises(WeightsError, match=words):
            files.graph()
        return
    for layer in net.layer:
        layer.ClearField("blobs")
    files.caffemodel.write_bytes(net.SerializeToString())
    assert files.graph().warnings == ()


def test_weights_alone_at_fault_are_told_apart(tmp_path: Path) -> None:
    """Then the definition may be that of another network."""
    weights = read_caffemodel(write(tmp_path).caffemodel)
    other = SE_NET.replace("num_output: 7", "num_output: 8")
    with pytest.raises(WeightsError, match="layer 'fc'"):
        build(definition(tmp_path, other), weights)
    with pytest.raises(GraphError) as caught:
        build(definition(tmp_path, other.replace('"Sigmoid"', '"Sigmund"')), weights)
    assert not isinstance(caught.value, WeightsError)
