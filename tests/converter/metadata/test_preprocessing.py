from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from senet_convert.converter.graph.build import build
from senet_convert.converter.graph.draft import Options
from senet_convert.converter.graph.graph import Graph
from senet_convert.converter.metadata.preprocessing import Resolved, resolve, stated
from senet_convert.deploy.images.preprocess import SQUASH, Preprocess
from senet_convert.errors import ConvertError, ReadError
from senet_convert.proto import NetDef, caffe_pb2
from tests.nets import INPUT, definition

RELU = 'layer { name: "r" type: "ReLU" bottom: "data" top: "r" }\n'


def found(tmp_path: Path, text: str) -> Preprocess | None:
    net = definition(tmp_path, text)
    resolved = stated(net, build(net, None, Options(input_shapes={"data": (1, 3, 12, 10)})))
    return resolved.preprocess if resolved else None


def settled(net: NetDef, graph: Graph, release: str | None, asked: Mapping[str, Any]) -> Preprocess | None:
    resolved = resolve(net, graph, release, asked)
    return resolved.preprocess if resolved else None


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


def test_what_the_user_says_overrules_the_files(tmp_path: Path) -> None:
    net = definition(tmp_path, f"# mean_value: 104, 117, 123\n{INPUT}{RELU}")
    built = build(net, None)
    asked = {"resize": 14, "crop": None, "mean": None, "scale": 0.5, "resample": "pil", "color": "rgb"}
    assert settled(net, built, None, asked) == Preprocess((12, 10), 14, (104, 117, 123), 0.5, 3, "pil", "rgb")
    assert settled(net, built, "SE-ResNet-50", {"mean": (1.0,)}) == Preprocess((12, 10), 14, (1.0,)), (
        "256 for 224, as published"
    )


def test_what_is_cropped_is_what_the_network_takes(tmp_path: Path) -> None:
    """Any other crop would be a bundle that no picture fits."""
    net = definition(tmp_path, INPUT + RELU)
    square = build(net, None, Options(input_shapes={"data": (1, 3, 12, 12)}))
    assert settled(net, square, None, {"crop": 12}) == Preprocess((12, 12))
    for crop in (8, 12):
        with pytest.raises(ConvertError, match=f"^--crop {crop}: the network takes 12x10, .* with --size {crop}"):
            settled(net, build(net, None), None, {"crop": crop, "resize": 256})


