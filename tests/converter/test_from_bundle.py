"""A bundle as a network again, and tuned weights in the place of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import safetensors.torch
import torch
from click.testing import CliRunner, Result
from PIL import Image

import senet_convert
from senet_convert.cli import main
from senet_convert.converter.from_bundle import open_bundle
from senet_convert.converter.pictures import PicturePreprocess
from senet_convert.deploy.model import Model
from senet_convert.errors import ConvertError
from tests.nets import write

PICTURE = "digits_val_00000001.png"


def run(*words: object) -> Result:
    return CliRunner().invoke(main, list(map(str, words)))


def state(bundle: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(bundle / "model.safetensors")


def tuned(bundle: Path, path: Path) -> Path:
    """Every weight a little larger."""
    found = {name: value * 1.01 if value.is_floating_point() else value for name, value in state(bundle).items()}
    safetensors.torch.save_file(found, path)
    return path


def test_tuned_weights_become_a_checked_bundle(bundle: Path, digits: Path, tmp_path: Path) -> None:
    weights = tuned(bundle, tmp_path / "tuned.safetensors")
    done = run("convert", bundle, "--weights", weights)
    assert done.exit_code == 0, done.output
    out = tmp_path / "tuned"
    report = json.loads((out / "report.json").read_text())
    assert report["verdict"] == "passed"
    assert [source["role"] for source in report["sources"]] == ["weights", "prototxt"]
    before = json.loads((bundle / "report.json").read_text())
    assert report["tuned_from"] == {"bundle": bundle.name, **{k: before[k] for k in ("created", "sources", "release")}}
    assert report["preprocess"] == before["preprocess"]
    assert report["classes"] == before["classes"]
    written, wanted = state(out), safetensors.torch.load_file(weights)
    assert written.keys() == wanted.keys()
    assert all(torch.equal(written[name], wanted[name]) for name in wanted)
    assert "tuned_from" in {one.key for one in onnx.load(out / "model.onnx").metadata_props}
    assert "tuned.safetensors" in (out / "report.html").read_text()
    both = run("validate", out, digits / "images", "--labels", digits / "val.txt", "--engine", "onnx,torch", "--json")
    engines = json.loads(both.stdout)["engines"]
    assert [one["top1_wrong"] for one in engines] == [engines[0]["top1_wrong"]] * 2


def test_another_number_of_classes_leaves_the_labels_out(bundle: Path, tmp_path: Path) -> None:
    found = state(bundle)
    for name in ("last_linear.weight", "last_linear.bias"):
        found[name] = found[name][:7].contiguous()
    torch.save(found, tmp_path / "seven.pth")
    done = run("convert", bundle, "--weights", tmp_path / "seven.pth", "-o", tmp_path / "out", "--resize", "squash")
    assert done.exit_code == 0, done.output
    assert "layer 'classifier' has 7 outputs in seven.pth, 10 in digits" in done.stderr
    assert "the labels are left out" in done.stderr
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert (report["network"]["outputs"]["prob"], report["classes"]["labels"]) == ([1, 7], [])
    assert report["preprocess"]["resize"] is None


def test_what_cannot_be(bundle: Path, tmp_path: Path) -> None:
    weights = tmp_path / "weights.safetensors"
    safetensors.torch.save_file({"nonsense": torch.zeros(3)}, weights)
    done = run("convert", bundle, "--weights", weights, "-o", tmp_path / "out")
    assert done.exit_code == 1
    assert "it holds weights that the network lacks: nonsense" in done.stderr
    assert not (tmp_path / "out").exists()
    files = write(tmp_path)
    assert "--weights is for a folder" in run("convert", files.caffemodel, "--weights", weights).stderr
    assert (
        "has the network's definition"
        in run("convert", bundle, "--weights", weights, "--prototxt", files.prototxt).stderr
    )
    tuned(bundle, weights)
    sized = run("convert", bundle, "--weights", weights, "--size", 40, "-o", tmp_path / "out")
    assert "--size: " in sized.stderr
    empty = tmp_path / "empty"
    empty.mkdir()
    assert run("convert", empty, "-o", tmp_path / "out").exit_code == 1
    with pytest.raises(ConvertError, match="not a bundle"):
        open_bundle(empty)


def test_a_bundle_that_takes_pictures_stays_so(image_bundle: Path, digits: Path, tmp_path: Path) -> None:
    done = run("convert", image_bundle, "--weights", tuned(image_bundle, tmp_path / "t.safetensors"), "--no-check")
    assert done.exit_code == 0, done.output
    assert Model.open(tmp_path / "t").preprocess == Model.open(image_bundle).preprocess


def test_inspect_of_a_bundle(bundle: Path) -> None:
    found = json.loads(run("inspect", bundle, "--json").stdout)
    assert (found["family"], found["file"], found["learnable_parameters"]) == ("SE-ResNet", bundle.name, 74514)
    assert found["preprocessing"].startswith("pictures are cropped to 32x32 from a shorter side of 36")
    assert "preprocessing: pictures are cropped" in run("inspect", bundle).stdout


def test_load_of_a_bundle_is_the_network_with_pictures_and_names(bundle: Path, digits: Path) -> None:
    module: Any = senet_convert.load(bundle)
    again: Any = senet_convert.load(digits / "SE-ResNet-Digits.caffemodel", digits / "deploy.prototxt")
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in module.state_dict().items())
    assert module.class_names == (digits / "classes.txt").read_text().split()
    assert again.class_names == []
    picture = Image.open(digits / "images" / PICTURE)
    probabilities = module(module.preprocess(picture)).softmax(1)
    with np.load(digits / "reference.npz") as file:
        assert np.allclose(probabilities.detach().numpy(), file["prob"][:1], atol=1e-5)
    batch = module.preprocess([picture, np.asarray(picture.convert("RGB"))])
    assert batch.shape == (2, 3, 32, 32)
    assert torch.equal(batch[0], batch[1])
    assert "shorter side of 36" in repr(module.preprocess)
    with pytest.raises(ConvertError, match=r"a picture is a PIL image or an array uint8 .*, not float64 \(4, 4\)"):
        module.preprocess(np.zeros((4, 4)))
    with pytest.raises(ConvertError, match="a bundle has its definition"):
        senet_convert.load(bundle, digits / "deploy.prototxt")


def test_grey_pictures_are_taken_as_files_of_them_are(bundle: Path) -> None:
    opened = open_bundle(bundle)
    assert opened.resolved is not None
    prepare = PicturePreprocess(opened.resolved.preprocess, opened.resolved.origins)
    grey = np.arange(1600, dtype=np.uint16).reshape(40, 40).astype(np.uint8)
    assert torch.equal(prepare(grey), prepare(np.stack([grey] * 3, axis=2)))
    assert torch.equal(prepare(grey), prepare(grey[:, :, None]))
