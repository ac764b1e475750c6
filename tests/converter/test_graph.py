from __future__ import annotations

from pathlib import Path

from senet_convert.converter.graph import Graph, build, describe
from tests.nets import INPUT, SE_NET, definition, write


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
