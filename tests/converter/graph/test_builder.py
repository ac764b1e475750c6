from __future__ import annotations

from pathlib import Path
from time import process_time

import pytest

from senet_convert.converter.graph.build import build
from senet_convert.converter.graph.graph import Graph
from senet_convert.errors import GraphError
from tests.nets import INPUT, SE_NET, definition, write


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
        (
            'layer { name: "w" type: "Slice" bottom: "data" top: "y" top: "y" slice_param { slice_point: 1 } }',
            ["'w' (line 2) names the top 'y' more than once"],
        ),
        ('layer { name: "w" type: "Split" bottom: "data" top: "y" top: "y" }', ["'w' (line 2) names the top 'y'"]),
        (
            relu("a", "data", "x") + 'layer { name: "w" type: "Split" bottom: "x" top: "x" top: "y" }',
            ["'w' (line 3): layers of type Split cannot work in place"],
        ),
        *(
            (
                f'layer {{ name: "w" type: "Split" bottom: "data" bottom: "data" top: "{top}" }}',
                ["'w' (line 2): it has 2 bottoms, its type takes 1"],
            )
            for top in ("y", "data_data_0_split_0")
        ),
        ('layer { name: "w" type: "Split" top: "y" }', ["'w' (line 2): it has 0 bottoms, its type takes 1"]),
        ('layer { name: "w" type: "Split" bottom: "data" }', ["'w' (line 2): it has 0 tops, its type takes 1 or more"]),
        (
            relu("a", "data", "a") + 'layer { name: "w" type: "Dropout" bottom: "data" bottom: "a" top: "y" }',
            ["'w' (line 3): it has 2 bottoms, its type takes 1"],
        ),
        (
            'layer { name: "w" type: "Dropout" bottom: "data" top: "y" top: "z" }',
            ["'w' (line 2): it has 2 tops, its type takes 1"],
        ),
        *(
            (
                f'layer {{ name: "w" type: "{kind}" bottom: "data" top: "w" {params} }}',
                [f"'w' (line 2): it has {have} param {{ }} for {blobs} blobs"],
            )
            for kind, params, have, blobs in (
                ("ReLU", "param { lr_mult: 0 }", 1, 0),
                ("Dropout", "param { }", 1, 0),
                ("Split", "param { } param { }", 2, 0),
                ("PReLU", 'param { name: "a" } param { name: "b" }', 2, 1),
            )
        ),
        (relu("w", "data", ""), ["net.prototxt: layer 'w' (line 2) has a top without a name"]),
        ('input: "" input_dim: 1 input_dim: 1 input_dim: 1 input_dim: 1 ' + relu("w", "", "w"), ["without a name"]),
        (
            'layer { name: "w" type: "Reshape" bottom: "data" top: "w" '
            "reshape_param { axis: 1 num_axes: 0 shape {" + " dim: 1" * 30 + " } } }",
            ["'w' (line 2): its top 'w' would have 34 axes; Caffe has at most 32"],
        ),
    ],
)
def test_refusals_name_layer_and_blob(tmp_path: Path, layers: str, words: list[str]) -> None:
    message = refusal(tmp_path, layers)
    assert [word for word in words if word not in message] == []


