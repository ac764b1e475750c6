from __future__ import annotations

import json
import re
from dataclasses import asdict, replace
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image as Pil

from senet_convert.deploy.images.preprocess import Preprocess
from senet_convert.errors import ConvertError

NOISE = np.random.RandomState(5).randint(0, 256, (40, 60, 3), dtype=np.uint8)


def test_resize_crop_mean_and_scale() -> None:
    found = Preprocess((16, 16), 20, (1.0, 2.0, 3.0), 0.5).batch([NOISE, NOISE.transpose(1, 0, 2)])
    assert found.shape == (2, 3, 16, 16)
    assert found.dtype == np.float32
    crop = np.asarray(cv2.resize(NOISE, (30, 20), interpolation=cv2.INTER_LINEAR))[2:18, 7:23]
    assert np.array_equal(found[0], ((crop.astype(np.float32) - [1, 2, 3]) * 0.5).transpose(2, 0, 1))


def test_without_resize_pictures_are_squashed() -> None:
    want = np.asarray(cv2.resize(NOISE, (8, 10), interpolation=cv2.INTER_LINEAR)).transpose(2, 0, 1)
    assert np.array_equal(Preprocess((10, 8)).apply(NOISE), want)


def test_rgb_turns_the_channels_and_leaves_the_mean() -> None:
    plain = Preprocess((8, 8)).apply(NOISE)
    turned = Preprocess((8, 8), mean=(10.0, 20.0, 30.0), color="rgb").apply(NOISE)
    assert np.array_equal(turned, plain[::-1] - np.array([[[10]], [[20]], [[30]]], np.float32))


def test_pillow_resamples_with_antialiasing() -> None:
    want = np.asarray(Pil.fromarray(NOISE).resize((15, 10), Pil.Resampling.BILINEAR))[1:9, 3:11]
    found = Preprocess((8, 8), 10, resample="pil").apply(NOISE)
    assert np.array_equal(found, want.transpose(2, 0, 1))
    assert np.abs(found - Preprocess((8, 8), 10).apply(NOISE)).max() > 20


@pytest.mark.parametrize("resample", ["opencv", "pil"])
def test_grey(resample: str) -> None:
    found = Preprocess((8, 8), 10, (5.0,), channels=1, resample=resample).apply(NOISE[:, :, :1])
    assert found.shape == (1, 8, 8)


def test_a_crop_that_does_not_fit() -> None:
    assert Preprocess((16, 8), 12).apply(NOISE.transpose(1, 0, 2)).shape == (3, 16, 8)
    with pytest.raises(ConvertError, match="16x8 crop does not fit: the shorter side is resized to 12"):
        Preprocess((16, 8), 12).apply(NOISE)


def test_values_that_fit_no_picture() -> None:
    with pytest.raises(ConvertError, match="no 16x16 crop fits into pictures whose shorter side is resized to 12"):
        Preprocess((16, 16), 12)
    with pytest.raises(ConvertError, match="a mean of 2 values for 3 channels"):
        Preprocess((16, 16), mean=(1.0, 2.0))
    for value in (float("nan"), float("-inf"), 1e39):
        with pytest.raises(ConvertError, match=f"the mean {re.escape(str(value))} is no finite float32"):
            Preprocess((16, 16), mean=(1.0, value, 2.0))
        with pytest.raises(ConvertError, match=f"the scale {re.escape(str(value))} is no finite float32"):
            Preprocess((16, 16), scale=value)


def test_json_and_back() -> None:
    meant = Preprocess((10, 8), 12, (1.0, 2.0, 3.0), 0.1, 3, "pil", "rgb")
    assert Preprocess.from_json(meant.to_json()) == meant


def test_an_earlier_version_wrote_less() -> None:
    old = {key: value for key, value in asdict(Preprocess((8, 8), 10)).items() if key not in ("resample", "color")}
    assert Preprocess.from_json(json.dumps(old)) == Preprocess((8, 8), 10)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not readable"),
        ("[]", "not readable"),
        ('{"size": 3}', "not readable"),
        ('{"size": [8, 8], "scale": NaN}', "scale nan is no finite"),
        ('{"size": [8, 8], "mean": ["a"]}', "not readable"),
        ('{"size": [8, 8], "gamma": 2}', "asks for gamma"),
        ('{"size": [8, 8], "resample": "lanczos"}', "unknown"),
    ],
)
def test_unreadable_json(text: str, said: str) -> None:
    with pytest.raises(ConvertError, match=said):
        Preprocess.from_json(text)


