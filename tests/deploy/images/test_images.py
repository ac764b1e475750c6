from __future__ import annotations

import os
import subprocess
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as Pil
from PIL import ImageOps

from senet_convert.deploy.images.images import TooManyPixelsError, decode, pictures_in, read_image
from senet_convert.errors import ConvertError

SMOOTH = cv2.resize(
    np.random.RandomState(3).randint(0, 255, (6, 8, 3), dtype=np.uint8), (80, 60), interpolation=cv2.INTER_CUBIC
)
PICTURE = Pil.fromarray(np.asarray(SMOOTH))


def saved(picture: Pil.Image, kind: str, **options: Any) -> bytes:
    file = BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def as_pillow(data: bytes) -> NDArray[np.uint8]:
    """B G R, turned as EXIF says, by a decoder that is not ours."""
    return np.asarray(ImageOps.exif_transpose(Pil.open(BytesIO(data))).convert("RGB"))[:, :, ::-1]


def with_alpha() -> Pil.Image:
    picture = PICTURE.copy()
    picture.putalpha(Pil.fromarray(np.random.RandomState(1).randint(0, 255, (60, 80), dtype=np.uint8)))
    return picture


FORMS = {
    "jpeg": saved(PICTURE, "JPEG"),
    "progressive jpeg": saved(PICTURE, "JPEG", progressive=True),
    "grey jpeg": saved(PICTURE.convert("L"), "JPEG"),
    "cmyk jpeg": saved(PICTURE.convert("CMYK"), "JPEG"),
    "png": saved(PICTURE, "PNG"),
    "palette": saved(PICTURE.quantize(32), "PNG"),
    "palette with transparency": saved(PICTURE.quantize(32), "PNG", transparency=3),
    "alpha": saved(with_alpha(), "PNG"),
    "grey with alpha": saved(PICTURE.convert("LA"), "PNG"),
    "black and white": saved(PICTURE.convert("1"), "PNG"),
    "gif": saved(PICTURE, "GIF"),
    "webp": saved(PICTURE, "WEBP", lossless=True),
    "bmp": saved(PICTURE, "BMP"),
    "tiff": saved(PICTURE, "TIFF"),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_pictures_give_the_pixels_that_pillow_reads(form: str) -> None:
    found = decode(FORMS[form], form)
    assert found.dtype == np.uint8
    assert np.abs(found.astype(int) - as_pillow(FORMS[form])).max() <= (1 if "cmyk" in form else 0)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(kind: str, orientation: int) -> None:
    exif = Pil.Exif()
    exif[0x112] = orientation
    data = saved(PICTURE, kind, exif=exif)
    assert np.array_equal(decode(data, kind), as_pillow(data))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("grey", [False, True])
def test_sixteen_bits_become_eight(suffix: str, grey: bool) -> None:
    eight = SMOOTH[:, :, 0] if grey else SMOOTH
    data = cv2.imencode(suffix, eight.astype(np.uint16) * 256 + 200)[1].tobytes()
    found = decode(data, "deep").astype(int)
    assert np.abs(found - eight.reshape(60, 80, -1)).max() <= 1  # the TIFF reader rounds, the others cut off


def test_one_channel() -> None:
    assert decode(FORMS["jpeg"], "grey", channels=1).shape == (60, 80, 1)


@pytest.mark.parametrize("form", ["jpeg", "progressive jpeg", "png", "gif", "webp", "bmp", "tiff"])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_pictures_that_break_off_are_refused_by_name(
    form: str, share: float, capfd: pytest.CaptureFixture[str]
) -> None:
    data = FORMS[form]
    with pytest.raises(ConvertError, match=r"^cut picture: "):
        decode(data[: int(len(data) * share)], "cut picture")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "empty"),
        (b"no picture at all", "broken, or no picture"),
        (b"%PDF-1.7 ...", "PDF"),
        (b"<svg xmlns='...'>", "SVG"),
        (b"<!doctype html>", "web page"),
        (b"\x00\x00\x00\x18ftypheic\x00\x00", "HEIC"),
        (cv2.imencode(".tif", SMOOTH.astype(np.float32))[1].tobytes(), "cannot"),
    ],
)
def test_what_is_no_picture_is_refused_by_name(data: bytes, said: str) -> None:
    with pytest.raises(ConvertError, match=f"^this one: .*{said}"):
        decode(data, "this one")


