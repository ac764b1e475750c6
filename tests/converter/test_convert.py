from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from safetensors.numpy import load_file

import senet_convert
from senet_convert import bundle
from senet_convert.converter import convert as room
from senet_convert.converter.check import written_weights
from senet_convert.converter.convert import Result, Wishes, convert
from senet_convert.converter.export import onnx as onnx_export
from senet_convert.converter.graph.draft import Options
from senet_convert.converter.state_dict import write_state
from senet_convert.deploy.runtime.session import Session, newest_opset
from senet_convert.errors import CheckError, ConvertError
from senet_convert.proto import caffe_pb2
from tests.nets import INPUT, SE_NET, Files, write
from tests.paths import GOLDEN


def silent(_: str) -> None:
    pass


def run(files: Files, out: Path, **given: Any) -> Result:
    return convert(files.caffemodel, files.prototxt, out, Wishes(**given), silent)


def golden(name: str) -> Files:
    return Files(GOLDEN / name / "deploy.prototxt", GOLDEN / name / "net.caffemodel")


@pytest.mark.parametrize(
    ("case", "family"),
    [
        ("se_resnet", "SE-ResNet"),
        ("se_resnext", "SE-ResNeXt"),
        ("senet154_style", "SENet"),
        ("se_bn_inception", "SE-BN-Inception"),
    ],
)
def test_se_nets_are_converted_and_checked(tmp_path: Path, case: str, family: str) -> None:
    result = run(golden(case), tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "model.onnx",
        "model.prototxt",
        "model.safetensors",
        "report.html",
        "report.json",
    ]
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report == json.loads(json.dumps(result.report))
    assert report["verdict"] == "passed"
    assert report["network"]["family"] == family
    assert all(item["bit_exact"] for item in report["weights"]["files"])
    assert set(report["check"]["engines"]) == {"generic float32", "PyTorch net", "onnxruntime"}


DEEP = INPUT + (
    'layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"\n'
    "        convolution_param { num_output: 13 kernel_size: 3 pad: 1 } }\n"
    'layer { name: "scale" type: "Scale" bottom: "conv" top: "conv" scale_param { bias_term: true } }\n'
    'layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }\n'
    'layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool" pooling_param { kernel_size: 3 stride: 2 } }\n'
    'layer { name: "conv2" type: "Convolution" bottom: "pool" top: "conv2"\n'
    "        convolution_param { num_output: 17 kernel_size: 3 pad: 1 bias_term: false } }\n"
    'layer { name: "bn" type: "BatchNorm" bottom: "conv2" top: "conv2" }\n'
    'layer { name: "relu2" type: "ReLU" bottom: "conv2" top: "conv2" }\n'
    'layer { name: "gap" type: "Pooling" bottom: "conv2" top: "gap"\n'
    "        pooling_param { pool: AVE global_pooling: true } }\n"
    'layer { name: "fc" type: "InnerProduct" bottom: "gap" top: "fc" inner_product_param { num_output: 5 } }\n'
    'layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }\n'
)


@pytest.mark.parametrize(
    ("text", "layer", "index", "value"),
    [
        *[(text, "conv", 0, value) for text in (SE_NET, DEEP) for value in (np.nan, np.inf, -np.inf)],
        (SE_NET, "bn", 1, -3),
        (DEEP, "scale", 1, -np.inf),
    ],
)
def test_values_that_are_not_finite_go_through_as_in_caffe(
    tmp_path: Path, text: str, layer: str, index: int, value: float
) -> None:
    """Behind a maximum of NaN, which is -FLT_MAX, all engines overflow: that is no fault of any of them."""
    files = write(tmp_path, text)
    net = caffe_pb2.NetParameter.FromString(files.caffemodel.read_bytes())
    (held,) = [item.blobs[index] for item in net.layer if item.name == layer]
    held.data = np.append(np.float32(value), np.frombuffer(held.data, "<f4")[1:]).tobytes()
    files.caffemodel.write_bytes(net.SerializeToString())
    result = run(files, tmp_path / "out", all_blobs=True)
    assert result.check is not None
    assert result.check.passed
    x = np.random.default_rng(0).normal(0, 1, (2, 3, 12, 10)).astype(np.float32)
    found = Session(tmp_path / "out" / "model.onnx").run({"data": x})
    assert np.isnan(found["conv"][:, 0]).any()
    assert not np.isnan(found["pool"]).any()


def test_the_safetensors_load_into_the_family_net(tmp_path: Path) -> None:
    files = golden("se_resnet")
    run(files, tmp_path / "out", check=False)
    state = {name: torch.from_numpy(value) for name, value in load_file(tmp_path / "out" / "model.safetensors").items()}
    model = senet_convert.load(files.caffemodel)
    model.load_state_dict(state, strict=True)


