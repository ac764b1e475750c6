from __future__ import annotations

from pathlib import Path

import pytest

from senet_convert.converter.graph import passes
from senet_convert.converter.graph.build import build
from senet_convert.converter.graph.draft import Draft, Options
from senet_convert.errors import GraphError, Problems
from tests.nets import INPUT, definition

RELU = 'layer { name: "r" type: "ReLU" bottom: "data" top: "r" }\n'


def run(tmp_path: Path, text: str, options: Options | None = None) -> tuple[Draft, list[str]]:
    problems = Problems("net")
    draft = passes.run(definition(tmp_path, text), options or Options(), problems)
    return draft, list(problems)


# ---- who brings them -------------------------------------------------------------------------------------------------

TRAIN = 'layer { name: "train" type: "Data" top: "data" top: "label" include { phase: TRAIN } }\n'
MEMORY = """layer { name: "memory" type: "MemoryData" top: "data" top: "label" include { phase: TRAIN }
        memory_data_param { batch_size: 4 channels: 3 height: 8 width: 6 } }
"""
SHAPE = Options(input_shapes={None: (1, 3, 8, 6)})


def test_a_snapshot_of_a_training_net_keeps_its_data_as_input(tmp_path: Path) -> None:
    """Wherever it stands: it does not run in the TEST phase."""
    for text in (MEMORY + RELU, RELU + MEMORY):
        draft, problems = run(tmp_path, text, SHAPE)
        assert problems == []
        assert [(item.blob, item.shape) for item in draft.inputs] == [("data", (1, 3, 8, 6))]


def test_a_blob_is_brought_in_once(tmp_path: Path) -> None:
    _, problems = run(tmp_path, TRAIN + MEMORY + RELU, SHAPE)
    assert problems == [
        "blob 'data' is brought in 2 times, by layer 'train' (Data), layer 'memory' (MemoryData); choose one by "
        "--phase, --stage, --level"
    ]
    header = 'input: "data" input_shape { dim: 1 dim: 3 }\n'
    twice = 2 * 'input: "data" input_shape { dim: 1 dim: 3 }\n'
    _, problems = run(tmp_path, header + INPUT + RELU)
    assert problems == [
        "blob 'data' is brought in 2 times, by the header's input, layer 'data' (Input); keep one of them"
    ]
    _, problems = run(tmp_path, twice + RELU)
    assert problems == ["blob 'data' is brought in 2 times, by the header's input; keep one of them"]


def test_a_header_without_dimensions_gives_way_to_the_layer_that_brings_the_blob(tmp_path: Path) -> None:
    """Caffe drops it (UpgradeNetInput); where no layer brings the blob the user can still give its shape."""
    draft, problems = run(tmp_path, 'input: "data"\n' + INPUT + RELU)
    assert (problems, [item.by for item in draft.inputs]) == ([], ["layer 'data' (Input)"])
    assert [(item.name, item.type) for item in draft.dropped] == [("data", "input")]
    in_place = RELU.replace('top: "r"', 'top: "data"')
    draft, problems = run(tmp_path, 'input: "data"\n' + in_place, SHAPE)
    assert (problems, [item.by for item in draft.inputs]) == ([], ["the header's input"])


def test_data_that_comes_too_late_is_named_with_its_readers(tmp_path: Path) -> None:
    second = RELU.replace('"r"', '"s"')
    _, problems = run(tmp_path, RELU + second + INPUT + RELU.replace('"r"', '"t"'))
    assert problems == [
        f"layer '{name}' (line {line}) reads blob 'data', which nothing before it produces: layer 'data' produces it, "
        "but Caffe runs layers in the file's order"
        for name, line in (("r", 1), ("s", 2))
    ]
    header = 'input: "data" input_shape { dim: 1 dim: 3 }\n'
    assert run(tmp_path, RELU + header)[1] == []  # the header stands outside of the order
    other = INPUT.replace('"data"', '"late"') + RELU.replace('"data"', '"late"').replace('"r"', '"l"')
    assert run(tmp_path, INPUT + RELU + other)[1] == []