def test_as_many_param_as_blobs_are_allowed_and_fewer(tmp_path: Path) -> None:
    fc = 'layer { name: "w" type: "InnerProduct" bottom: "data" top: "w" SPECS inner_product_param { num_output: 2 } }'
    for count in range(3):
        assert build(definition(tmp_path, INPUT + fc.replace("SPECS", "param { } " * count)), None).wanted
    gone = 'layer { name: "x" type: "Accuracy" bottom: "w" top: "x" param { } }'  # nothing that inference runs
    assert build(definition(tmp_path, INPUT + fc.replace("SPECS", "") + gone), None).outputs == ("w",)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (INPUT, "no layer is left to run at inference"),
        (
            INPUT + 'layer { name: "p" type: "Parameter" top: "p" parameter_param { shape { dim: 1 } } }',
            "no layer that runs at inference reads an input",
        ),
        (
            INPUT.replace("type:", "include { phase: TRAIN } type:"),
            "the rules of its layers leave nothing to run in phase TEST; see --phase, --stage and --level",
        ),
    ],
)
def test_nothing_to_run_is_one_problem(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(GraphError) as caught:
        graph(tmp_path, text)
    assert str(caught.value) == f"{tmp_path}/net.prototxt: {words}"


def test_all_problems_come_at_once(tmp_path: Path) -> None:
    message = refusal(
        tmp_path,
        relu("a", "nowhere", "a")
        + 'layer { name: "p" type: "Pooling" bottom: "data" top: "p" pooling_param { kernel_size: 99 } }\n'
        + 'layer { name: "w" type: "FooBar" bottom: "p" top: "w" }',
    )
    assert "3 problems" in message
    assert all(word in message for word in ("nowhere", "kernel 99x99", "FooBar"))


CONV = "convolution_param { num_output: 4 kernel_size: 1 }"


@pytest.mark.parametrize(
    "fault",
    [
        'layer { name: "f" type: "Convolution" bottom: "data" top: "x" convolution_param { num_output: 4 } }',
        'layer { name: "f" type: "FooBar" bottom: "data" top: "x" }',
        'layer { name: "f" type: "ReLU" bottom: "data" top: "x" relu_param { slope: 1 } }',
        'layer { name: "f" type: "ReLU" bottom: "nowhere" top: "x" }',
        'layer { name: "f" type: "Slice" bottom: "data" top: "x" top: "x" }',
        'layer { name: "f" type: "Dropout" bottom: "data" bottom: "data" top: "x" }',
        relu("r", "data", "y") + relu("s", "y", "s") + 'layer { name: "f" type: "ReLU" bottom: "y" top: "y" top: "x" }',
    ],
)
def test_one_fault_is_one_problem_whatever_comes_after(tmp_path: Path, fault: str) -> None:
    files = write(tmp_path)
    files.prototxt.write_text(
        INPUT
        + fault
        + f'layer {{ name: "conv" type: "Convolution" bottom: "x" top: "c" {CONV} }}\n'
        + 'layer { name: "bn" type: "BatchNorm" bottom: "c" top: "c" }\n'
        + 'layer { name: "fc" type: "InnerProduct" bottom: "c" top: "fc" inner_product_param { num_output: 7 } }'
    )
    with pytest.raises(GraphError) as caught:
        files.graph()
    assert "problems" not in str(caught.value)
    assert "layer 'f' " in str(caught.value)


def test_layers_behind_a_fault_are_not_ones_that_the_network_lacks(tmp_path: Path) -> None:
    files = write(tmp_path)
    files.prototxt.write_text(
        SE_NET.replace('name: "conv"', 'name: "conv0"').replace("scale_param {", "scale_param { axis: 7")
    )
    with pytest.raises(GraphError) as caught:
        files.graph()
    assert "2 problems" in str(caught.value)
    assert "holds no weights for these layers of the network: conv0; " in str(caught.value)
    assert "that the network lacks: conv." in str(caught.value)


def test_wide_networks_do_not_take_the_square_of_their_time(tmp_path: Path) -> None:
    """It takes a fraction of a second; where each of these grows with the square, more than ten of them each."""
    many = range(20000)
    tops = " ".join(f'top: "s{i}"' for i in many)
    split = definition(
        tmp_path, INPUT + f'layer {{ name: "s" type: "Split" bottom: "data" {tops} }}' + relu("a", "s0", "a")
    )
    unknown = definition(tmp_path, INPUT + "".join(relu(f"r{i}", f"x{i}", f"y{i}") for i in many))
    begin = process_time()
    assert len(build(split, None).outputs) == 20000
    with pytest.raises(GraphError, match="20000 problems"):
        build(unknown, None)
    assert process_time() - begin < 10


def test_faults_in_layers_that_are_dropped_do_not_matter(tmp_path: Path) -> None:
    text = SE_NET + 'layer { name: "a" type: "Accuracy" bottom: "fc" bottom: "data" top: "x" accuracy_param { z: 1 } }'
    assert graph(tmp_path, text).outputs == ("prob",)


def refused(folder: Path, layers: str) -> list[str]:
    with pytest.raises(GraphError) as caught:
        graph(folder, INPUT + layers)
    return str(caught.value).splitlines()


def test_an_unknown_type_is_told_once_with_the_way_out(tmp_path: Path) -> None:
    """Not once for its message, and once more for itself; nor with all the types that there are."""
    text = "".join(
        f'layer {{ name: "w{i}" type: "Frobnicate" bottom: "data" top: "w{i}" frobnicate_param {{ x: 1 }} }}\n'
        for i in range(3)
    )
    first, second = refused(tmp_path, text)
    assert first.endswith(
        "layer type 'Frobnicate' is not supported: layer 'w0' (line 2), layer 'w1' (line 3), layer 'w2' (line 4)"
    )
    assert second == (
        "Supported layer types stand in docs/layers.md. Others can be added from outside, by a class each (--layers "
        "FILE.py): see docs/custom_layers.md. Or end the network before them: --outputs BLOB,..."
    )


@pytest.mark.parametrize(
    ("second", "words"),
    [
        ("convolution_param { num_output: 2 kernel_sizes: 3 }", "unknown field 'kernel_sizes' of ConvolutionParameter"),
        ("convolution_param { num_output: 2 kernel_size: 30 }", "kernel 30x30"),
        ("convolution_param { num_output: 2 kernel_size: 1 } botom: 'data'", "unknown field 'botom'"),
    ],
)
def test_of_a_misspelt_type_the_other_fault_is_told_too(tmp_path: Path, second: str, words: str) -> None:
    lines = refused(
        tmp_path,
        f'layer {{ name: "w" type: "Convolutoin" bottom: "data" top: "w"\n {second} }}\n' + relu("r", "w", "r"),
    )
    assert "2 problems" in lines[0]
    assert any(words in line and "line" in line for line in lines[1:])
    assert any(
        "'Convolutoin' is not supported: layer 'w' (line 2); did you mean 'Convolution' or" in line for line in lines
    )


def test_a_fault_behind_a_misspelt_type_is_told_too(tmp_path: Path) -> None:
    text = 'layer { name: "p" type: "Poolling" bottom: "data" top: "p" pooling_param { kernel_size: 1 } }\n'
    text += 'layer { name: "s" type: "Slice" bottom: "p" top: "a" top: "b" slice_param { slice_point: 90 } }\n'
    lines = refused(tmp_path, text)
    assert any("'Poolling' is not supported: layer 'p' (line 2); did you mean 'Pooling'" in line for line in lines)
    assert any("layer 's' (line 3): slice_point 90" in line for line in lines)


def test_statistics_of_batches_are_refused_in_one_line(tmp_path: Path) -> None:
    text, below = "", "data"
    for i in range(53):
        text += f'layer {{ name: "bn{i}" type: "BatchNorm" bottom: "{below}" top: "bn{i}" '
        text += "batch_norm_param { use_global_stats: false } }\n"
        below = f"bn{i}"
    (line,) = refused(tmp_path, text)
    assert line.count("use_global_stats: false") == 1
    assert "Set it to true in the prototxt" in line
    assert "(53 layers: 'bn0' (line 2), 'bn1' (line 3)," in line
    assert "'bn52' (line 54))" in line


def test_python_layers_say_what_they_run_and_how_to_add_it(tmp_path: Path) -> None:
    text = (
        'layer { name: "roi" type: "Python" bottom: "data" top: "rois" '
        "python_param { module: 'rpn.proposal_layer' layer: 'ProposalLayer' param_str: 'feat_stride' } }\n"
        'layer { name: "own" type: "Python" bottom: "data" top: "own" python_param { module: "m" layer: "L" } }\n'
    )
    _, first, second = refused(tmp_path, text)
    assert (
        "layer 'roi' (line 2), param_str 'feat_stride': Python code runs in Caffe only: class 'ProposalLayer'" in first
    )
    assert first.endswith("see 'Proposals' in docs/layers.md")
    assert "Python code runs in Caffe only: class 'L' of module 'm'." in second
    assert "in a class L with message = " in second
    assert "--layers FILE.py" in second
    assert second.endswith("see 'Python layers' in docs/custom_layers.md")


def test_python_layers_of_one_class_are_told_in_one_line(tmp_path: Path) -> None:
    text, below = "", "data"
    for i in range(3):
        text += f'layer {{ name: "p{i}" type: "Python" bottom: "{below}" top: "p{i}" '
        text += f'python_param {{ module: "m" layer: "Times" param_str: "{i + 2}" }} }}\n'
        below = f"p{i}"
    (line,) = refused(tmp_path, text)
    assert "Python code runs in Caffe only: class 'Times' of module 'm'." in line
    assert line.endswith(
        "(3 layers: 'p0' (line 2), param_str '2', 'p1' (line 3), param_str '3', 'p2' (line 4), param_str '4')"
    )


@pytest.mark.parametrize(
    "kind", ["Relu", "Convolutionn", "SoftMax", "convolution", "Poling", "Innerproduct", "DropOut"]
)
def test_a_type_that_is_nearest_to_one_goes_on_as_that(tmp_path: Path, kind: str) -> None:
    """PReLU and Deconvolution are alike too, but less."""
    wrong = {
        "Relu": "relu_param { slope: 1 }",
        "Convolutionn": "convolution_param { num_output: 2 }",
        "convolution": "convolution_param { num_output: 2 }",
        "SoftMax": "softmax_param { axis: 7 }",
        "Poling": "pooling_param { kernel_size: 99 }",
        "Innerproduct": "inner_product_param { bias_term: false }",
        "DropOut": "dropout_param { sample_weights_test: true }",
    }
    lines = refused(tmp_path, f'layer {{ name: "w" type: "{kind}" bottom: "data" top: "w" {wrong[kind]} }}\n')
    assert "2 problems" in lines[0]
    assert any(f"layer type '{kind}' is not supported: layer 'w' (line 2); did you mean '" in line for line in lines)


@pytest.mark.parametrize(
    "layer",
    [
        'type: "Convolution3D" convolution3d_param { num_output: 2 }',
        'type: "PoolingEx" pooling_ex_param { kernel_size: 2 }',
        'type: "Eltwises"',
    ],
)
def test_a_forks_type_is_told_once(tmp_path: Path, layer: str) -> None:
    """Neither its message nor its number of bottoms is another type's fault."""
    lines = refused(tmp_path, f'layer {{ name: "w" bottom: "data" top: "w" {layer} }}\n')
    assert "is not supported: layer 'w' (line 2); did you mean '" in lines[0]
    assert not any("bottoms" in line or "_param" in line for line in lines)


@pytest.mark.parametrize("kind", ["Region", "YoloDetectionOutput", "Yolov3DetectionOutput"])
def test_yolos_outputs_are_cut_as_the_docs_say(tmp_path: Path, kind: str) -> None:
    lines = refused(tmp_path, f'layer {{ name: "y" type: "{kind}" bottom: "data" top: "y" yolo_param {{ n: 1 }} }}\n')
    assert lines[0].endswith(
        f"layer type '{kind}' is not supported: layer 'y' (line 2); end the network before it: see 'YOLO' in "
        "docs/layers.md"
    )
