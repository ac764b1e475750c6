from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import safetensors.torch
import torch

import senet_convert
from senet_convert import bundle
from senet_convert.converter import runner
from senet_convert.converter.caffe import to_caffe
from senet_convert.converter.caffe.to_caffe import Wishes, Written
from senet_convert.converter.convert import Wishes as Conversion
from senet_convert.converter.convert import convert
from senet_convert.converter.graph.build import build
from senet_convert.converter.graph.draft import Options
from senet_convert.converter.layers.arithmetic import AbsVal
from senet_convert.converter.layers.base import Array, Shape
from senet_convert.errors import CheckError, ConvertError, ReadError, WeightsError
from senet_convert.proto import read_caffemodel, read_prototxt
from senet_convert.proto.write import write_caffemodel, write_prototxt
from tests.nets import INPUT, Files, write
from tests.paths import GOLDEN

FAMILIES = ("se_resnet", "se_resnext", "senet154_style", "se_bn_inception")
CASES = sorted(str(path.parent.relative_to(GOLDEN)) for path in GOLDEN.rglob("net.caffemodel"))


def silent(_: str) -> None:
    pass


def converted(files: Files, out: Path, **given: Any) -> Path:
    return convert(files.caffemodel, files.prototxt, out, Conversion(**{"check": False, **given}), silent).folder


def golden(case: str, out: Path) -> Path:
    return converted(Files(GOLDEN / case / "deploy.prototxt", GOLDEN / case / "net.caffemodel"), out)


def back(source: Path, name: Path, **given: Any) -> Written:
    return to_caffe.to_caffe(source, name, Wishes(**given), silent)


def weights(folder: Path) -> bytes:
    return (folder / bundle.WEIGHTS).read_bytes()


def state(folder: Path) -> dict[str, torch.Tensor]:
    return dict(safetensors.torch.load_file(folder / bundle.WEIGHTS))


def save(tensors: Mapping[str, torch.Tensor], path: Path) -> Path:
    safetensors.torch.save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    return path


def refused(folder: Path, tensors: Mapping[str, torch.Tensor]) -> list[str]:
    """The lines of the refusal of these weights."""
    path = save(tensors, folder.parent / "wrong.safetensors")
    with pytest.raises(WeightsError) as caught:
        back(folder, folder.parent / "back", weights=path)
    assert not list(folder.parent.glob("back*"))
    return str(caught.value).removeprefix(f"{path}: ").splitlines()


# ---- there and back --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
def test_weights_come_back_byte_for_byte(tmp_path: Path, case: str) -> None:
    first = golden(case, tmp_path / "first")
    done = back(first, tmp_path / "back")
    assert (done.prototxt, done.caffemodel) == (tmp_path / "back.prototxt", tmp_path / "back.caffemodel")
    assert (done.outputs, done.prototxt.read_text()) == ({}, (first / bundle.DEFINITION).read_text())
    again = converted(Files(done.prototxt, done.caffemodel), tmp_path / "again")
    assert weights(again) == weights(first)
    assert (again / bundle.DEFINITION).read_text() == (first / bundle.DEFINITION).read_text()
    if case.startswith("field/"):  # a fork's fields stand in the prototxt only
        return
    alone = convert(done.caffemodel, None, tmp_path / "alone", Conversion(check=False), silent).folder
    assert weights(alone) == weights(first)


@pytest.mark.parametrize("case", FAMILIES)
def test_what_is_written_computes_caffes_numbers(tmp_path: Path, case: str) -> None:
    done = back(golden(case, tmp_path / "first"), tmp_path / "back", stock=True)
    graph = build(read_prototxt(done.prototxt), read_caffemodel(done.caffemodel))
    assert "Axpy" not in {node.type for node in graph.nodes}
    with np.load(GOLDEN / case / "inputs.npz") as inputs, np.load(GOLDEN / case / "outputs.npz") as outputs:
        tensors, expected = runner.to_tensors(graph, dict(inputs), torch.float64), outputs["prob"]
    with torch.no_grad():
        found = runner.lower(graph)(*tensors).numpy()
    assert np.abs(found - expected).max() < 1e-6