def test_header_and_dummy_inputs_have_shapes(tmp_path: Path) -> None:
    text = (
        'input: "a" input_dim: 1 input_dim: 2 input_dim: 3 input_dim: 4\n'
        'layer { name: "b" type: "DummyData" top: "b" dummy_data_param { num: 5 channels: 6 height: 7 width: 8 } }\n'
        'layer { name: "c" type: "Concat" bottom: "a" bottom: "b" top: "c" }'
    )
    draft, problems = run(tmp_path, text)
    assert problems == []
    assert {item.blob: item.shape for item in draft.inputs} == {"a": (1, 2, 3, 4), "b": (5, 6, 7, 8)}


def test_one_shape_is_every_tops_and_several_are_one_each(tmp_path: Path) -> None:
    read = RELU + RELU.replace('"data"', '"more"').replace('"r"', '"s"')

    def shapes(given: str) -> tuple[list[object], list[str]]:
        layer = f'layer {{ name: "i" type: "Input" top: "data" top: "more" input_param {{ {given} }} }}\n'
        draft, problems = run(tmp_path, layer + read)
        return [item.shape for item in draft.inputs], problems

    assert shapes("shape { dim: 1 }") == ([(1,), (1,)], [])
    assert shapes("shape { dim: 1 } shape { dim: 2 }") == ([(1,), (2,)], [])
    found, problems = shapes("shape { dim: 1 } shape { dim: 2 } shape { dim: 3 }")
    assert (found, problems) == ([(1,), (2,)], ["layer 'i' (line 1) gives 3 shapes for 2 tops"])


@pytest.mark.parametrize(
    ("given", "shapes", "words"),
    [
        ("num: 2 channels: 3 channels: 1 height: 4 width: 5", [(2, 3, 4, 5), (2, 1, 4, 5)], ""),
        ("num: 2 channels: 3 height: 4 width: 5", [(2, 3, 4, 5)] * 2, ""),
        ("num: [1, 2] channels: [3, 4] height: 5 width: [6, 7]", [(1, 3, 5, 6), (2, 4, 5, 7)], ""),
        ("shape { dim: 2 } shape { dim: 3 }", [(2,), (3,)], ""),
        ("num: 2 channels: [1, 2, 3] height: 4", None, "gives 3 of channels, 0 of width for 2 tops; it needs num, ch"),
        ("num: [2, 2, 2] channels: [1, 2, 3] height: [4, 4, 4] width: 5", None, "gives 3 of num, 3 of channels, 3 of"),
        ("shape { dim: 2 } num: 2 width: 1", None, "gives both shape and num, width; keep one"),
    ],
)
def test_each_side_of_dummy_data_counts_by_itself(
    tmp_path: Path, given: str, shapes: list[tuple[int, ...]] | None, words: str
) -> None:
    layer = f'layer {{ name: "d" type: "DummyData" top: "data" top: "more" dummy_data_param {{ {given} }} }}\n'
    draft, problems = run(tmp_path, layer + RELU + RELU.replace('"data"', '"more"').replace('"r"', '"s"'))
    if shapes is not None:
        assert problems == []
        assert [item.shape for item in draft.inputs] == shapes
    else:
        assert problems[0].startswith(f"layer 'd' (line 1) {words}")


# ---- shapes ----------------------------------------------------------------------------------------------------------


def test_shapes_are_asked_for_by_name(tmp_path: Path) -> None:
    text = 'layer { name: "d" type: "ImageData" top: "data" }\n' + RELU
    _, problems = run(tmp_path, text)
    assert len(problems) == 1
    assert "input 'data'" in problems[0]
    assert "--input-shape data=1,3,224,224" in problems[0]
    assert run(tmp_path, text, Options(input_shapes={"data": (1, 3, 4, 4)}))[1] == []
    _, wrong = run(tmp_path, text, Options(input_shapes={"dta": (1, 3, 4, 4), None: (1, 2)}))
    assert wrong == ["--input-shape names the input 'dta', the network's inputs are: 'data'"]


