from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from senet_convert.converter import image_input as room
from senet_convert.converter.convert import Wishes, convert
from senet_convert.converter.engines import GENERIC, engines
from senet_convert.deploy.model import Model
from senet_convert.deploy.preprocess import IMAGE
from senet_convert.deploy.session import Session
from senet_convert.errors import CheckError, ConvertError
from tests.nets import SE_NET, Files, write

PIXELS = np.random.default_rng(0).integers(0, 256, (3, 12, 10, 3), dtype=np.uint8)


def converted(files: Files, name: str, **wishes: Any) -> Model:
    folder = files.caffemodel.parent / name
    convert(files.caffemodel, files.prototxt, folder, Wishes(**wishes), lambda _: None)
    return Model.open(folder, "cpu")


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return write(tmp_path)


def test_the_file_takes_pictures(files: Files) -> None:
    model = converted(files, "image", input=IMAGE)
    assert model.session.shapes == {"image": ["batch", 12, 10, 3]}
    assert model.session.dtypes == {"image": np.uint8}
    assert model.session.metadata["input"] == "image"
    assert json.loads(model.session.metadata["preprocess"])["input"] == "image"
    report = json.loads((model.path.parent / "report.json").read_text())
    assert (report["verdict"], report["preprocess"]["input"]) == ("passed", "image")
    assert report["onnx"]["inputs"] == [{"name": "image", "shape": ["batch", 12, 10, 3]}]
    onnx.checker.check_model(str(model.path), full_check=True)


@pytest.mark.parametrize(
    "wishes",
    [
        {},
        {"color": "rgb"},
        {"mean": (3.0,), "scale": 0.017},
        {"mean": (1.5, 2.5, 120.0), "color": "rgb"},
        {"opset": 13},
    ],
)
def test_it_computes_what_the_blob_would(wishes: dict[str, Any], files: Files) -> None:
    """The planes are the same to the bit: Caffe's users' arithmetic, float32, mean before scale."""
    blob, image = converted(files, "blob", **wishes), converted(files, "image", input=IMAGE, **wishes)
    pictures = [np.ascontiguousarray(pixels[:, :, ::-1]) for pixels in PIXELS]
    fed = image.preprocess.batch(pictures)
    assert np.array_equal(fed, PIXELS)
    assert np.array_equal(blob.preprocess.batch(pictures), blob.preprocess.planes(PIXELS))
    assert np.abs(image.probabilities(fed) - blob.classify(pictures)).max() < 1e-6


def planes_of(model: Model, pixels: NDArray[np.uint8], tmp_path: Path) -> NDArray[Any]:
    """What the nodes in front of the network make."""
    network = onnx.load(str(model.path))
    network.graph.output.append(onnx.helper.make_tensor_value_info("data", onnx.TensorProto.FLOAT, None))
    onnx.save(network, str(tmp_path / "planes.onnx"))
    return Session(tmp_path / "planes.onnx").run({"image": pixels})["data"]


def test_the_planes_are_bit_for_bit_those_of_the_preprocessing(files: Files, tmp_path: Path) -> None:
    model = converted(files, "image", input=IMAGE, mean=(103.939, 116.779, 123.68), scale=0.017)
    assert np.array_equal(planes_of(model, PIXELS, tmp_path), model.preprocess.planes(PIXELS))


def test_the_mean_is_subtracted_before_the_padding(files: Files) -> None:
    """Nodes of their own, and the first convolution with the caffemodel's weights and without a bias."""
    network = onnx.load(str(converted(files, "image", input=IMAGE, scale=0.5).path))
    assert [node.op_type for node in network.graph.node[:6]] == ["Cast", "Gather", "Sub", "Mul", "Transpose", "Conv"]
    assert len(network.graph.node[5].input) == 2


def test_grey_pictures(tmp_path: Path) -> None:
    text = SE_NET.replace("dim: 3 dim: 12", "dim: 1 dim: 12").replace("mean_value: 104, 117, 123", "mean_value: 33")
    files = write(tmp_path, text)
    model = converted(files, "image", input=IMAGE)
    assert model.session.shapes == {"image": ["batch", 12, 10, 1]}
    assert cv2.imwrite(str(tmp_path / "a.png"), PIXELS[0, :, :, 0])
    convert(
        files.caffemodel, files.prototxt, tmp_path / "own", Wishes(input=IMAGE, images=(tmp_path / "a.png",)), print
    )


def test_the_check_runs_the_file_on_pictures(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    right = room._steps

    def wrong(preprocess: Any) -> Iterator[Any]:
        return (step for step in right(preprocess) if step[0] != "Gather")

    monkeypatch.setattr(room, "_steps", wrong)
    with pytest.raises(CheckError, match="output 'prob' of the ONNX file is off by"):
        converted(files, "image", input=IMAGE)
    assert not (files.caffemodel.parent / "image").exists()


def test_all_blobs(files: Files) -> None:
    model = converted(files, "image", input=IMAGE, all_blobs=True)
    assert "gap" in model.session.outputs
    assert model.session.inputs == ("image",)


def test_a_persons_own_pictures_take_part(files: Files, tmp_path: Path) -> None:
    assert cv2.imwrite(str(tmp_path / "a.png"), PIXELS[0])
    model = converted(files, "image", input=IMAGE, images=(tmp_path / "a.png",))
    report = json.loads((model.path.parent / "report.json").read_text())
    assert (report["verdict"], report["check"]["inputs"]) == ("passed", "1 images")


def test_the_caffemodel_beside_it(files: Files) -> None:
    model = converted(files, "image", input=IMAGE)
    (generic,) = engines([GENERIC], model)
    assert np.abs(generic.probabilities(PIXELS) - model.probabilities(PIXELS)).max() < 1e-5


def test_a_network_whose_input_is_called_image(tmp_path: Path) -> None:
    files = write(tmp_path, SE_NET.replace('"data"', '"image"'))
    model = converted(files, "converted", input=IMAGE)
    assert model.session.inputs == ("image",)


@pytest.mark.parametrize(
    ("change", "wishes", "words"),
    [
        (("# mean_value: 104, 117, 123", ""), {}, "which mean to subtract; give it with --mean, or --mean 0 for none"),
        (('"conv"', '"image"'), {}, "so is a blob of the network"),
        (("dim: 3 dim: 12", "dim: 4 dim: 12"), {}, "only for a network with one image input"),
        (("", ""), {"crop": 8}, "must be the input's 12x10"),
        (("", ""), {"reference": Path("blobs.npz")}, "cannot go with --input image"),
    ],
)
def test_what_is_refused(change: tuple[str, str], wishes: dict[str, Any], words: str, tmp_path: Path) -> None:
    files = write(tmp_path, SE_NET.replace(*change) if change[0] else SE_NET)
    with pytest.raises(ConvertError, match=words):
        converted(files, "image", input=IMAGE, **wishes)
    assert not (tmp_path / "image").exists()


def test_no_mean_may_be_said(tmp_path: Path) -> None:
    files = write(tmp_path, SE_NET.replace("# mean_value: 104, 117, 123", ""))
    model = converted(files, "image", input=IMAGE, mean=(0.0,))
    assert np.array_equal(model.preprocess.planes(PIXELS)[:, ::-1], PIXELS.transpose(0, 3, 1, 2))
