from __future__ import annotations

from pathlib import Path

import pytest

from senet_convert.converter import passes
from senet_convert.converter.passes import Draft, Options
from senet_convert.errors import GraphError, Problems
from senet_convert.proto import State
from tests.nets import definition

TRAIN_VAL = """
layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TRAIN } }
layer { name: "data" type: "MemoryData" top: "data" top: "label" include { phase: TEST }
        memory_data_param { batch_size: 4 channels: 3 height: 8 width: 6 } }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc" inner_product_param { num_output: 5 } }
layer { name: "slice" type: "Slice" bottom: "label" top: "coarse" top: "fine" }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "fine" top: "loss" softmax_param { axis: 1 } }
layer { name: "accuracy" type: "Accuracy" bottom: "fc" bottom: "fine" top: "accuracy" include { phase: TEST } }
layer { name: "quiet" type: "Silence" bottom: "coarse" }
"""


def run(tmp_path: Path, text: str, options: Options | None = None) -> tuple[Draft, list[str]]:
    problems = Problems("net")
    draft = passes.run(definition(tmp_path, text), options or Options(), problems)
    return draft, list(problems)


def test_a_training_net_becomes_an_inference_net(tmp_path: Path) -> None:
    draft, problems = run(tmp_path, TRAIN_VAL)
    assert problems == []
    assert [(item.blob, item.shape) for item in draft.inputs] == [("data", (4, 3, 8, 6))]
    assert [(layer.type, layer.bottoms, layer.tops) for layer in draft.layers] == [
        ("InnerProduct", ("data",), ("fc",)),
        ("Softmax", ("fc",), ("prob",)),
    ]
    assert dict(draft.layers[1].params) == {"softmax_param": {"axis": 1}}
    dropped = {item.name: item.reason for item in draft.dropped}
    assert set(dropped) == {"data", "slice", "loss", "accuracy", "quiet", "label"}
    assert "Softmax gives its prediction as blob 'prob'" in dropped["loss"]


def test_a_softmax_that_is_there_already_is_not_doubled(tmp_path: Path) -> None:
    text = TRAIN_VAL + 'layer { name: "out" type: "Softmax" bottom: "fc" top: "out" }'
    draft, _ = run(tmp_path, text)
    assert [layer.name for layer in draft.layers] == ["fc", "out"]


def test_the_prediction_takes_the_second_top_or_a_free_name(tmp_path: Path) -> None:
    named = TRAIN_VAL.replace('top: "loss"', 'top: "loss" top: "posterior"')
    assert run(tmp_path, named)[0].layers[-1].tops == ("posterior",)
    two = TRAIN_VAL + 'layer { name: "aux" type: "SoftmaxWithLoss" bottom: "data" bottom: "fine" top: "l2" }'
    assert [layer.tops[0] for layer in run(tmp_path, two)[0].layers[1:]] == ["loss/prob", "aux/prob"]


def test_a_snapshot_of_a_training_net_keeps_its_data_as_input(tmp_path: Path) -> None:
    text = TRAIN_VAL.replace("include { phase: TEST }\n        memory", "include { phase: TRAIN }\n memory")
    shape = Options(input_shapes={None: (1, 3, 8, 6)})
    _, problems = run(tmp_path, text, shape)
    assert problems == ["blob 'data' is brought in by 2 layers; choose one by --phase, --stage, --level"]
    one = text.replace(text.splitlines()[1], "")
    draft, problems = run(tmp_path, one, shape)
    assert problems == []
    assert [(item.blob, item.shape) for item in draft.inputs] == [("data", (1, 3, 8, 6))]


