from __future__ import annotations

from pathlib import Path

import pytest

from senet_convert.converter.graph import Graph, build
from senet_convert.errors import GraphError
from tests.nets import INPUT, SE_NET, definition


def graph(tmp_path: Path, text: str) -> Graph:
    return build(definition(tmp_path, text), None)


def refusal(tmp_path: Path, layers: str) -> str:
    with pytest.raises(GraphError) as caught:
        graph(tmp_path, INPUT + layers)
    return str(caught.value)


def relu(name: str, bottom: str, top: str) -> str:
    return f'layer {{ name: "{name}" type: "ReLU" bottom: "{bottom}" top: "{top}" }}\n'


def test_dropout_and_split_leave_no_node(tmp_path: Path) -> None:
    text = (
        INPUT
        + 'layer { name: "s" type: "Split" bottom: "data" top: "one" top: "two" }\n'
        + 'layer { name: "d" type: "Dropout" bottom: "one" top: "dropped" }\n'
        + relu("a", "dropped", "a")
        + relu("b", "two", "b")
    )
    found = graph(tmp_path, text)
    assert [(node.name, node.inputs) for node in found.nodes] == [("a", ("data",)), ("b", ("data",))]
    assert {item.name: item.type for item in found.dropped} == {"s": "Split", "d": "Dropout"}
    assert found.blobs["dropped"] == "data"


def test_splits_that_caffe_inserted_are_no_blobs(tmp_path: Path) -> None:
    split = [f"data_data_0_split_{i}" for i in range(3)]
    tops = " ".join(f'top: "{name}"' for name in split)
    text = (
        INPUT
        + f'layer {{ name: "data_data_0_split" type: "Split" bottom: "data" {tops} }}\n'
        + relu("a", split[0], "a")
        + relu("b", split[1], "b")
        + f'layer {{ name: "acc" type: "Accuracy" bottom: "{split[2]}" bottom: "b" top: "acc" }}'
    )
    found = graph(tmp_path, text)
    assert list(found.blobs) == ["data", "a", "b"]
    assert found.outputs == ("a", "b")
    assert [node.inputs for node in found.nodes] == [("data",), ("data",)]


def test_an_input_that_is_overwritten_keeps_its_name(tmp_path: Path) -> None:
    found = graph(tmp_path, INPUT + relu("prep", "data", "data") + relu("a", "data", "a") + relu("z", "data", "z"))
    assert [(node.inputs, node.outputs) for node in found.nodes] == [
        (("data",), ("data@prep",)),
        (("data@prep",), ("a",)),
        (("data@prep",), ("z",)),
    ]
    only = graph(tmp_path, INPUT + relu("prep", "data", "data"))
    assert only.outputs == ("data@prep",)
    assert only.blobs["data@prep"] == "data@prep"


def test_values_that_would_share_a_name_do_not(tmp_path: Path) -> None:
    text = INPUT + relu("b", "data", "x") + relu("b", "x", "x") + relu("b", "x", "x") + relu("c", "x", "x@b")
    found = graph(tmp_path, text)
    names = [name for node in found.nodes for name in node.outputs]
    assert len(set(names)) == len(names) == 4
    assert found.blobs["x"] == "x"
    assert found.blobs["x@b"] == "x@b"


def test_memory_that_a_reshape_shares_changes_with_it(tmp_path: Path) -> None:
    text = (
        INPUT
        + relu("first", "data", "first")
        + 'layer { name: "flat" type: "Reshape" bottom: "first" top: "flat"\n'
        + "reshape_param { shape { dim: 0 dim: -1 } } }\n"
        + relu("early", "first", "early")
        + 'layer { name: "sig" type: "Sigmoid" bottom: "flat" top: "flat" }\n'
        + relu("late", "first", "late")
    )
    found = graph(tmp_path, text)
    reads = {node.name: node.inputs for node in found.nodes}
    assert reads["early"] == ("first@first",)
    assert reads["sig/first"] == ("flat",)
    assert reads["late"] == ("first",)
    assert any("'sig' overwrites 'flat' in place" in warning and "'first'" in warning for warning in found.warnings)


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        (relu("a", "nowhere", "a"), ["'a'", "'nowhere'", "no layer does"]),
        (relu("a", "b", "a") + relu("b", "data", "b"), ["'a'", "'b'", "file's order"]),
        (relu("a", "data", "x") + relu("b", "data", "x"), ["'b'", "'x'", "'a'"]),
        (relu("a", "data", "x") + relu("b", "x", "b") + relu("c", "x", "x"), ["'c'", "'x'", "'b'", "in place"]),
        ('layer { name: "w" type: "FooBar" bottom: "data" top: "w" }', ["FooBar", "'w'", "Supported layer types"]),
        ('layer { name: "w" type: "ReLU" bottom: "data" top: "w" relu_param { slope: 1 } }', ["'w'", "slope", "2"]),
        ('layer { name: "w" type: "ReLU" bottom: "data" bottom: "data" top: "w" }', ["'w'", "2 bottoms"]),
        ('layer { name: "w" type: "Pooling" bottom: "data" top: "data" }', ["'w'", "in place"]),
        (
            'layer { name: "w" type: "Convolution" bottom: "data" top: "w" '
            "convolution_param { num_output: 4 kernel_size: 1 pad: 4000000000 } }",
            ["'w'", "values; Caffe has at most 2147483647"],
        ),
    ],
)
def test_refusals_name_layer_and_blob(tmp_path: Path, layers: str, words: list[str]) -> None:
    message = refusal(tmp_path, layers)
    assert [word for word in words if word not in message] == []


def test_all_problems_come_at_once(tmp_path: Path) -> None:
    message = refusal(
        tmp_path,
        relu("a", "nowhere", "a")
        + 'layer { name: "p" type: "Pooling" bottom: "data" top: "p" pooling_param { kernel_size: 99 } }\n'
        + 'layer { name: "w" type: "FooBar" bottom: "p" top: "w" }',
    )
    assert "3 problems" in message
    assert all(word in message for word in ("nowhere", "kernel 99x99", "FooBar"))


def test_faults_in_layers_that_are_dropped_do_not_matter(tmp_path: Path) -> None:
    text = SE_NET + 'layer { name: "a" type: "Accuracy" bottom: "fc" bottom: "data" top: "x" accuracy_param { z: 1 } }'
    assert graph(tmp_path, text).outputs == ("prob",)