def mean_image(path: Path, values: np.ndarray) -> Path:
    data = np.asarray(values, "<f4").tobytes()
    blob = caffe_pb2.BlobProto(num=1, channels=len(data) // 8, height=1, width=2, data=data)
    path.write_bytes(blob.SerializeToString())
    return path


def test_a_mean_image_is_averaged_and_must_be_finite(tmp_path: Path) -> None:
    net, path = definition(tmp_path, INPUT + RELU), tmp_path / "mean.binaryproto"
    preprocess = settled(net, build(net, None), None, {"mean": mean_image(path, np.arange(6))})
    assert preprocess is not None
    assert preprocess.mean == (0.5, 2.5, 4.5)
    mean_image(path, np.arange(4))
    with pytest.raises(ReadError, match=r"mean\.binaryproto: a mean image of 2x1x2, the network takes 3 channels"):
        settled(net, build(net, None), None, {"mean": path})
    mean_image(path, np.array([0, 1, np.nan, 3, np.inf, 5]))
    with pytest.raises(ReadError, match=r"mean\.binaryproto: 2 values of 6 of the mean image are NaN or infinite"):
        settled(net, build(net, None), None, {"mean": path})


@pytest.mark.parametrize(("given", "said"), [("scale: nan", "scale nan"), ("mean_value: inf", "mean inf")])
def test_what_the_prototxt_states_must_be_finite(tmp_path: Path, given: str, said: str) -> None:
    data = f'layer {{ name: "d" type: "Data" top: "data" transform_param {{ {given} }} }}\n'
    with pytest.raises(ConvertError, match=rf"net\.prototxt: preprocessing: the {said} is no finite float32"):
        found(tmp_path, data + RELU)


def test_what_a_network_without_pictures_cannot_be_told(tmp_path: Path) -> None:
    vector = 'layer { name: "v" type: "Input" top: "v" input_param { shape { dim: 1 dim: 5 } } }\n'
    net = definition(tmp_path, vector + RELU.replace('"data"', '"v"'))
    assert settled(net, build(net, None), None, {"crop": None}) is None
    with pytest.raises(ConvertError, match=r"^--crop, --scale: only for a network with one image input"):
        settled(net, build(net, None), None, {"crop": 8, "scale": 2.0})


def origins(tmp_path: Path, text: str, release: str | None = None, alike: str | None = None, **asked: Any) -> Resolved:
    net = definition(tmp_path, text)
    graph = build(net, None, Options(input_shapes={"data": (1, 3, 224, 224)}))
    resolved = resolve(net, graph, release, asked, alike)
    assert resolved is not None
    return resolved


COMMENT = f"# mean_value: 104, 117, 123\n{INPUT}{RELU}"


def test_without_a_word_in_the_files_everything_is_assumed(tmp_path: Path) -> None:
    resolved = origins(tmp_path, INPUT + RELU)
    assert resolved.origins.assumed == ("mean", "scale", "color", "resize", "resample")
    told = resolved.origins.warning(resolved.preprocess) or ""
    for words in ("assumed, not known", "no mean is subtracted", "squashed to 224x224", "--mean, --resize"):
        assert words in told


def test_a_comment_is_taken_and_told(tmp_path: Path) -> None:
    resolved = origins(tmp_path, COMMENT)
    assert resolved.preprocess.mean == (104, 117, 123)
    told = resolved.origins.warning(resolved.preprocess) or ""
    assert "the mean 104, 117, 123 is subtracted (a comment in net.prototxt)" in told


def test_what_the_data_layer_does_is_known(tmp_path: Path) -> None:
    data = 'layer { name: "d" type: "Data" top: "data" transform_param { mean_value: 5 } }\n'
    resolved = origins(tmp_path, data + RELU)
    assert resolved.origins.assumed == ("resize", "resample")
    assert resolved.origins.values["mean"].source == "transform_param in net.prototxt"


def test_a_mean_file_that_is_named_is_offered(tmp_path: Path) -> None:
    data = 'layer { name: "d" type: "Data" top: "data" transform_param { mean_file: "a/mean.binaryproto" } }\n'
    resolved = origins(tmp_path, data + RELU)
    assert resolved.origins.doubtful == ("mean", "resize")
    assert resolved.origins.offers == ("--mean a/mean.binaryproto, the file that it names",)


def test_of_a_release_all_is_known_and_what_is_alike_is_offered(tmp_path: Path) -> None:
    released = origins(tmp_path, COMMENT, release="SE-ResNet-50")
    assert released.origins.assumed == ()
    assert released.origins.warning(released.preprocess) is None
    alike = origins(tmp_path, INPUT + RELU, alike="SE-ResNet-50")
    assert (alike.preprocess.mean, alike.preprocess.resize) == ((), None), "offered, never assumed"
    offer = "--mean 104,117,123 --resize 256 (what SE-ResNet-50 was published with)"
    assert alike.origins.offers == (offer,)
    assert offer in (alike.origins.warning(alike.preprocess) or "")


def test_what_the_user_says_is_known(tmp_path: Path) -> None:
    resolved = origins(tmp_path, COMMENT, mean=(1.0,), resize=SQUASH)
    assert (resolved.preprocess.mean, resolved.preprocess.resize) == ((1.0,), None)
    assert resolved.origins.values["mean"].source == "--mean"
    assert resolved.origins.warning(resolved.preprocess) is None


def test_what_a_caffemodel_keeps_of_its_training_is_known(tmp_path: Path) -> None:
    """A deploy prototxt has no data layer; the snapshot of a training does."""
    net = definition(tmp_path, COMMENT)
    graph = build(net, None, Options(input_shapes={"data": (1, 3, 224, 224)}))
    (tmp_path / "saved").mkdir()
    data = 'layer { name: "d" type: "Data" top: "data" transform_param { scale: 0.5 mean_value: 7 crop_size: 224 } }\n'
    resolved = stated(net, graph, definition(tmp_path / "saved", data + RELU))
    assert resolved is not None
    assert (resolved.preprocess.mean, resolved.preprocess.scale) == ((7,), 0.5)
    assert resolved.origins.assumed == ("resize", "resample")
