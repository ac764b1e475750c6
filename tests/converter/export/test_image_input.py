from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from senet_convert.converter.check import synthetic
from senet_convert.converter.convert import Wishes, convert
from senet_convert.converter.engines import GENERIC, engines
from senet_convert.converter.export import image_input as room
from senet_convert.converter.export import opencv_resize
from senet_convert.converter.export.nodes import Front
from senet_convert.deploy.images.preprocess import IMAGE, Preprocess
from senet_convert.deploy.model import Model
from senet_convert.deploy.runtime.session import Session
from senet_convert.errors import CheckError, ConvertError
from tests.nets import SE_NET, Files, write

# Fixes the size of the batch.
FIXED = 'layer {{ name: "r" type: "Reshape" bottom: "prob" top: "r" reshape_param {{ shape {{ dim: {} dim: 7 }} }} }}'
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
    right = room._front

    def wrong(preprocess: Preprocess, result: str) -> Front:
        return right(replace(preprocess, color="rgb"), result)

    monkeypatch.setattr(room, "_front", wrong)
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
        (("", ""), {"crop": 8}, "--crop 8: the network takes 12x10"),
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


def any_size(files: Files, name: str = "any", **wishes: Any) -> Model:
    return converted(files, name, input=IMAGE, any_size=True, **{"resize": 14, **wishes})


@pytest.mark.parametrize(
    "wishes",
    [
        {},
        {"resize": None},
        {"resize": 12, "color": "rgb", "scale": 0.017},
        {"opset": 13},
        {"mean": (60.0,), "scale": 0.05, "all_blobs": True},
    ],
)
def test_whole_pictures_give_what_the_plain_model_gives(wishes: dict[str, Any], files: Files) -> None:
    plain, whole = converted(files, "plain", **{"resize": 14, **wishes}), any_size(files, **wishes)
    images = [synthetic.smooth(str(side), *side, 3) for side in [(40, 31), (17, 90), (12, 10), (1, 9), (9, 1), (1, 1)]]
    want, found = plain.classify(images), whole.classify(images)
    assert np.abs(found - want).max() < 1e-6
    assert np.ptp(found, axis=0).max() > 1e-3, "the pictures differ, so do the answers"
    assert found.shape == (6, 7)


def test_what_the_file_and_the_report_say_of_whole_pictures(files: Files) -> None:
    model = any_size(files)
    assert model.session.shapes == {"image": [1, "height", "width", 3]}
    assert model.session.output_shapes == {"prob": [1, 7]}
    onnx.checker.check_model(str(model.path), full_check=True)
    report = json.loads((model.path.parent / "report.json").read_text())
    assert report["verdict"] == "passed"
    assert report["preprocess"]["any_size"] is True
    assert report["onnx"]["inputs"] == [{"name": "image", "shape": [1, "height", "width", 3]}]
    sizes = "(16x22, 34x12, 5x3, 12x11, 1x2, 37x10)"
    assert report["check"]["inputs"] == f"smooth synthetic pictures, resized and cropped by the ONNX file {sizes}"
    page = (model.path.parent / "report.html").read_text()
    assert "all of it: it takes pictures of any size, one at a time" in page


def test_the_file_declares_one_row_for_one_whole_picture(files: Files) -> None:
    """A runtime may work this out by itself; what only reads the file cannot."""
    for model, count in ((any_size(files, all_blobs=True), 7), (any_size(files, "plain"), 1)):
        outputs = onnx.load(str(model.path)).graph.output
        assert len(outputs) == count
        for value in outputs:
            dim = value.type.tensor_type.shape.dim[0]
            assert (dim.dim_value, dim.dim_param) == (1, ""), value.name


def test_the_planes_of_whole_pictures_are_bit_for_bit_those_of_the_preprocessing(files: Files, tmp_path: Path) -> None:
    model = any_size(files, mean=(103.939, 116.779, 123.68), scale=0.017)
    outside = model.preprocess.outside()
    for side in [(375, 500), (40, 31), (1, 1)]:
        pixels = np.random.default_rng(side).integers(0, 256, (*side, 3), dtype=np.uint8)
        assert np.array_equal(planes_of(model, pixels[None], tmp_path)[0], outside.apply(pixels[:, :, ::-1])), side


