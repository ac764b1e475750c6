from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from senet_convert.converter.caffe.definition import inference, same_layers, write_definition
from senet_convert.converter.graph.build import build
from senet_convert.converter.graph.draft import Options
from senet_convert.converter.metadata import preprocessing
from senet_convert.errors import GraphError
from senet_convert.proto import State, read_caffemodel, read_prototxt
from senet_convert.proto.write import to_text
from tests.nets import SE_NET, definition, write
from tests.paths import GOLDEN

CASES = sorted(path.parent for path in GOLDEN.rglob("net.caffemodel"))
FILES = [(case, name) for case in CASES for name in ("deploy.prototxt", "net.caffemodel")]

TRAINING = """
name: "t"
# a note
layer { name: "train" type: "Data" top: "data" top: "label" include { phase: TRAIN } data_param { batch_size: 4 } }
layer { name: "test" type: "Data" top: "data" top: "label" include { phase: TEST } phase: TEST
        transform_param { mean_value: 104 mean_value: 117 mean_value: 123 scale: 0.5 } data_param { batch_size: 2 } }
layer { name: "data" type: "Convolution" bottom: "data" top: "c" param { lr_mult: 2 } loss_weight: 0
        convolution_param { num_output: 3 kernel_size: 3 } }
layer { name: "deploy" type: "ReLU" bottom: "c" top: "c" include { stage: "deploy" } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "c" bottom: "label" top: "loss" }
"""


@pytest.mark.parametrize(
    ("case", "name"),
    [(case, name) for case, name in FILES if name == "deploy.prototxt" or case.parent.name != "field"],
    ids=lambda part: getattr(part, "name", part),
)  # a fork's caffemodel does not say what its layers are
def test_the_graph_is_that_of_the_files(case: Path, name: str, tmp_path: Path) -> None:
    path = case / name
    net = read_prototxt(path) if path.suffix == ".prototxt" else read_caffemodel(path)
    made = definition(tmp_path, to_text(inference(net, Options())))
    one, other = build(net, None), build(made, None)
    for part in ("name", "inputs", "outputs", "nodes", "shapes", "batched", "blobs", "wanted", "dropouts"):
        assert getattr(other, part) == getattr(one, part)


def test_training_nets_become_what_runs(tmp_path: Path) -> None:
    net = definition(tmp_path, TRAINING)
    options = Options(State("TEST", 0, ("deploy",)), {"data": (1, 3, 8, 9)})
    made = inference(net, options)
    assert [(layer.name, layer.type, layer.bottoms, layer.tops) for layer in made.layers] == [
        ("data_2", "Input", (), ("data",)),
        ("data", "Convolution", ("data",), ("c",)),
        ("deploy", "ReLU", ("c",), ("c",)),
        ("loss", "Softmax", ("c",), ("prob",)),
    ]
    assert made.layers[0].params["input_param"]["shape"][0]["dim"] == (1, 3, 8, 9)
    assert not any(layer.include or layer.exclude for layer in made.layers)
    assert made.layers[1].rest == {"param": ({"lr_mult": 2.0},)}  # not its loss_weight
    assert made.comments == ("a note",)
    assert to_text(inference(made, Options())) == to_text(made)


def test_preprocessing_stays_known(tmp_path: Path) -> None:
    net = definition(tmp_path, TRAINING)
    options = Options(input_shapes={"data": (1, 3, 8, 9)})
    found = preprocessing.stated(inference(net, options), build(net, None, options))
    assert found is not None
    again = preprocessing.stated(net, build(net, None, options))
    assert again is not None
    assert found.preprocess == again.preprocess
    assert (found.preprocess.mean, found.preprocess.scale) == ((104, 117, 123), 0.5)
    commented = inference(definition(tmp_path, SE_NET), Options())
    assert "# mean_value: 104, 117, 123\n" in to_text(commented)


def test_a_definition_that_says_another_network_is_not_kept(tmp_path: Path) -> None:
    net, path = definition(tmp_path, SE_NET), tmp_path / "model.prototxt"
    built = build(net, None)
    assert write_definition(net, Options(), built, path) == ()
    assert same_layers(build(read_prototxt(path), None), built)
    path.unlink()
    other = build(definition(tmp_path, SE_NET.replace("stride: 2", "stride: 1")), None)
    (warning,) = write_definition(net, Options(), other, path)
    assert warning.startswith("model.prototxt is left out: the network has fields that Caffe's format lacks")
    assert not path.exists()


def test_numbers_that_are_nan_are_kept(tmp_path: Path) -> None:
    text = SE_NET.replace('"BatchNorm"', '"BatchNorm" batch_norm_param { eps: nan }')
    net, path = definition(tmp_path, text), tmp_path / "model.prototxt"
    built = build(net, None)
    assert write_definition(net, Options(), built, path) == ()
    assert same_layers(build(read_prototxt(path), None), built)
    number = build(definition(tmp_path, text.replace("nan", "0.1")), None)
    assert not same_layers(number, built)


def test_weights_that_are_not_finite_are_no_reason_to_leave_it_out(tmp_path: Path) -> None:
    files = write(tmp_path)
    net = read_prototxt(files.prototxt)
    holed = read_caffemodel(files.caffemodel)
    blob = next(layer.blobs[0] for layer in holed.layers if layer.blobs)
    blob.data[0] = np.nan
    built = build(net, holed)
    assert built.accounts.warnings
    assert write_definition(net, Options(), built, tmp_path / "model.prototxt") == ()


def test_fields_of_forks_that_have_no_effect_need_not_be_written(tmp_path: Path) -> None:
    text = SE_NET.replace('type: "Sigmoid"', 'type: "Sigmoid" engine: "MKL" transform_param { fork: 1 }')
    net, path = definition(tmp_path, text), tmp_path / "model.prototxt"
    assert write_definition(net, Options(), build(net, None), path) == ()
    assert "MKL" not in path.read_text()


def test_without_check_only_fields_of_forks_are_a_reason_to_read_it_again(tmp_path: Path) -> None:
    net, path = definition(tmp_path, SE_NET), tmp_path / "model.prototxt"
    other = build(definition(tmp_path, SE_NET.replace("stride: 2", "stride: 1")), None)
    assert write_definition(net, Options(), other, path, check=False) == ()
    assert path.read_text() == to_text(inference(net, Options()))
    forked = definition(tmp_path, SE_NET.replace('type: "Sigmoid"', 'type: "Sigmoid" engine: "MKL"'))
    (warning,) = write_definition(forked, Options(), other, path, check=False)
    assert "Caffe's format lacks" in warning
    assert not path.exists()
    header = definition(tmp_path, 'fork: "net"\n' + SE_NET)
    (warning,) = write_definition(header, Options(ignore_fields=("fork",)), other, path, check=False)
    assert not path.exists()


def test_a_network_that_cannot_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GraphError, match="input 'data' has no shape"):
        inference(definition(tmp_path, TRAINING), Options())