def test_given_shapes_overrule_the_file(tmp_path: Path) -> None:
    draft, _ = run(tmp_path, INPUT + RELU, Options(input_shapes={"data": (5, 2)}))
    assert draft.inputs[0].shape == (5, 2)


def test_impossible_input_shapes_are_refused(tmp_path: Path) -> None:
    for shape in ((0, 2), (10**6, 10**6)):
        draft, problems = run(tmp_path, INPUT + RELU, Options(input_shapes={"data": shape}))
        assert len(problems) == 1
        assert problems[0].startswith(f"input 'data' has the impossible shape {list(shape)}")
        assert draft.inputs[0].shape is None  # nothing follows from it
    _, problems = run(tmp_path, INPUT + RELU, Options(input_shapes={"data": (1,) * 100_000}))
    assert problems == ["input 'data' has a shape of 100000 dimensions; Caffe has at most 32"]


def test_an_input_without_dimensions_is_named_where_it_does_harm(tmp_path: Path) -> None:
    empty = 'layer { name: "in" type: "Input" top: "data" input_param { shape { } } }\n'
    assert build(definition(tmp_path, empty + RELU), None).shapes == {"data": (), "r": ()}
    softmax = 'layer { name: "s" type: "Softmax" bottom: "data" top: "s" }'
    with pytest.raises(GraphError, match="of 0 axes; blob 'data' of layer 'in' \\(Input\\) has no dimensions"):
        build(definition(tmp_path, empty + softmax), None)


def test_a_net_without_inputs_says_so(tmp_path: Path) -> None:
    text = 'layer { name: "r" type: "ReLU" bottom: "x" top: "y" }'
    _, problems = run(tmp_path, text)
    assert any("no inputs" in problem for problem in problems)
    with pytest.raises(GraphError, match="no inputs"):
        build(definition(tmp_path, text), None)


def test_a_dimension_that_is_left_open_is_to_be_given(tmp_path: Path) -> None:
    text = 'layer { name: "d" type: "Input" top: "data" input_param { shape { dim: -1 dim: 3 dim: -1 dim: 64 } } }\n'
    _, problems = run(tmp_path, text + RELU)
    assert problems == [
        "input 'data' has the impossible shape [-1, 3, -1, 64]: Caffe has no dimension below 1. Give it, for example "
        "--input-shape data=1,3,224,64 (in Python: input_shapes); the batch stays free where the network allows it"
    ]


CONV = (
    'layer { name: "c" type: "Convolution" bottom: "x" top: "c" convolution_param { num_output: 1 kernel_size: 1 } }\n'
)
SUM = 'layer { name: "s" type: "Eltwise" bottom: "c" bottom: "BLOB" top: "s" }\n'


@pytest.mark.parametrize(
    ("blob", "example"), [("label", "1"), ("my_labels", "1"), ("im_info", "1,3"), ("rois", "300,5"), ("other", "1,10")]
)
def test_examples_of_shapes_fit_the_input(tmp_path: Path, blob: str, example: str) -> None:
    text = f'input: "x" input: "{blob}"\n' + CONV + SUM.replace("BLOB", blob)
    _, (first, second) = run(tmp_path, text)
    assert "for example --input-shape x=1,3,224,224 (in Python" in first
    assert f"for example --input-shape {blob}={example} (in Python" in second


def test_a_network_of_parameters_alone_says_so(tmp_path: Path) -> None:
    text = 'layer { name: "w" type: "Parameter" top: "w" parameter_param { shape { dim: 2 } } }\n'
    _, (problem,) = run(tmp_path, text + RELU.replace("data", "w"))
    assert "it has no inputs" in problem
    assert "comes from Parameter layers alone ('w') and is the same every time" in problem
