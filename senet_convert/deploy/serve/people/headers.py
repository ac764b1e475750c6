"""How large is this picture? Told by its first bytes, before any memory is spent on its pixels.

Each reader looks where OpenCV's decoder of that format looks, so that no file can show one size here and another one
there. A format without a reader here is not served.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from .av1 import coded_sizes

NAMES = "JPEG, PNG, WebP, GIF, BMP, TIFF, PNM, JPEG 2000 and AVIF"

_SCANS = 16  # a progressive JPEG is decoded once per scan; the usual ones have about ten
_NUMBER = rb"(?:\s|#[^\r\n]*[\r\n])+(\d{1,10})"
_PNM = re.compile(rb"P[1-6](?=\s)" + _NUMBER + _NUMBER)
_TIFF_SIZES = {1: "B", 3: "H", 4: "I", 16: "Q"}  # types that a width may have
_WIDTH, _HEIGHT, _TILE_WIDTH, _TILE_HEIGHT = 256, 257, 322, 323
_MARKER = re.compile(rb"\xff([\x02-\xcf\xd8-\xfe])")  # all that have a length, and the end
_SOF = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_EOI, _SOS = 0xD9, 0xDA
_CODESTREAM = b"\xff\x4f\xff\x51"  # JPEG 2000's SOC and SIZ


@dataclass(frozen=True)
class Size:
    """What decoding will cost: `pixels` is width x height, or more where a file makes the decoder hold more."""

    width: int
    height: int
    pixels: int


class HeaderError(Exception):
    """No picture of a known format, or its header is broken."""


def measure(data: bytes) -> Size:
    """A picture's size by its header. Raises HeaderError."""
    reader = next((reader for magic, reader in _READERS if data.startswith(magic)), None)
    if reader is None and data[4:8] == b"ftyp":
        reader = _avif
    if reader is None:
        raise HeaderError(f"it is none of {NAMES}")
    try:
        return reader(data)
    except (struct.error, IndexError, OverflowError) as fault:
        raise HeaderError("its header breaks off") from fault


def _size(width: int, height: int, held: int = 0) -> Size:
    if not width or not height:
        raise HeaderError(f"its header says {width} x {height} pixels")
    return Size(width, height, max(width * height, held))


def _jpeg(data: bytes) -> Size:
    """By the first start of frame; many scans over it cost as much as a larger picture."""
    size, scans = None, 0
    for marker, at in _markers(data):
        if marker in _SOF and size is None:
            height, width = struct.unpack_from(">HH", data, at + 3)
            size = _size(width, height)
        scans += marker == _SOS
        if marker == _EOI:
            break
    if size is None:
        raise HeaderError("a JPEG without a frame")
    return replace(size, pixels=max(size.pixels, size.pixels * scans // _SCANS))


def _markers(data: bytes) -> Iterator[tuple[int, int]]:
    """(marker, where its segment begins) as libjpeg walks them: what lies between segments is passed over."""
    at = 2
    while found := _MARKER.search(data, at):
        at = found.end()
        yield found[1][0], at
        if found[1][0] == _EOI:
            return
        at += max(2, int.from_bytes(data[at : at + 2], "big"))


def _png(data: bytes) -> Size:
    return _size(*struct.unpack_from(">II", data, 16))


def _gif(data: bytes) -> Size:
    return _size(*struct.unpack_from("<HH", data, 6))


def _bmp(data: bytes) -> Size:
    (header,) = struct.unpack_from("<I", data, 14)
    width, height = struct.unpack_from("<HH" if header == 12 else "<ii", data, 18)
    return _size(abs(width), abs(height))


def _webp(data: bytes) -> Size:
    chunk = data[12:16]
    if data[8:12] != b"WEBP" or chunk not in (b"VP8 ", b"VP8L", b"VP8X"):
        raise HeaderError("a RIFF file, but no WebP picture")
    if chunk == b"VP8X":
        return _size(*(int.from_bytes(data[at : at + 3], "little") + 1 for at in (24, 27)))
    if chunk == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return _size((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
    width, height = struct.unpack_from("<HH", data, 26)
    return _size(width & 0x3FFF, height & 0x3FFF)


def _pnm(data: bytes) -> Size:
    found = _PNM.match(data)
    if not found:
        raise HeaderError("a PNM file whose header is broken")
    return _size(int(found[1]), int(found[2]))


def _jpeg2000(data: bytes) -> Size:
    """By the code stream; what the boxes around it say is not what the decoder holds."""
    sizes = []
    at = data.find(_CODESTREAM)
    while at >= 0:
        right, bottom, left, top = struct.unpack_from(">IIII", data, at + 8)
        (planes,) = struct.unpack_from(">H", data, at + 40)
        sizes.append(_size(max(0, right - left), max(0, bottom - top), (right - left) * (bottom - top) * planes // 4))
        at = data.find(_CODESTREAM, at + 4)
    if not sizes:
        raise HeaderError("a JPEG 2000 file without a code stream")
    return max(sizes, key=lambda size: size.pixels)


def _tiff(data: bytes) -> Size:
    """By its first directory, the largest where a tag stands there twice; tiles are held whole."""
    order = "<" if data[:1] == b"I" else ">"
    big = data[2:4] in (b"\x2b\x00", b"\x00\x2b")
    (at,) = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)
    (count,) = struct.unpack_from(order + ("Q" if big else "H"), data, at)
    at += 8 if big else 2
    step, value_at = (20, 12) if big else (12, 8)
    found = dict.fromkeys((_WIDTH, _HEIGHT, _TILE_WIDTH, _TILE_HEIGHT), 0)
    for entry in range(at, min(at + count * step, len(data)), step):
        tag, kind = struct.unpack_from(order + "HH", data, entry)
        if tag not in found:
            continue
        if kind not in _TIFF_SIZES or (kind == 16 and not big):
            raise HeaderError("a TIFF file whose size is no whole number")
        (value,) = struct.unpack_from(order + _TIFF_SIZES[kind], data, entry + value_at)
        found[tag] = max(found[tag], value)
    return _size(found[_WIDTH], found[_HEIGHT], found[_TILE_WIDTH] * found[_TILE_HEIGHT])


def _avif(data: bytes) -> Size:
    try:
        shown, coded = coded_sizes(data)
    except ValueError as fault:
        raise HeaderError(str(fault)) from fault
    width, height = max(shown, key=lambda size: size[0] * size[1])
    largest = max(width * height for width, height in coded)
    together = sum(width * height for width, height in coded)  # of tiles, transparency and previews
    return _size(width, height, max(largest, together // 4))


Reader = Callable[[bytes], Size]
_READERS: tuple[tuple[bytes, Reader], ...] = (
    (b"\xff\xd8\xff", _jpeg),
    (b"\x89PNG\r\n\x1a\n", _png),
    (b"GIF8", _gif),
    (b"BM", _bmp),
    (b"RIFF", _webp),
    (b"II*\x00", _tiff),
    (b"MM\x00*", _tiff),
    (b"II+\x00", _tiff),
    (b"MM\x00+", _tiff),
    (b"\x00\x00\x00\x0cjP  \r\n\x87\n", _jpeg2000),
    (_CODESTREAM, _jpeg2000),
    *((b"P%d" % kind, _pnm) for kind in range(1, 7)),
)