@pytest.mark.parametrize("case", FAMILIES)
def test_a_fine_tuned_net_goes_back(tmp_path: Path, case: str) -> None:
    first = golden(case, tmp_path / "first")
    tuned = {
        name: tensor * 1.01 + 0.001 if tensor.is_floating_point() else tensor + 7
        for name, tensor in state(first).items()
    }
    path = save(tuned, tmp_path / "tuned.safetensors")
    done = back(first, tmp_path / "back", weights=path)
    model = senet_convert.load(done.caffemodel, done.prototxt)
    counters = {name for name in tuned if name.endswith("num_batches_tracked")}
    for name, tensor in model.state_dict().items():
        assert name in counters or torch.equal(tensor, tuned[name])
    factors = [layer.blobs[2].data for layer in read_caffemodel(done.caffemodel).layers if layer.type == "BatchNorm"]
    assert factors
    assert all(factor.tolist() == [1.0] for factor in factors)


def test_a_state_dict_with_a_definition_is_enough(tmp_path: Path) -> None:
    first = golden("se_resnet", tmp_path / "first")
    torch.save(state(first), tmp_path / "tuned.pth")
    done = back(tmp_path / "tuned.pth", tmp_path / "a" / "b.v2", definition=GOLDEN / "se_resnet" / "deploy.prototxt")
    assert done.caffemodel == tmp_path / "a" / "b.v2.caffemodel"
    assert weights(converted(Files(done.prototxt, done.caffemodel), tmp_path / "again")) == weights(first)
    beside = back(first / bundle.WEIGHTS, tmp_path / "beside.caffemodel")
    assert beside.caffemodel.read_bytes() == done.caffemodel.read_bytes()


def test_shared_weights_are_written_to_every_layer(tmp_path: Path) -> None:
    done = back(golden("shared_params", tmp_path / "first"), tmp_path / "back")
    written = {
        layer.name: [blob.data.tobytes() for blob in layer.blobs] for layer in read_caffemodel(done.caffemodel).layers
    }
    original = read_caffemodel(GOLDEN / "shared_params" / "net.caffemodel").layers
    held = {layer.name: [blob.data.tobytes() for blob in layer.blobs] for layer in original if layer.blobs}
    assert {name: blobs for name, blobs in written.items() if blobs} == held


def test_suspicious_weights_are_warned_of(tmp_path: Path) -> None:
    first = converted(write(tmp_path), tmp_path / "first")
    tensors = state(first)
    tensors["weights.fc/bias"][0] = float("nan")
    done = back(first, tmp_path / "back", weights=save(tensors, tmp_path / "w.safetensors"))
    assert done.warnings[0] == "layer 'fc', blob 1: 1 values are NaN and 0 infinite, of 7"


