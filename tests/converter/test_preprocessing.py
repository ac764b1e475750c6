from __future__ import annotations

from pathlib import Path

import pytest

from senet_convert.converter.graph import build
from senet_convert.converter.passes import Options
from senet_convert.converter.preprocessing import settled, stated
from senet_convert.deploy.preprocess import Preprocess
from senet_convert.errors import ConvertError
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
    asked = {"resize": 9, "crop": 8, "mean": None, "scale": 0.5, "resample": "pil", "color": "rgb"}
    assert settled(net, built, False, asked) == Preprocess((8, 8), 9, (104, 117, 123), 0.5, 3, "pil", "rgb")
    assert settled(net, built, True, {"mean": (1.0,)}) == Preprocess((12, 10), 14, (1.0,)), "256 for 224, as published"


def test_what_a_network_without_pictures_cannot_be_told(tmp_path: Path) -> None:
    vector = 'layer { name: "v" type: "Input" top: "v" input_param { shape { dim: 1 dim: 5 } } }\n'
    net = definition(tmp_path, vector + RELU.replace('"data"', '"v"'))
    assert settled(net, build(net, None), False, {"crop": None}) is None
    with pytest.raises(ConvertError, match=r"^--crop, --scale: only for a network with one image input"):
        settled(net, build(net, None), False, {"crop": 8, "scale": 2.0})
