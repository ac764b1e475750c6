from __future__ import annotations

from pathlib import Path

import pytest

from senet_convert.converter.graph.build import build
from senet_convert.converter.graph.draft import Options
from senet_convert.errors import GraphError
from senet_convert.proto import State
from tests.nets import INPUT, definition


def refusal(tmp_path: Path, layers: str, phase: str = "TEST") -> str:
    with pytest.raises(GraphError) as caught:
        build(definition(tmp_path, INPUT + layers), None, Options(State(phase)))
    return str(caught.value)


def relu(name: str, bottom: str, top: str, more: str = "") -> str:
    return f'layer {{ name: "{name}" type: "ReLU" bottom: "{bottom}" top: "{top}" {more} }}\n'


def test_nobody_produces_it(tmp_path: Path) -> None:
    message = refusal(tmp_path, relu("a", "nowhere", "a"))
    assert message.endswith("layer 'a' (line 2) reads blob 'nowhere', which nothing before it produces: no layer does")


def test_a_later_layer_produces_it(tmp_path: Path) -> None:
    message = refusal(tmp_path, relu("a", "b", "a") + relu("b", "data", "b") + relu("c", "b", "b"))
    assert message.endswith(": layer 'b' (line 3) produces it, but Caffe runs layers in the file's order")


def test_only_layers_in_place_write_it(tmp_path: Path) -> None:
    assert refusal(tmp_path, relu("a", "x", "x")).endswith(": it is only overwritten in place")
    assert refusal(tmp_path, relu("a", "x", "x") + relu("b", "x", "x")).endswith(": it is only overwritten in place")


@pytest.mark.parametrize("rule", ["include { phase: TRAIN }", "exclude { phase: TEST }"])
def test_rules_leave_its_producer_out(tmp_path: Path, rule: str) -> None:
    message = refusal(tmp_path, relu("a", "data", "x", rule) + relu("b", "x", "x") + relu("c", "x", "c"))
    assert "problems" not in message
    assert "'b' (line 3) reads blob 'x', which nothing before it produces: layer 'a' (line 2) produces it" in message
    assert "phase TEST; --phase, --stage and --level" in message


def test_inference_leaves_its_producer_out(tmp_path: Path) -> None:
    loss = 'layer { name: "loss" type: "EuclideanLoss" bottom: "data" bottom: "data" top: "loss" }\n'
    message = refusal(tmp_path, loss + relu("a", "loss", "a"))
    assert "layer 'loss' (line 2) of type EuclideanLoss produces it, which is left out at inference" in message


def test_cycles_are_told_as_a_whole(tmp_path: Path) -> None:
    ring = relu("a", "z", "x") + relu("a2", "x", "x") + relu("b", "x", "y") + relu("c", "y", "z")
    message = refusal(tmp_path, ring)
    assert message.endswith(
        "layer 'a' (line 2) reads blob 'z', which nothing before it produces: "
        "the layers 'a' -> 'a2' -> 'b' -> 'c' -> 'a' form a cycle"
    )


def test_each_cycle_is_told_and_what_reads_it_early_is_not_in_it(tmp_path: Path) -> None:
    pairs = "".join(relu(f"p{i}", f"q{i}", f"p{i}") + relu(f"q{i}", f"p{i}", f"q{i}") for i in range(3))
    message = refusal(tmp_path, relu("early", "q0", "early") + pairs)
    assert "4 problems" in message
    assert "layer 'q0' (line 4) produces it, but Caffe runs layers in the file's order" in message
    assert all(f"'p{i}' -> 'q{i}' -> 'p{i}' form a cycle" in message for i in range(3))


def test_an_input_that_is_overwritten_feeds_no_cycle(tmp_path: Path) -> None:
    """What reads the input before a layer takes its name does not wait for that layer."""
    message = refusal(tmp_path, relu("a", "data", "a") + relu("b", "a", "data") + relu("c", "d", "c"))
    assert "cycle" not in message
    assert "'b' (line 3) writes blob 'data'" in message
