"""Sizes that headers tell, against what OpenCV decodes; files that lie about them; headers that never end."""

from __future__ import annotations

import contextlib
import io
import struct
import time
import tracemalloc
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from senet_convert.deploy.images import sizes
from senet_convert.deploy.images.images import decode
from senet_convert.deploy.images.sizes import HugeError, NoPictureError, Size, Unmeasured, measure
from senet_convert.errors import ConvertError
from tests.deploy.serve.asgi import encoded

SIZE = (53, 37)
CELLS = SIZE[0] * SIZE[1]
LARGE = 60_000
MANY = 20_000_000  # bytes
PNG = b"\x89PNG\r\n\x1a\n"


def saved(kind: str, mode: str = "RGB", **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.frombytes("RGB", SIZE, bytes(3 * CELLS)).convert(mode).save(stream, kind, **options)
    return stream.getvalue()


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "gif", "bmp", "tiff", "ppm"])
def test_what_opencv_writes(suffix: str) -> None:
    size = measure(encoded(*SIZE, f".{suffix}"))
    assert (size.width, size.height, size.cells) == (*SIZE, CELLS)


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
        ("PNG", "P", {}),
        ("GIF", "P", {}),
        ("BMP", "1", {}),
        ("PPM", "1", {}),
    ],
)
def test_what_pillow_writes(kind: str, mode: str, options: dict[str, Any]) -> None:
    data = saved(kind, mode, **options)
    size = measure(data)
    assert (size.width, size.height, size.cells) == (*SIZE, CELLS)
    assert decode(data, "it").shape[:2] == SIZE[::-1]


@pytest.mark.parametrize(("kind", "options"), [("AVIF", {}), ("JPEG2000", {}), ("JPEG2000", {"no_jp2": True})])
def test_formats_that_are_parsed_whole_are_not_measured(kind: str, options: dict[str, Any]) -> None:
    with pytest.raises(Unmeasured):
        measure(saved(kind, **options), patience=1000)
    assert decode(saved(kind, **options), "it").shape[:2] == SIZE[::-1]


def test_a_large_size_is_told_whatever_follows() -> None:
    png = bytearray(saved("PNG"))
    png[16:24] = struct.pack(">II", LARGE, LARGE)
    bmp = bytearray(saved("BMP"))
    bmp[18:26] = struct.pack("<ii", LARGE, -LARGE)
    assert measure(bytes(png)).cells == measure(bytes(bmp)).cells == LARGE**2


def test_a_webp_larger_than_pillow_allows() -> None:
    canvas = b"VP8X\x0a\0\0\0\x02\0\0\0" + 2 * (16382).to_bytes(3, "little") + b"ANIM\6\0\0\0" + bytes(6)
    picture = saved("WEBP", lossless=True)[12:]
    frame = bytes(6) + (52).to_bytes(3, "little") + (36).to_bytes(3, "little") + b"\x0a\0\0\0" + picture
    body = b"WEBP" + canvas + b"ANMF" + struct.pack("<I", len(frame)) + frame
    data = b"RIFF" + struct.pack("<I", len(body)) + body
    with pytest.raises(HugeError, match="more pixels than"):
        measure(data)


def test_scans_of_a_jpeg_are_counted_up_to_its_end() -> None:
    data = saved("JPEG")
    at = data.index(b"\xff\xda")
    assert measure(data[:at] + 160 * data[at:-2] + data[-2:]) == Size(
        *SIZE, CELLS, 160, len(data) + 159 * (len(data) - at - 2)
    )
    assert measure(data + data) == Size(*SIZE, CELLS, 1, len(data))