def test_a_net_of_no_family_gets_the_generic_module(tmp_path: Path) -> None:
    files = write(tmp_path)
    result = run(files, tmp_path / "out")
    assert result.report["network"]["family"] is None
    assert result.report["verdict"] == "passed"
    state = load_file(tmp_path / "out" / "model.safetensors")
    assert "weights.conv/weight" in state
    x = torch.zeros(2, 3, 12, 10)
    assert senet_convert.load(files.caffemodel)(x).shape == (2, 7)


def test_a_caffemodel_alone_is_enough(tmp_path: Path) -> None:
    files = golden("se_resnet")
    result = convert(files.caffemodel, None, tmp_path / "out", Wishes(), silent)
    assert result.report["verdict"] == "passed"
    assert [source["role"] for source in result.report["sources"]] == ["caffemodel"]


def test_the_onnx_file_carries_what_serving_needs(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("a\nb\nc\nd\ne\nf\ng\n", encoding="utf-8")
    run(write(tmp_path), tmp_path / "out", labels=tmp_path / "labels.txt", resize=14, scale=0.5, check=False)
    model = onnx.load(str(tmp_path / "out" / "model.onnx"))
    props = {item.key: item.value for item in model.metadata_props}
    stated = json.loads(props["preprocess"])
    assert stated["mean"] == [104, 117, 123]
    assert (stated["size"], stated["resize"], stated["scale"]) == ([12, 10], 14, 0.5)
    assert json.loads(props["labels"]) == list("abcdefg")
    sources = json.loads(props["sources"])
    assert {source["role"] for source in sources} == {"caffemodel", "prototxt"}
    assert all(len(source["sha256"]) == 64 for source in sources)


def test_all_blobs_and_chosen_outputs(tmp_path: Path) -> None:
    files = write(tmp_path)
    run(files, tmp_path / "all", all_blobs=True)
    assert [item.name for item in onnx.load(str(tmp_path / "all" / "model.onnx")).graph.output] == [
        "conv",
        "gap",
        "down",
        "sum",
        "pool",
        "fc",
        "prob",
    ]
    result = run(files, tmp_path / "some", outputs=("gap", "fc"))
    assert [item["name"] for item in result.report["onnx"]["outputs"]] == ["gap", "fc"]
    with pytest.raises(ConvertError, match="no such blob: nothing"):
        run(files, tmp_path / "none", outputs=("nothing",))
    assert not (tmp_path / "none").exists()


def spoil(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    """Make the exporter write another weight than the caffemodel's."""
    original: Callable[..., onnx_export.OnnxModel] = onnx_export.export

    def wrong(*args: Any, **kwargs: Any) -> onnx_export.OnnxModel:
        model = original(*args, **kwargs)
        arrays = dict(model.initializers)
        arrays[key] = (arrays[key] * np.float32(1.001)).astype(np.float32)
        return replace(model, initializers=arrays)

    monkeypatch.setattr(onnx_export, "export", wrong)


def test_a_failed_check_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(monkeypatch, "conv/weight")
    with pytest.raises(CheckError) as caught:
        run(write(tmp_path / "."), tmp_path / "out")
    message = str(caught.value)
    assert "first layer that diverges: layer 'relu', blob 'conv' (onnxruntime)" in message
    assert "the weight 'conv/weight' is not what the caffemodel holds" in message
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.caffemodel", "net.prototxt"]


def test_keep_going_writes_it_with_the_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(monkeypatch, "conv/weight")
    result = run(write(tmp_path), tmp_path / "out", keep_going=True)
    assert result.report["verdict"] == "failed"
    assert result.report["check"]["first_divergence"].startswith("layer 'relu'")
    assert any("'conv/weight'" in fault for fault in result.report["faults"])
    assert not any(item["bit_exact"] for item in result.report["weights"]["files"] if item["file"] == "model.onnx")
    assert [warning.partition(":")[0] for warning in result.warnings] == ["preprocessing is assumed, not known"]
    assert result.failure is not None
    assert f"the check failed, {tmp_path / 'out'} was written all the same" in result.failure
    assert "The first layer that diverges: layer 'relu'" in result.failure
    assert result.failure.count("\n  - ") == min(len(result.report["faults"]), 10)


def test_weights_are_checked_in_both_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(state: Mapping[str, torch.Tensor], path: Path) -> None:
        write_state(state, path)
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)

    monkeypatch.setattr(room, "write_state", wrong)
    with pytest.raises(CheckError, match=r"model\.safetensors: the weight"):
        run(golden("se_resnet"), tmp_path / "out")


def test_without_the_check_the_verdict_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(written_weights, "in_onnx", None)
    result = run(write(tmp_path), tmp_path / "out", check=False)
    assert result.report["verdict"] == "unchecked"
    assert result.report["check"] is None


def test_a_reference_of_another_caffe_takes_part(tmp_path: Path) -> None:
    files = golden("se_resnet")
    folder = GOLDEN / "se_resnet"
    with np.load(folder / "inputs.npz") as inputs, np.load(folder / "outputs.npz") as outputs:
        blobs = {**outputs, **inputs}
    np.savez(tmp_path / "blobs.npz", **blobs)
    result = run(files, tmp_path / "out", reference=tmp_path / "blobs.npz")
    assert "reference" in result.report["check"]["engines"]
    assert result.report["check"]["worst"]["reference"]["error"] < 5e-5
    blobs["conv2_2_1x1_up"] = blobs["conv2_2_1x1_up"] + np.float32(0.01)
    np.savez(tmp_path / "blobs.npz", **blobs)
    with pytest.raises(CheckError, match=r"diverges: layer 'conv2_2_prob', blob 'conv2_2_1x1_up' \(reference\)"):
        run(files, tmp_path / "other", reference=tmp_path / "blobs.npz")


def test_images_can_be_the_input(tmp_path: Path) -> None:
    import cv2

    for i in range(3):
        picture = np.random.default_rng(i).integers(0, 255, (40, 50, 3), np.uint8)
        cv2.imwrite(str(tmp_path / f"{i}.png"), picture)
    images = tuple(tmp_path / f"{i}.png" for i in range(3))
    result = run(write(tmp_path), tmp_path / "out", images=images, resize=12)
    assert result.report["check"]["inputs"] == "3 images"
    assert len(result.report["check"]["top5"]["prob"]) == 3


def test_images_are_refused_before_anything_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any, **__: Any) -> onnx_export.OnnxModel:
        raise AssertionError("the model is exported")

    monkeypatch.setattr(onnx_export, "export", never)
    (tmp_path / "torn.png").write_bytes(b"nonsense")
    with pytest.raises(ConvertError, match=r"torn\.png: OpenCV cannot read it"):
        run(write(tmp_path), tmp_path / "out", images=(tmp_path / "torn.png",))