@dataclass(frozen=True)
class Halved(AbsVal):
    """Computes with half of its blob."""

    weight_names: ClassVar[tuple[str, ...]] = ("half",)

    def weights(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        return ((1, 4),)

    def prepare(self, blobs: Sequence[Array]) -> tuple[Array, ...]:
        return (blobs[0].reshape(-1)[:2],)


def test_layers_that_compute_with_other_arrays_than_their_blobs(tmp_path: Path) -> None:
    """Another shape goes back; what is lost cannot."""
    path = tmp_path / "own.prototxt"
    path.write_text(INPUT + 'layer { name: "bn" type: "BN" bottom: "data" top: "y" bn_param { eps: 0.5 } }')
    learned = {f"weights.bn/{name}": torch.rand(3) for name in ("scale", "shift", "mean", "variance")}
    done = back(save(learned, tmp_path / "bn.safetensors"), tmp_path / "back", definition=path)
    assert {blob.shape for blob in read_caffemodel(done.caffemodel).layers[1].blobs} == {(1, 3, 1, 1)}
    again = state(converted(Files(done.prototxt, done.caffemodel), tmp_path / "again"))
    assert all(torch.equal(again[name], tensor) for name, tensor in learned.items())
    path.write_text(INPUT + 'layer { name: "h" type: "Halved" bottom: "data" top: "y" }')
    tuned = save({"weights.h/half": torch.ones(2)}, tmp_path / "tuned.safetensors")
    with pytest.raises(ConvertError, match=r"layer 'h' \(Halved\) computes with other arrays than its blobs"):
        back(tuned, tmp_path / "other", definition=path, options=Options(layers={"Halved": Halved}))


# ---- other numbers of outputs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", FAMILIES)
@pytest.mark.parametrize("classes", [1, 37])
def test_a_new_classifier(tmp_path: Path, case: str, classes: int) -> None:
    first = golden(case, tmp_path / "first")
    tensors = state(first)
    before, features = tensors["last_linear.weight"].shape
    tensors["last_linear.weight"] = torch.randn(classes, features)
    tensors["last_linear.bias"] = torch.randn(classes)
    done = back(first, tmp_path / "back", weights=save(tensors, tmp_path / "w.safetensors"))
    assert done.outputs == {"classifier": (before, classes)}
    again = converted(Files(done.prototxt, done.caffemodel), tmp_path / "again", check=True)
    assert state(again).keys() == tensors.keys()
    assert all(torch.equal(value, tensors[name]) for name, value in state(again).items())


def test_narrower_layers_of_any_net(tmp_path: Path) -> None:
    text = INPUT + (
        'layer { name: "a" type: "Convolution" bottom: "data" top: "a"\n'
        '        convolution_param { num_output: 6 kernel_size: 1 weight_filler { type: "xavier" } } }\n'
        'layer { name: "b" type: "InnerProduct" bottom: "a" top: "b"\n'
        "        inner_product_param { num_output: 5 transpose: true } }\n"
    )
    first = converted(write(tmp_path, text), tmp_path / "first")
    tensors = {
        "weights.a/weight": torch.randn(4, 3, 1, 1),
        "weights.a/bias": torch.randn(4),
        "weights.b/weight": torch.randn(4 * 12 * 10, 2),
        "weights.b/bias": torch.randn(2),
    }
    done = back(first, tmp_path / "back", weights=save(tensors, tmp_path / "w.safetensors"))
    assert done.outputs == {"a": (6, 4), "b": (5, 2)}
    net = read_prototxt(done.prototxt)
    assert net.layers[1].params["convolution_param"] == {
        "num_output": 4,
        "kernel_size": (1,),
        "weight_filler": {"type": "xavier"},
    }
    assert net.layers[2].params["inner_product_param"] == {"num_output": 2, "transpose": True}


# ---- refusals --------------------------------------------------------------------------------------------------------


def test_every_misfit_is_listed(tmp_path: Path) -> None:
    first = converted(write(tmp_path), tmp_path / "first")
    tensors = state(first)
    del tensors["weights.scale/bias"]
    tensors["weights.fc/weight"] = torch.ones(7, 99)
    tensors["weights.conv/weight"] = torch.ones(6, 3, 5, 5)
    tensors["head.weight"] = torch.ones(1)
    assert refused(first, tensors) == [
        "4 problems",
        "  - it holds weights that the network lacks: head.weight",
        "  - 'weights.conv/weight' has shape 6x3x5x5, layer 'conv' (Convolution) needs 6x3x3x3",
        "  - it lacks 'weights.scale/bias', 6, for layer 'scale'",
        "  - 'weights.fc/weight' has shape 7x99, layer 'fc' (InnerProduct) needs 7x180",
        f"The network is that of {first / bundle.DEFINITION}; are these the weights of another one?",
    ]


def test_outputs_that_the_network_cannot_have_are_told(tmp_path: Path) -> None:
    first = converted(write(tmp_path), tmp_path / "first")
    tensors = state(first)
    tensors["weights.conv/weight"] = torch.ones(4, 3, 3, 3)
    lines = refused(first, tensors)
    assert "('conv' 4 instead of 6) the network is not valid" in lines[1]
    assert "layer 'axpy'" in lines[1]
    assert lines[2] == "  - 'weights.conv/weight' has shape 4x3x3x3, layer 'conv' (Convolution) needs 6x3x3x3"


def test_weights_of_a_part_only_are_told(tmp_path: Path) -> None:
    first = converted(write(tmp_path), tmp_path / "first")
    tensors = state(first)
    tensors["weights.fc/weight"] = torch.ones(3, 180)
    lines = refused(first, tensors)
    assert lines[0] == "'weights.fc/bias' has shape 7, layer 'fc' (InnerProduct) needs 3"


def test_shared_weights_that_grew_apart_are_refused(tmp_path: Path) -> None:
    first = golden("shared_params", tmp_path / "first")
    tensors = state(first)
    apart = [name for name, tensor in tensors.items() if sum(tensor.numel() == t.numel() for t in tensors.values()) > 1]
    tensors[apart[0]] = tensors[apart[0]] + 1
    with pytest.raises(ConvertError, match="different values"):
        back(first, tmp_path / "back", weights=save(tensors, tmp_path / "w.safetensors"))
    assert not list(tmp_path.glob("back*"))


def test_without_a_definition_the_message_says_what_to_do(tmp_path: Path) -> None:
    first = golden("se_resnet", tmp_path / "first")
    (first / bundle.DEFINITION).unlink()
    with pytest.raises(ConvertError, match=r"there is no model\.prototxt in .*first, .*--prototxt"):
        back(first, tmp_path / "back")
    assert back(first, tmp_path / "back", definition=GOLDEN / "se_resnet" / "deploy.prototxt").layers == 54
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConvertError, match=r"there is no model\.safetensors in it; give the weights with --weights"):
        back(tmp_path / "empty", tmp_path / "other", definition=GOLDEN / "se_resnet" / "deploy.prototxt")
    with pytest.raises(ReadError, match="neither a safetensors file"):
        back(
            GOLDEN / "se_resnet" / "net.caffemodel", tmp_path / "o", definition=GOLDEN / "se_resnet" / "deploy.prototxt"
        )