def test_a_jpegs_end_may_lie_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where two pieces meet."""
    data = saved("JPEG", progressive=True)
    whole = measure(data)
    assert (whole.scans, whole.end) == (data.count(b"\xff\xda"), len(data))
    for piece in range(1, 40):
        monkeypatch.setattr(sizes, "_PIECE", piece)
        assert measure(data) == measure(data + b"\xff\xd9") == whole


def tiff(*entries: tuple[int, int, int]) -> bytes:
    more = ((258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 8), (277, 3, 1), (279, 4, 1))
    ordered = sorted((*entries, *more), key=lambda entry: entry[0])
    body = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in ordered)
    return b"II*\x00" + struct.pack("<IH", 8, len(ordered)) + body + bytes(4)


def test_a_tiff_is_as_large_as_its_tiles() -> None:
    assert measure(tiff((256, 3, 9), (257, 4, 5))).cells == 45
    tiled = measure(tiff((256, 3, 9), (257, 3, 5), (322, 4, LARGE), (323, 4, LARGE), (324, 4, 8), (325, 4, 8)))
    assert tiled == Size(9, 5, LARGE**2)


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense",
        b"RIFF    WAVEfmt ",
        b"P6 12",
        b"P6 0 5 255 ",
        b"\xff\xd8\xff\xd9",
        PNG,
        b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00heicmif1",
        tiff((257, 3, 5)),
        b"II+\x00\x08\x00\x00\x00" + 8 * b"\xff",
        saved("JPEG")[:-2],
    ],
)
def test_what_has_no_size_is_refused(data: bytes) -> None:
    with pytest.raises(NoPictureError):
        measure(data)


def chunk(kind: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def among(kind: str, at: int, part: bytes) -> bytes:
    """A picture with very many of such parts in its header."""
    data = saved(kind, "P" if kind == "GIF" else "RGB")
    return data[:at] + part * (MANY // len(part)) + data[at:]


def segment(marker: int, body: bytes = b"") -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


def strips() -> bytes:
    count = MANY // 8
    tags = [(256, 4, 1, 16), (257, 4, 1, count), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)]
    tags += [(273, 4, count, 200), (277, 3, 1, 1), (278, 3, 1, 1), (279, 4, count, 200)]
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return head.ljust(200, b"\0") + bytes(4 * count)


BOMB = zlib.compress(bytes(1_000_000))
ENDLESS: dict[str, Callable[[], bytes]] = {
    "PNM of spaces": lambda: b"P6" + b" " * MANY,
    "PNG of empty chunks": lambda: among("PNG", 33, chunk(b"abCd")),
    "PNG of texts": lambda: among("PNG", 33, chunk(b"tEXt", b"a\0b")),
    "PNG of compressed texts": lambda: among("PNG", 33, chunk(b"zTXt", b"a\0\0" + BOMB)),
    "PNG of profiles": lambda: among("PNG", 33, chunk(b"iCCP", b"a\0\0" + BOMB)),
    "JPEG of empty segments": lambda: among("JPEG", 2, segment(0xE5)),
    "JPEG of comments": lambda: among("JPEG", 2, segment(0xFE)),
    "JPEG of fill bytes": lambda: among("JPEG", 2, b"\xff"),
    "JPEG of Exif": lambda: among("JPEG", 2, segment(0xE1, b"Exif\0\0" + bytes(65000))),
    "JPEG of resources": lambda: among("JPEG", 2, segment(0xED, b"Photoshop 3.0\0" + 5400 * b"8BIM\4\4\0\0\0\0\0\0")),
    "JPEG of tables": lambda: among("JPEG", 2, segment(0xDB, 1000 * bytes(range(65)))),
    "GIF of comments": lambda: among("GIF", 781, b"\x21\xfe\x01a\0"),
    "GIF of zeros": lambda: among("GIF", 781, b"\0"),
    "TIFF of strips": strips,
    "WebP of chunks": lambda: among("WEBP", 12, b"abcd\0\0\0\0"),
    "AVIF of boxes": lambda: saved("AVIF") + MANY // 8 * b"\0\0\0\x08free",
}


@pytest.mark.parametrize("name", ENDLESS)
def test_endless_headers_cost_next_to_nothing(name: str) -> None:
    """Each took seconds, half a gigabyte, or Python's lock for as long."""
    data = ENDLESS[name]()

    def told() -> None:
        with contextlib.suppress(NoPictureError, Unmeasured):
            assert measure(data).cells == CELLS

    started = time.thread_time()
    told()
    assert time.thread_time() - started < 0.5
    tracemalloc.start()
    told()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16_000_000


def test_many_bytes_before_the_pixels_are_a_matter_of_patience() -> None:
    data = among("JPEG", 2, segment(0xE1, b"http://ns.adobe.com/xmp/extension/\0" + bytes(60000)))
    with pytest.raises(Unmeasured):
        measure(data)
    assert measure(data, patience=64).cells == CELLS


@settings(deadline=None)
@given(kind=st.sampled_from(["JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP", "PPM"]), data=st.data())
def test_damaged_files_are_never_larger_than_their_headers_say(kind: str, data: st.DataObject) -> None:
    broken = bytearray(saved(kind))
    for at in data.draw(st.lists(st.integers(0, min(len(broken), 400) - 1), max_size=8)):
        broken[at] = data.draw(st.integers(0, 255))
    cut = bytes(broken[: data.draw(st.integers(len(broken) // 2, len(broken)))])
    try:
        size = measure(cut)
    except (NoPictureError, Unmeasured):
        return
    assert size.cells >= size.width * size.height > 0
    if size.cells > 10_000_000:
        return
    try:
        height, width, _ = decode(cut, "it").shape
    except ConvertError:
        return
    assert height * width <= size.cells