RULES = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 2 } } }
layer { name: "always" type: "ReLU" bottom: "data" top: "a" }
layer { name: "staged" type: "ReLU" bottom: "data" top: "b" include { stage: "deploy" not_stage: "slow" } }
layer { name: "deep" type: "ReLU" bottom: "data" top: "c" include { min_level: 2 max_level: 3 } }
layer { name: "not_train" type: "ReLU" bottom: "data" top: "d" exclude { phase: TRAIN } }
layer { name: "either" type: "ReLU" bottom: "data" top: "e" include { stage: "x" } include { phase: TRAIN } }
"""


@pytest.mark.parametrize(
    ("state", "names"),
    [
        (State(), ["always", "not_train"]),
        (State(stages=("deploy",)), ["always", "staged", "not_train"]),
        (State(stages=("deploy", "slow")), ["always", "not_train"]),
        (State(level=2), ["always", "deep", "not_train"]),
        (State(level=4), ["always", "not_train"]),
        (State(phase="TRAIN"), ["always", "either"]),
        (State(stages=("x",)), ["always", "not_train", "either"]),
    ],
)
def test_rules_choose_layers(tmp_path: Path, state: State, names: list[str]) -> None:
    draft, problems = run(tmp_path, RULES, Options(state))
    assert problems == []
    assert [layer.name for layer in draft.layers] == names


def test_the_files_own_state_counts(tmp_path: Path) -> None:
    draft, _ = run(tmp_path, 'state { level: 2 stage: "deploy" }' + RULES)
    assert [layer.name for layer in draft.layers] == ["always", "staged", "deep", "not_train"]


def test_include_and_exclude_together_are_refused(tmp_path: Path) -> None:
    text = (
        RULES + 'layer { name: "both" type: "ReLU" bottom: "data" top: "f"\ninclude { level: 1 } exclude { level: 2 } }'
    )
    _, problems = run(tmp_path, text.replace("level: 1", "min_level: 1").replace("level: 2 }", "max_level: 2 }"))
    assert any("'both'" in problem and "include and exclude" in problem for problem in problems)


def test_shapes_are_asked_for_by_name(tmp_path: Path) -> None:
    text = 'layer { name: "d" type: "ImageData" top: "data" }\nlayer { name: "r" type: "ReLU" bottom: "data" top: "r" }'
    _, problems = run(tmp_path, text)
    assert len(problems) == 1
    assert "input 'data'" in problems[0]
    assert "--input-shape data=1,3,224,224" in problems[0]
    assert run(tmp_path, text, Options(input_shapes={"data": (1, 3, 4, 4)}))[1] == []
    _, wrong = run(tmp_path, text, Options(input_shapes={"dta": (1, 3, 4, 4), None: (1, 2)}))
    assert wrong == ["--input-shape names the input 'dta', the network's inputs are: 'data'"]


def test_given_shapes_overrule_the_file(tmp_path: Path) -> None:
    draft, _ = run(tmp_path, RULES, Options(input_shapes={"data": (5, 2)}))
    assert draft.inputs[0].shape == (5, 2)


def test_header_and_dummy_inputs_have_shapes(tmp_path: Path) -> None:
    text = (
        'input: "a" input_dim: 1 input_dim: 2 input_dim: 3 input_dim: 4\n'
        'layer { name: "b" type: "DummyData" top: "b" dummy_data_param { num: 5 channels: 6 height: 7 width: 8 } }\n'
        'layer { name: "c" type: "Concat" bottom: "a" bottom: "b" top: "c" }'
    )
    draft, problems = run(tmp_path, text)
    assert problems == []
    assert {item.blob: item.shape for item in draft.inputs} == {"a": (1, 2, 3, 4), "b": (5, 6, 7, 8)}


def test_impossible_input_shapes_are_refused(tmp_path: Path) -> None:
    for shape in ((0, 2), (10**6, 10**6)):
        _, problems = run(tmp_path, RULES, Options(input_shapes={"data": shape}))
        assert problems == [f"input 'data' has the impossible shape {list(shape)}"]


def test_a_net_without_inputs_says_so(tmp_path: Path) -> None:
    _, problems = run(tmp_path, 'layer { name: "r" type: "ReLU" bottom: "x" top: "y" }')
    assert any("no inputs" in problem for problem in problems)
    with pytest.raises(GraphError, match="no inputs"):
        from senet_convert.converter.graph import build

        build(definition(tmp_path, 'layer { name: "r" type: "ReLU" bottom: "x" top: "y" }'), None)
