from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from senet_convert.converter.caffe.upgrade import modern, upgrade
from senet_convert.converter.convert import Wishes, convert
from senet_convert.converter.graph.build import build
from senet_convert.errors import ConvertError, ReadError
from senet_convert.proto import is_text, read_caffemodel, read_prototxt
from tests.nets import definition
from tests.paths import GOLDEN

LEGACY = ("legacy_v0", "legacy_v1")


def silent(_: str) -> None:
    pass


@pytest.mark.parametrize("case", LEGACY)
def test_an_upgraded_network_is_the_same_network(tmp_path: Path, case: str) -> None:
    folder = GOLDEN / case
    done = upgrade(folder / "net.caffemodel", folder / "deploy.prototxt", tmp_path / "new.caffemodel", False, silent)
    assert done.files == (tmp_path / "new.caffemodel", tmp_path / "new.prototxt")
    assert done.warnings == ()
    for path in done.files:
        assert b"layers {" not in path.read_bytes()
    before, after = read_caffemodel(folder / "net.caffemodel"), read_caffemodel(done.files[0])
    assert done.blobs == sum(len(layer.blobs) for layer in before.layers)
    one = build(read_prototxt(folder / "deploy.prototxt"), before)
    for net in (read_prototxt(done.files[1]), after):
        other = build(net, after)
        assert (other.nodes, other.shapes, other.outputs) == (one.nodes, one.shapes, one.outputs)
        for key, array in one.accounts.arrays.items():
            np.testing.assert_array_equal(other.accounts.arrays[key], array)
    report = convert(*done.files, tmp_path / "out", Wishes(), silent).report
    assert report["verdict"] == "passed"


def test_files_of_two_networks_are_written_with_a_warning(tmp_path: Path) -> None:
    prototxt, caffemodel = GOLDEN / "legacy_v0" / "deploy.prototxt", GOLDEN / "legacy_v1" / "net.caffemodel"
    (warning,) = upgrade(caffemodel, prototxt, tmp_path / "new.caffemodel", False, silent).warnings
    assert warning == (f"{prototxt} lacks layers that {caffemodel} has weights for: fc6, fc7. Are they of one network?")


def test_the_text_in_todays_form(tmp_path: Path) -> None:
    old = """
    name: "old" input: "data" input_dim: 1 input_dim: 3 input_dim: 8 input_dim: 8
    layers { name: "c" type: CONVOLUTION bottom: "data" top: "c" blobs_lr: 1 blobs_lr: 2 weight_decay: 1
             convolution_param { num_output: 4 kernel_size: 3 } }
    layers { name: "loss" type: SOFTMAX_LOSS bottom: "c" bottom: "label" include: { phase: TRAIN } loss_weight: 0.5 }
    """
    (tmp_path / "old.prototxt").write_text(old)
    upgrade(tmp_path / "old.prototxt", None, tmp_path / "new.prototxt", False, silent)
    expected = (
        'name: "old" layer { name: "input" type: "Input" top: "data" '
        "input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } } } "
        'layer { name: "c" type: "Convolution" bottom: "data" top: "c" '
        "param { lr_mult: 1 decay_mult: 1 } param { lr_mult: 2 } "
        "convolution_param { num_output: 4 kernel_size: 3 } } "
        'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "c" bottom: "label" loss_weight: 0.5 '
        "include { phase: TRAIN } }"
    )
    assert " ".join((tmp_path / "new.prototxt").read_text().split()) == expected


def test_a_caffemodel_gives_its_definition_as_text(tmp_path: Path) -> None:
    file = GOLDEN / "se_resnet" / "net.caffemodel"
    done = upgrade(file, None, tmp_path / "net.prototxt", False, silent)
    assert done.blobs == 0
    one, other = build(read_caffemodel(file), None), build(read_prototxt(done.files[0]), None)
    assert (other.nodes, other.shapes) == (one.nodes, one.shapes)


def test_todays_caffemodel_stays_as_it_is(tmp_path: Path) -> None:
    file = GOLDEN / "se_resnet" / "net.caffemodel"
    done = upgrade(file, None, tmp_path / "again", False, silent)
    assert done.files[0].read_bytes() == file.read_bytes()


def test_inputs_without_shapes_keep_their_header(tmp_path: Path) -> None:
    net = definition(tmp_path, 'input: "x" layer { name: "r" type: "ReLU" bottom: "x" top: "y" }')
    assert modern(net) is net
    without = definition(tmp_path, 'layer { name: "r" type: "ReLU" bottom: "x" top: "y" }')
    assert modern(without) is without


def test_what_is_left_out_is_told(tmp_path: Path) -> None:
    text = 'layer { name: "a" type: "ReLU" include { rule: 1 } fork: 1\nblobs { shape { dim: 1 } data: 2 } }\nother: 3'
    (tmp_path / "a.prototxt").write_text(text)
    done = upgrade(tmp_path / "a.prototxt", None, tmp_path / "b.prototxt", False, silent)
    assert [warning.removeprefix(f"{tmp_path / 'a.prototxt'}:") for warning in done.warnings] == [
        "3: unknown field 'other' of NetParameter; it was left out",
        "1: layer 'a': unknown field 'rule' of NetStateRule; it was left out",
        "1: layer 'a': unknown field 'fork' of LayerParameter; it was left out",
        " the blobs in it were left out, of layers a",
    ]


def test_kinds_that_do_not_go_together_are_refused(tmp_path: Path) -> None:
    folder = GOLDEN / "legacy_v1"
    text, binary = folder / "deploy.prototxt", folder / "net.caffemodel"
    with pytest.raises(ConvertError, match=r"it is a text prototxt; name a \.prototxt"):
        upgrade(text, None, tmp_path / "a.caffemodel", False, silent)
    for file, out in ((text, "a.prototxt"), (binary, "a.prototxt")):
        with pytest.raises(ConvertError, match="only for a caffemodel that is written as one"):
            upgrade(file, text, tmp_path / out, False, silent)
    (tmp_path / "empty").touch()
    with pytest.raises(ReadError, match="the file is empty"):
        upgrade(tmp_path / "empty", None, tmp_path / "a.caffemodel", False, silent)
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_what_is_wrong_with_both_files_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.caffemodel").touch()
    with pytest.raises(ReadError, match=r"a\.caffemodel: the file is empty .*\n.*a\.prototxt: there is no such file"):
        upgrade(tmp_path / "a.caffemodel", tmp_path / "a.prototxt", tmp_path / "b.caffemodel", False, silent)
    assert [path.name for path in tmp_path.iterdir()] == ["a.caffemodel"]


def test_text_is_known_by_its_content(tmp_path: Path) -> None:
    assert is_text(GOLDEN / "legacy_v0" / "deploy.prototxt")
    assert not is_text(GOLDEN / "legacy_v0" / "net.caffemodel")
    assert not is_text(GOLDEN / "hdf5_weights" / "net.caffemodel.h5")