def test_what_the_file_takes() -> None:
    blob = Preprocess((2, 3), mean=(1, 2, 3), scale=2)
    image = replace(blob, input="image")
    picture = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    assert np.array_equal(image.apply(picture), picture[:, :, ::-1])
    assert np.array_equal(blob.apply(picture), image.planes(image.batch([picture]))[0])
    assert blob.apply(picture)[0, 0].tolist() == [-2, 4, 10]
    assert (image.blank(4).shape, image.blank(4).dtype.name) == ((4, 2, 3, 3), "uint8")
    assert (blob.blank(4).shape, blob.blank(4).dtype.name) == ((4, 3, 2, 3), "float32")
    with pytest.raises(ConvertError, match="unknown to this version"):
        Preprocess.from_json(blob.to_json().replace('"blob"', '"video"'))


def test_ten_crops_are_caffes() -> None:
    """As caffe.io.oversample: corners row by row, then the centre, then all five mirrored."""
    ten = Preprocess((16, 16), 20, ten_crop=True)
    image = np.asarray(cv2.resize(NOISE, (30, 20), interpolation=cv2.INTER_LINEAR))
    corners = [(top, left) for top in (0, 4) for left in (0, 14)]
    expected = [image[top : top + 16, left : left + 16] for top, left in [*corners, (2, 7)]]
    expected += [crop[:, ::-1] for crop in expected]
    found = ten.batch([NOISE])
    assert found.shape == (1, 10, 3, 16, 16)
    assert np.array_equal(found[0], np.stack(expected).transpose(0, 3, 1, 2))
    assert np.array_equal(found[:, 4], replace(ten, ten_crop=False).batch([NOISE]))
    image_input = replace(ten, input="image").batch([NOISE])
    assert (image_input.shape, image_input.dtype.name) == ((1, 10, 16, 16, 3), "uint8")
    assert "ten_crop" not in replace(ten, ten_crop=False).to_json()
    assert Preprocess.from_json(ten.to_json()) == ten


@pytest.mark.parametrize("resize", [None, 16])
def test_ten_crops_need_larger_pictures(resize: int | None) -> None:
    with pytest.raises(ConvertError, match="convert it with --resize"):
        Preprocess((16, 16), resize, ten_crop=True)


def test_pictures_of_any_size_stay_whole() -> None:
    whole = Preprocess((2, 3), 4, (1, 2, 3), 0.5, input="image", any_size=True)
    assert np.array_equal(whole.apply(NOISE), NOISE[:, :, ::-1])
    batch = whole.batch([NOISE, NOISE[:1, :7]])
    assert (batch.shape, batch.dtype.name) == ((2,), "object")
    assert [picture.shape for picture in batch] == [(40, 60, 3), (1, 7, 3)]
    assert whole.batch([NOISE, NOISE]).shape == (2,), "of equal sizes too"
    assert (whole.blank(4).shape, whole.blank(4)[3].shape, whole.blank(0).shape) == ((4,), (2, 3, 3), (0,))
    assert Preprocess.from_json(whole.to_json()) == whole
    assert whole.outside() == Preprocess((2, 3), 4, (1, 2, 3), 0.5)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"ten_crop": True}, "the model takes whole pictures and crops their centre itself"),
        ({"resample": "pil"}, "as OpenCV does"),
        ({"input": "blob"}, "only a file that takes pictures"),
    ],
)
def test_what_pictures_of_any_size_exclude(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ConvertError, match=said):
        replace(Preprocess((2, 2), 4, input="image", any_size=True), **change)


def test_a_line_of_pixels_takes_no_memory() -> None:
    with pytest.raises(ConvertError, match=r"a picture of 1x40000 would grow to 256x10240000: the shorter side is"):
        Preprocess((224, 224), 256).apply(np.zeros((1, 40000, 3), np.uint8))
    assert Preprocess((224, 224), 256).apply(np.zeros((1, 1000, 3), np.uint8)).shape == (3, 224, 224)