def test_a_jpeg_after_a_thumbnail_that_is_whole() -> None:
    """The end of the thumbnail is not the end of the picture."""
    exif = b"Exif\x00\x00" + FORMS["grey jpeg"]
    data = FORMS["jpeg"]
    data = data[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + data[2:]
    assert decode(data, "whole").shape == (60, 80, 3)
    with pytest.raises(ConvertError, match="breaks off"):
        decode(data[:-100], "cut")


NOISE = np.random.RandomState(5).bytes(300_000)  # holds JPEG's markers by chance, ends of images among them
JPEGS = {
    **{form: FORMS[form] for form in ("jpeg", "progressive jpeg", "grey jpeg", "cmyk jpeg")},
    "restart markers": saved(PICTURE, "JPEG", restart_marker_blocks=2),
}


@pytest.mark.parametrize("form", JPEGS)
@pytest.mark.parametrize(
    "behind",
    [b"\0", bytes(5000), b"\0\0\0\x18ftypmp42" + NOISE, b"\xff\xda" + NOISE, FORMS["jpeg"], FORMS["grey jpeg"][:300]],
    ids=["a byte", "zeros", "a video", "a marker", "a second picture", "half a picture"],
)
def test_what_lies_behind_a_jpegs_end_does_not_count(form: str, behind: bytes) -> None:
    assert np.array_equal(decode(JPEGS[form] + behind, form), decode(JPEGS[form], form))


@pytest.mark.parametrize("form", JPEGS)
@pytest.mark.parametrize("behind", [b"", bytes(100_000), b"\0\0\0\x18ftypmp42" + NOISE], ids=["", "zeros", "a video"])
@pytest.mark.parametrize("missing", [0.5, 0.2, 2])
def test_a_jpeg_that_breaks_off_is_refused_whatever_follows(form: str, behind: bytes, missing: float) -> None:
    data = JPEGS[form]
    cut = data[: -2 if missing == 2 else int(len(data) * (1 - missing))]
    with pytest.raises(ConvertError, match="cut: the JPEG breaks off"):
        decode(cut + behind, "cut")


def test_a_picture_of_several_pictures() -> None:
    data = saved(PICTURE, "MPO", save_all=True, append_images=[PICTURE.rotate(180)])
    assert np.array_equal(decode(data, "mpo"), as_pillow(data))


def test_bytes_before_a_jpeg_make_it_none() -> None:
    with pytest.raises(ConvertError, match="no picture"):
        decode(b"\0" + FORMS["jpeg"], "shifted")


def test_more_pixels_than_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENCV_IO_MAX_IMAGE_PIXELS", "4799")
    with pytest.raises(TooManyPixelsError, match=r"^it: has 80 x 60 pixels; at most 4,799 are read \(set OPENCV_IO"):
        decode(FORMS["png"], "it")


def test_opencv_has_the_same_limit() -> None:
    """It reads the variable when it is imported; a file whose header Pillow reads otherwise ends there."""
    program = """if True:
        from senet_convert.deploy.images.images import TooManyPixelsError, decode
        import cv2, numpy
        for suffix in (".png", ".jpg", ".tiff", ".webp", ".bmp", ".gif", ".ppm", ".avif"):
            try:
                cv2.imdecode(cv2.imencode(suffix, numpy.zeros((60, 80, 3), numpy.uint8))[1], 1)
            except cv2.error as fault:
                assert "MAX_IMAGE_PIXELS" in str(fault), fault
            else:
                raise SystemExit(suffix)
    """
    subprocess.run(
        [sys.executable, "-c", program], check=True, env={**os.environ, "OPENCV_IO_MAX_IMAGE_PIXELS": "4799"}
    )


def test_files(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(FORMS["png"])
    assert np.array_equal(read_image(tmp_path / "a.png"), SMOOTH[:, :, ::-1])
    with pytest.raises(ConvertError, match=r"b\.png: there is no such file"):
        read_image(tmp_path / "b.png")


def test_pictures_of_a_folder(tmp_path: Path) -> None:
    for name in ("b.JPEG", "a.png", "c.txt", ".d.png"):
        (tmp_path / name).touch()
    (tmp_path / "e.png").mkdir()
    assert [path.name for path in pictures_in(tmp_path.iterdir())] == ["a.png", "b.JPEG"]
