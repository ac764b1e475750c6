"""Sizes that headers tell, against what OpenCV decodes; and files that lie about them."""

from __future__ import annotations

import io
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from senet_convert.deploy.images.images import decode
from senet_convert.deploy.serve.people.headers import HeaderError, measure
from senet_convert.errors import ConvertError
from tests.deploy.serve.asgi import encoded

SIZE = (53, 37)
LARGE = 60_000


def saved(kind: str, mode: str = "RGB", **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.frombytes("RGB", SIZE, bytes(3 * 37 * 53)).convert(mode).save(stream, kind, **options)
    return stream.getvalue()


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "gif", "bmp", "tiff", "ppm", "jp2", "avif"])
def test_what_opencv_writes(suffix: str) -> None:
    size = measure(encoded(*SIZE, f".{suffix}"))
    assert (size.width, size.height, size.pixels) == (*SIZE, SIZE[0] * SIZE[1])


@pytest.mark.parametrize(
    ("kind", "mode", "options"),
    [
        ("JPEG", "RGB", {"progressive": True}),
        ("JPEG", "L", {"exif": b"Exif\0\0" + bytes(40)}),
        ("JPEG", "CMYK", {}),
        ("TIFF", "RGB", {"compression": "tiff_deflate"}),
        ("TIFF", "L", {"big_tiff": True}),
        ("WEBP", "RGB", {"lossless": True}),
        ("WEBP", "RGBA", {"exif": b"Exif\0\0" + bytes(40)}),
        ("AVIF", "RGBA", {}),
        ("AVIF", "RGB", {"quality": 100, "subsampling": "4:4:4"}),
        ("JPEG2000", "RGB", {"no_jp2": True}),
        ("PNG", "P", {}),
        ("GIF", "P", {}),
        ("BMP", "1", {}),
        ("PPM", "1", {}),
    ],
)
def test_what_pillow_writes(kind: str, mode: str, options: dict[str, Any]) -> None:
    data = saved(kind, mode, **options)
    size = measure(data)
    assert (size.width, size.height, size.pixels) == (*SIZE, SIZE[0] * SIZE[1])
    assert decode(data, "it").shape[:2] == SIZE[::-1]


def test_a_pnm_with_comments() -> None:
    assert measure(b"P5 # by hand\n#\n4\t#width\n2\n255\n" + bytes(8)).pixels == 8


def test_a_large_size_is_told_whatever_follows() -> None:
    png = bytearray(saved("PNG"))
    png[16:24] = struct.pack(">II", LARGE, LARGE)
    bmp = bytearray(saved("BMP"))
    bmp[18:26] = struct.pack("<ii", LARGE, -LARGE)
    assert measure(bytes(png)).pixels == measure(bytes(bmp)).pixels == LARGE**2


def test_jpeg2000_is_as_large_as_its_code_stream() -> None:
    data = bytearray(saved("JPEG2000"))
    at = data.index(b"\xff\x4f\xff\x51")
    data[at + 8 : at + 16] = struct.pack(">II", LARGE, LARGE)
    assert measure(bytes(data)).pixels == LARGE**2


def test_many_scans_of_a_jpeg_count() -> None:
    data = saved("JPEG")
    at = data.index(b"\xff\xda")
    scans = data[:at] + 160 * data[at:-2] + data[-2:]
    assert measure(scans).pixels == 10 * SIZE[0] * SIZE[1]
    assert measure(data + scans).pixels == SIZE[0] * SIZE[1]  # what follows the end is not decoded


def tiff(*entries: tuple[int, int, int]) -> bytes:
    body = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    return b"II*\x00" + struct.pack("<IH", 8, len(entries)) + body + bytes(4)


def test_a_tiff_is_as_large_as_its_largest_word() -> None:
    assert measure(tiff((256, 3, 9), (257, 4, 5))).pixels == 45
    assert measure(tiff((256, 4, LARGE), (256, 4, 9), (257, 4, LARGE), (257, 4, 5))).pixels == LARGE**2
    assert measure(tiff((256, 3, 9), (257, 3, 5), (322, 4, LARGE), (323, 4, LARGE))).pixels == LARGE**2
    with pytest.raises(HeaderError, match="no whole number"):
        measure(tiff((256, 11, 9), (257, 3, 5)))


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense",
        b"RIFF    WAVEfmt ",
        b"P6 12",
        b"\xff\xd8\xff\xd9",
        b"\x89PNG\r\n\x1a\n",
        b"\x00\x00\x00\x0cjP  \r\n\x87\n",
        b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00heicmif1",
        tiff((257, 3, 5)),
        b"II+\x00\x08\x00\x00\x00" + 8 * b"\xff",
    ],
)
def test_what_has_no_size_is_refused(data: bytes) -> None:
    with pytest.raises(HeaderError):
        measure(data)


@settings(deadline=None)
@given(kind=st.sampled_from(["JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP", "JPEG2000", "AVIF"]), data=st.data())
def test_damaged_files_are_never_larger_than_their_headers_say(kind: str, data: st.DataObject) -> None:
    broken = bytearray(saved(kind))
    for at in data.draw(st.lists(st.integers(0, min(len(broken), 400) - 1), max_size=8)):
        broken[at] = data.draw(st.integers(0, 255))
    cut = bytes(broken[: data.draw(st.integers(len(broken) // 2, len(broken)))])
    try:
        size = measure(cut)
    except HeaderError:
        return
    assert size.pixels >= size.width * size.height > 0
    if size.pixels > 10_000_000:
        return
    try:
        height, width, _ = decode(cut, "it").shape
    except ConvertError:
        return
    assert height * width <= size.pixels