def test_what_is_wrong_with_both_files_is_told(tmp_path: Path) -> None:
    (tmp_path / bundle.DEFINITION).write_text("layer {")
    (tmp_path / bundle.WEIGHTS).write_text("nothing")
    with pytest.raises(
        ReadError, match=rf"{bundle.DEFINITION}:1:8: (?s:.*)\n.*{bundle.WEIGHTS}: neither a safetensors"
    ):
        back(tmp_path, tmp_path / "back")


def test_two_files_of_weights_are_refused(tmp_path: Path) -> None:
    first = golden("se_resnet", tmp_path / "first")
    with pytest.raises(ConvertError, match="both are weights"):
        back(first / bundle.WEIGHTS, tmp_path / "back", weights=first / bundle.WEIGHTS)


def test_a_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = golden("se_resnet", tmp_path / "first")
    (tmp_path / "back.prototxt").write_text("mine")

    def full(net: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(to_caffe, "write_caffemodel", full)
    with pytest.raises(ConvertError, match="the disk is full"):
        back(first, tmp_path / "back", force=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["back.prototxt", "first"]
    assert (tmp_path / "back.prototxt").read_text() == "mine"


def test_another_network_than_wanted_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(net: Any, path: Path) -> None:
        write_prototxt(net, path)
        path.write_text(path.read_text().replace("negative_slope", "# "))

    first = golden("text_format_variants", tmp_path / "first")
    monkeypatch.setattr(to_caffe, "write_prototxt", wrong)
    with pytest.raises(CheckError, match="fields that Caffe's format lacks"):
        back(first, tmp_path / "back")
    assert not list(tmp_path.glob("back*"))


def test_what_was_written_is_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = golden("se_resnet", tmp_path / "first")

    def wrong(net: Any, path: Path) -> None:
        write_caffemodel(net, path)
        data = bytearray(path.read_bytes())
        place = bytes(state(first)["last_linear.bias"].numpy().tobytes())
        data[data.index(place)] ^= 1
        path.write_bytes(data)

    monkeypatch.setattr(to_caffe, "write_caffemodel", wrong)
    with pytest.raises(CheckError, match=r"differ from those given: 'last_linear\.bias'"):
        back(first, tmp_path / "back")
    assert not list(tmp_path.glob("back*"))