def test_whole_pictures_at_another_size(files: Files) -> None:
    text = SE_NET.replace("kernel_size: 3 stride: 2", "pool: AVE global_pooling: true")
    files = write(files.caffemodel.parent, text)
    plain, whole = converted(files, "plain", size=20, resize=23), any_size(files, size=20, resize=23)
    images = [synthetic.smooth(str(side), *side, 3) for side in [(40, 31), (17, 90), (3, 2)]]
    assert whole.preprocess.size == (20, 20)
    assert np.abs(whole.classify(images) - plain.classify(images)).max() < 1e-6


def test_a_large_input_whose_constants_are_large(tmp_path: Path) -> None:
    """More places than the checker gets as constants."""
    text = SE_NET.replace("dim: 12 dim: 10", "dim: 3 dim: 600").replace(
        "kernel_size: 3 stride: 2", "global_pooling: true"
    )
    model = any_size(write(tmp_path, text), resize=None)
    assert model.classify([synthetic.smooth("a", 7, 9, 3)]).shape == (1, 7)


def test_a_network_that_takes_one_picture(tmp_path: Path) -> None:
    files = write(tmp_path, SE_NET.replace("dim: 2 dim: 3", "dim: 1 dim: 3") + FIXED.format(1))
    model = any_size(files)
    assert model.classify([synthetic.smooth("a", 40, 31, 3), synthetic.smooth("b", 4, 31, 3)]).shape == (2, 7)
    assert json.loads((model.path.parent / "report.json").read_text())["check"]["inputs"].endswith("(16x22)")


def test_a_persons_own_pictures_are_fed_whole(files: Files, tmp_path: Path) -> None:
    assert cv2.imwrite(str(tmp_path / "a.png"), PIXELS[0])
    assert cv2.imwrite(str(tmp_path / "b.png"), np.repeat(PIXELS[1], 3, axis=1))
    model = any_size(files, images=(tmp_path / "a.png", tmp_path / "b.png"))
    report = json.loads((model.path.parent / "report.json").read_text())
    assert report["verdict"] == "passed"
    assert report["check"]["inputs"] == "2 images, resized and cropped by the ONNX file (12x10, 12x30)"


def test_the_check_feeds_whole_pictures(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crop that begins one pixel off is found."""
    right = opencv_resize.resized_and_cropped

    def wrong(front: Front, picture: str, preprocess: Preprocess) -> str:
        return right(front, picture, replace(preprocess, resize=(preprocess.resize or 0) + 2))

    monkeypatch.setattr(room, "resized_and_cropped", wrong)
    with pytest.raises(CheckError, match="output 'prob' of the ONNX file is off by"):
        any_size(files)


def test_engines_take_whole_pictures(files: Files) -> None:
    model = any_size(files)
    (generic,) = engines([GENERIC], model)
    images = [synthetic.smooth(str(side), *side, 3) for side in [(40, 31), (17, 90)]]
    assert np.abs(generic.classify(images) - model.classify(images)).max() < 1e-5


@pytest.mark.parametrize(
    ("change", "wishes", "words"),
    [
        (("", ""), {"input": "blob"}, "add --input image"),
        (("", ""), {"resample": "pil"}, "the model resizes as OpenCV does; --resample pil has to stay outside"),
        (("", ""), {"resize": 11}, "no 12x10 crop fits into every picture .* --resize must be at least 12"),
        (("dim: 3 dim: 12", "dim: 3 dim: 12"), {"reference": Path("blobs.npz")}, "cannot go with --input image"),
        (
            ('top: "prob" }', 'top: "prob" }' + FIXED.format(2)),
            {},
            "the network takes batches of 2; give --input-shape 1,3,12,10",
        ),
    ],
)
def test_what_whole_pictures_exclude(
    change: tuple[str, str], wishes: dict[str, Any], words: str, tmp_path: Path
) -> None:
    files = write(tmp_path, SE_NET.replace(*change) if change[0] else SE_NET)
    with pytest.raises(ConvertError, match=words):
        converted(files, "any", **{"input": IMAGE, "any_size": True, **wishes})
    assert not (tmp_path / "any").exists()
