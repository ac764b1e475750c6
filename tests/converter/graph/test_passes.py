from __future__ import annotations

from pathlib import Path

import pytest

from senet_convert.converter.graph import passes
from senet_convert.converter.graph.draft import Draft, Options
from senet_convert.converter.layers import LAYERS
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


REGRESSION = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 5 } } }
layer { name: "y" type: "Input" top: "y" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc" inner_product_param { num_output: 3 } }
layer { name: "tanh" type: "TanH" bottom: "fc" top: "tanh" }
layer { name: "half" type: "Power" bottom: "y" top: "half" power_param { scale: 0.5 } }
layer { name: "loss" type: "LOSS" BOTTOMS top: "loss" }
"""


@pytest.mark.parametrize("kind", ["EuclideanLoss", "L1Loss", "SmoothL1Loss", "SmoothL1LossOHEM"])
@pytest.mark.parametrize("bottoms", [("tanh", "half"), ("half", "tanh")])
def test_the_bottoms_of_a_symmetric_loss_may_be_exchanged(tmp_path: Path, kind: str, bottoms: tuple[str, str]) -> None:
    text = REGRESSION.replace("LOSS", kind).replace("BOTTOMS", " ".join(f'bottom: "{blob}"' for blob in bottoms))
    draft, problems = run(tmp_path, text)
    assert problems == []
    assert [item.blob for item in draft.inputs] == ["data"]
    assert [layer.name for layer in draft.layers] == ["fc", "tanh"]


def test_both_bottoms_of_a_symmetric_loss_may_be_predictions(tmp_path: Path) -> None:
    both = REGRESSION.replace('"Power"', '"InnerProduct"').replace("power_param { scale: 0.5 }", "")
    both = both.replace("LOSS", "EuclideanLoss").replace("BOTTOMS", 'bottom: "tanh" bottom: "half"')
    draft, _ = run(tmp_path, both)
    assert [layer.name for layer in draft.layers] == ["fc", "tanh", "half"]


def test_what_learns_may_be_a_persons_own_or_told_by_its_blobs(tmp_path: Path) -> None:
    text = REGRESSION.replace("LOSS", "EuclideanLoss").replace("BOTTOMS", 'bottom: "y" bottom: "tanh"')
    own = text.replace('"InnerProduct"', '"Own"')
    assert "fc" not in [layer.name for layer in run(tmp_path, own)[0].layers]
    held = own.replace('type: "Own"', 'type: "Own" blobs { shape { dim: 1 } data: 1 }')
    for text, options in ((own, Options(layers={"Own": LAYERS["InnerProduct"]})), (held, Options())):
        draft, _ = run(tmp_path, text, options)
        assert [layer.name for layer in draft.layers][:2] == ["fc", "tanh"]


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


def test_of_the_files_own_state_only_the_stages_count(tmp_path: Path) -> None:
    """Caffe's Net(file, phase, level, stages) adds stages and sets the level, which is 0 unless it is given."""
    text = 'state { level: 2 stage: "deploy" }' + RULES
    draft, _ = run(tmp_path, text)
    assert [layer.name for layer in draft.layers] == ["always", "staged", "not_train"]
    draft, _ = run(tmp_path, text, Options(State(level=3)))
    assert [layer.name for layer in draft.layers] == ["always", "staged", "deep", "not_train"]


def test_include_and_exclude_together_are_refused(tmp_path: Path) -> None:
    text = (
        RULES + 'layer { name: "both" type: "ReLU" bottom: "data" top: "f"\ninclude { level: 1 } exclude { level: 2 } }'
    )
    _, problems = run(tmp_path, text.replace("level: 1", "min_level: 1").replace("level: 2 }", "max_level: 2 }"))
    assert any("'both'" in problem and "include and exclude" in problem for problem in problems)


def test_a_file_without_layers_is_another_than_was_meant(tmp_path: Path) -> None:
    """What else it says is of no interest then."""

    def said(text: str) -> str:
        with pytest.raises(GraphError) as caught:
            run(tmp_path, text)
        return str(caught.value)

    assert said('name: "x" foo: 1') == "net: it has no layers; give the network's prototxt"
    solver = 'net: "train_val.prototxt"\nbase_lr: 0.1 lr_policy: "step" solver_mode: GPU debug_info: true'
    words = "net: it has no layers: it is a solver's prototxt; give the network's"
    assert said(solver) == f"{words}, which it names: 'train_val.prototxt'"
    assert said('train_net: "a" test_net: "b" test_net: "a"') == f"{words}, which it names: 'a', 'b'"
    assert said("base_lr: 0.1") == words