def test_the_report_holds_every_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    note = "model.prototxt is left out: the network has fields that Caffe's format lacks (some)"
    monkeypatch.setattr(room, "write_definition", lambda *_: (note,))
    files = write(tmp_path)
    options = Options(ignore_fields=("pad_type",))
    result = run(files, tmp_path / "out", options=options, check=False)
    assert result.warnings[:2] == (
        "--ignore-field pad_type: no layer that counts has a field of that name to pass over",
        note,
    )
    assert result.warnings[2].startswith("preprocessing is assumed, not known: the mean 104, 117, 123 is subtracted")
    assert result.report["warnings"] == list(result.warnings)
    assert result.report["options"]["ignore_fields"] == ["pad_type"]
    assert note.replace("'", "&#x27;") in (tmp_path / "out" / "report.html").read_text()


def test_images_need_an_image_input(tmp_path: Path) -> None:
    text = 'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 5 } } }\n' + (
        'layer { name: "r" type: "ReLU" bottom: "x" top: "r" }'
    )
    with pytest.raises(ConvertError, match="--images needs"):
        run(write(tmp_path, text), tmp_path / "out", images=(tmp_path / "a.png",))
    with pytest.raises(ConvertError, match="--resize, --scale: only for"):
        run(write(tmp_path, text), tmp_path / "out", resize=3, scale=2.0)


def test_labels_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConvertError, match="cannot be read as a list of labels"):
        run(write(tmp_path), tmp_path / "out", labels=tmp_path / "labels.txt")


def test_an_opset_that_onnxruntime_lacks_is_refused(tmp_path: Path) -> None:
    newest = onnx_export.OPSETS[-1]
    if newest_opset(newest) == newest:
        pytest.skip("the installed onnxruntime takes every opset of the installed onnx")
    with pytest.raises(ConvertError, match="the newest that the installed onnxruntime takes"):
        run(write(tmp_path), tmp_path / "out", opset=newest)


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    """What onnxruntime opens must be UTF-8, and is refused first; others are escaped, and read back as they are."""
    name = os.fsdecode(b"caf\xe9")
    files = write(tmp_path, name=name)
    with pytest.raises(ConvertError, match="not UTF-8"):
        run(files, tmp_path / name, check=False)
    run(files, tmp_path / "out")
    assert [source["name"] for source in bundle.read_report(tmp_path / "out")["sources"]] == [
        f"{name}.caffemodel",
        f"{name}.prototxt",
    ]
