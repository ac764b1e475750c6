from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from senet_convert.converter.graph.build import build
from senet_convert.converter.graph.draft import Options
from senet_convert.converter.metadata.preprocessing import settled, stated
from senet_convert.deploy.images.preprocess import Preprocess
from senet_convert.errors import ConvertError, ReadError
from senet_convert.proto import caffe_pb2
from tests.nets import INPUT, definition

RELU = 'layer { name: "r" type: "ReLU" bottom: "data" top: "r" }\n'


def found(tmp_path: Path, text: str) -> Preprocess | None:
    net = definition(tmp_path, text)
    return stated(net, build(net, None, Options(input_shapes={"data": (1, 3, 12, 10)})))


@pytest.mark.parametrize(
    ("comment", "mean"),
    [
        ("# mean_value: 104, 117, 123", (104, 117, 123)),
        ("# mean: [103.94, 116.78, 123.68]", (103.94, 116.78, 123.68)),
        ("# mean_value: 128", (128,)),
        ("# what this means is open", ()),
        ("# mean ... of the training set", ()),
        ("# mean: .5", (0.5,)),
        ("", ()),
    ],
)
def test_the_mean_comment_of_the_released_nets_is_read(tmp_path: Path, comment: str, mean: tuple[float, ...]) -> None:
    preprocess = found(tmp_path, f"{comment}\n{INPUT}{RELU}")
    assert preprocess is not None
    assert preprocess.mean == mean
    assert preprocess.size == (12, 10)


def test_the_transform_of_the_test_phase_is_read(tmp_path: Path) -> None:
    data = (
        'layer {{ name: "d" type: "Data" top: "data" include {{ phase: {0} }} transform_param {{ scale: {1} '
        "mean_value: 1 mean_value: 2 mean_value: 3 }} }}\n"
    )
    preprocess = found(tmp_path, data.format("TRAIN", 0.5) + data.format("TEST", 0.25) + RELU)
    assert preprocess is not None
    assert (preprocess.mean, preprocess.scale) == ((1, 2, 3), 0.25)


def test_nets_that_take_no_picture_have_none(tmp_path: Path) -> None:
    vector = 'layer { name: "v" type: "Input" top: "v" input_param { shape { dim: 1 dim: 5 } } }\n'
    net = definition(tmp_path, vector + RELU.replace('"data"', '"v"'))
    assert stated(net, build(net, None)) is None


def test_what_a_person_says_overrules_the_files(tmp_path: Path) -> None:
    net = definition(tmp_path, f"# mean_value: 104, 117, 123\n{INPUT}{RELU}")
    built = build(net, None)
    asked = {"resize": 14, "crop": None, "mean": None, "scale": 0.5, "resample": "pil", "color": "rgb"}
    assert settled(net, built, False, asked) == Preprocess((12, 10), 14, (104, 117, 123), 0.5, 3, "pil", "rgb")
    assert settled(net, built, True, {"mean": (1.0,)}) == Preprocess((12, 10), 14, (1.0,)), "256 for 224, as published"


def test_what_is_cropped_is_what_the_network_takes(tmp_path: Path) -> None:
    """Any other crop would be a bundle that no picture fits."""
    net = definition(tmp_path, INPUT + RELU)
    square = build(net, None, Options(input_shapes={"data": (1, 3, 12, 12)}))
    assert settled(net, square, False, {"crop": 12}) == Preprocess((12, 12))
    for crop in (8, 12):
        with pytest.raises(ConvertError, match=f"^--crop {crop}: the network takes 12x10, .* give --size {crop} too"):
            settled(net, build(net, None), False, {"crop": crop, "resize": 256})


def mean_image(path: Path, values: np.ndarray) -> Path:
    data = np.asarray(values, "<f4").tobytes()
    blob = caffe_pb2.BlobProto(num=1, channels=len(data) // 8, height=1, width=2, data=data)
    path.write_bytes(blob.SerializeToString())
    return path


def test_a_mean_image_is_averaged_and_must_be_finite(tmp_path: Path) -> None:
    net, path = definition(tmp_path, INPUT + RELU), tmp_path / "mean.binaryproto"
    preprocess = settled(net, build(net, None), False, {"mean": mean_image(path, np.arange(6))})
    assert preprocess is not None
    assert preprocess.mean == (0.5, 2.5, 4.5)
    mean_image(path, np.arange(4))
    with pytest.raises(ReadError, match=r"mean\.binaryproto: a mean image of 2x1x2, the network takes 3 channels"):
        settled(net, build(net, None), False, {"mean": path})
    mean_image(path, np.array([0, 1, np.nan, 3, np.inf, 5]))
    with pytest.raises(ReadError, match=r"mean\.binaryproto: 2 values of 6 of the mean image are NaN or infinite"):
        settled(net, build(net, None), False, {"mean": path})


@pytest.mark.parametrize(("given", "said"), [("scale: nan", "scale nan"), ("mean_value: inf", "mean inf")])
def test_what_the_prototxt_states_must_be_finite(tmp_path: Path, given: str, said: str) -> None:
    data = f'layer {{ name: "d" type: "Data" top: "data" transform_param {{ {given} }} }}\n'
    with pytest.raises(ConvertError, match=rf"net\.prototxt: preprocessing: the {said} is no finite float32"):
        found(tmp_path, data + RELU)


def test_what_a_network_without_pictures_cannot_be_told(tmp_path: Path) -> None:
    vector = 'layer { name: "v" type: "Input" top: "v" input_param { shape { dim: 1 dim: 5 } } }\n'
    net = definition(tmp_path, vector + RELU.replace('"data"', '"v"'))
    assert settled(net, build(net, None), False, {"crop": None}) is None
    with pytest.raises(ConvertError, match=r"^--crop, --scale: only for a network with one image input"):
        settled(net, build(net, None), False, {"crop": 8, "scale": 2.0})
