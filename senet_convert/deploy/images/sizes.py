"""How large is this picture? Told by Pillow from the header, at a bounded price, before any pixel is decoded.

Pillow reads headers in Python, step by step, and a hostile header has millions of steps. So it reads from a file that
counts: so many reads, so many bytes, and no more. What costs more than that, and formats whose parsers take the whole
file at once, raise `Unmeasured`: such pictures are for `apart`, where time and memory are bounded from outside.
"""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)
from PIL.Image import DecompressionBombError, DecompressionBombWarning

NAMES = "JPEG, PNG, WebP, GIF, BMP, TIFF, PNM, JPEG 2000 and AVIF"

_READS = 4096  # of a header; common ones take some dozens, a TIFF some hundreds
_BYTES = 1 << 20
_WEBP_BYTES = 4 << 20  # libwebp looks through the whole file, a hundred times as fast
_INFLATED = 64  # compressed texts and profiles in a PNG, each of which may grow to 8 MB

_SMALL = 256 << 10  # bytes: of a PNG, which grow to 260 MB at most
_PIECE = 1 << 20
_PNG_HEADER = 29  # bytes: the signature and the first chunk, which holds the size, without its checksum
_PIXELS_BEGIN = b"\0\0\0\0IDAT"
_PNG_COMPRESSED = (b"zTXt", b"iTXt", b"iCCP")
_MARKER, _START_OF_SCAN, _END_OF_IMAGE = 0xFF, 0xDA, 0xD9
_TILE_WIDTH, _TILE_HEIGHT = 322, 323

warnings.filterwarnings("ignore", module=r"PIL\.TiffImagePlugin")  # of tags that break off: the decoder judges
warnings.filterwarnings("ignore", category=DecompressionBombWarning)  # of WebP: the limits here are our own


@dataclass(frozen=True)
class Size:
    """What decoding will cost.

    cells   width x height, or those of a TIFF's tile where that is larger
    scans   how often a JPEG goes through its pixels; 1 for all others
    end     how many of the file's bytes are the picture: what phones put behind a JPEG is none of it
    """

    width: int
    height: int
    cells: int
    scans: int = 1
    end: int | None = None


class NoPictureError(Exception):
    """No picture of a known format, or its header is broken, or it breaks off."""


class HugeError(NoPictureError):
    """Larger than any limit: Pillow's own, where it cannot be left aside."""


class Unmeasured(Exception):  # noqa: N818 - nothing is wrong with the picture
    """Its size cannot be told at a bounded price."""


def measure(data: bytes, patience: int = 1) -> Size:
    """A picture's size by its header. `patience` multiplies what reading it may cost.

    Raises NoPictureError; Unmeasured.
    """
    if _parsed_whole(data):
        raise Unmeasured
    reader = next((reader for magic, reader in _READERS if data.startswith(magic)), None)
    if reader is None:
        raise NoPictureError(f"it is none of {NAMES}")
    size = reader(data, patience)
    if size.width <= 0 or size.height <= 0:
        raise NoPictureError(f"its header says {size.width} x {size.height} pixels")
    return size


class _Counting(BytesIO):
    """A file that gives so many bytes in so many reads; `spent` tells that more was asked for."""

    def __init__(self, data: bytes, patience: int, most: int = _BYTES) -> None:
        super().__init__(data)
        self._length = len(data)
        self._reads, self._bytes = patience * _READS, patience * most
        self.spent = False

    def read(self, size: int | None = -1, /) -> bytes:
        there = self._length - self.tell()
        wanted = there if size is None or size < 0 else min(size, there)
        self._reads -= 1
        self._bytes -= wanted
        if self._reads < 0 or self._bytes < 0:
            self.spent = True
            raise EOFError
        return super().read(wanted)


def _open(plugin: Callable[[Any], Any], file: _Counting) -> Any:
    """Not by Image.open, which has a limit of its own, and takes a JPEG of several pictures for another format."""
    try:
        return plugin(file)
    except (DecompressionBombError, DecompressionBombWarning) as fault:  # of WebP alone
        raise HugeError("it has more pixels than Pillow takes") from fault
    except Exception as fault:  # Pillow's readers raise whatever broken bytes lead to
        if file.spent:
            raise Unmeasured from fault
        raise NoPictureError("its header is broken, or breaks off") from fault


def _plain(plugin: Callable[[Any], Any], most: int = _BYTES) -> Callable[[bytes, int], Size]:
    def read(data: bytes, patience: int) -> Size:
        width, height = _open(plugin, _Counting(data, patience, most)).size
        return Size(width, height, width * height)

    return read


def _jpeg(data: bytes, patience: int) -> Size:
    """Pillow reads up to the first scan. Inside scans 0xFF is escaped, so that the next end marker is the picture's."""
    file = _Counting(data, patience)
    width, height = _open(JpegImagePlugin.JpegImageFile, file).size
    scans, end = _scans(data, file.tell())
    if end is None:
        raise NoPictureError(f"the JPEG breaks off after {len(data):,} bytes")
    return Size(width, height, width * height, scans, end)


def _scans(data: bytes, begin: int) -> tuple[int, int | None]:
    """How many scans there are from the first one's data at `begin` on, and where the end marker ends."""
    array, scans = np.frombuffer(data, np.uint8), 1
    for at in range(begin, len(data) - 1, _PIECE):
        piece = array[at : at + _PIECE + 1]
        places = np.flatnonzero(piece[:-1] == _MARKER)
        kinds = piece[places + 1]
        (ends,) = np.nonzero(kinds == _END_OF_IMAGE)
        scans += int(np.count_nonzero(kinds[: ends[0] if len(ends) else None] == _START_OF_SCAN))
        if len(ends):
            return scans, at + int(places[ends[0]]) + 2
    return scans, None


def _png(data: bytes, patience: int) -> Size:
    if len(data) > _SMALL and sum(_count(data, kind) for kind in _PNG_COMPRESSED) > patience * _INFLATED:
        raise Unmeasured
    header = data[12:_PNG_HEADER]  # whether its checksum is right, the decoder judges
    head = data[:_PNG_HEADER] + zlib.crc32(header).to_bytes(4, "big") + _PIXELS_BEGIN
    width, height = _open(PngImagePlugin.PngImageFile, _Counting(head, patience)).size
    return Size(width, height, width * height)


def _tiff(data: bytes, patience: int) -> Size:
    """Tiles are held whole, and may be larger than the picture."""
    picture = _open(TiffImagePlugin.TiffImageFile, _Counting(data, patience))
    width, height = picture.size
    tile = [picture.tag_v2.get(tag, 0) for tag in (_TILE_WIDTH, _TILE_HEIGHT)]
    if not all(isinstance(side, int) for side in tile):
        raise NoPictureError("a TIFF file whose tiles' size is no whole number")
    return Size(width, height, max(width * height, tile[0] * tile[1]))


def _count(data: bytes, word: bytes) -> int:
    """How often `word` occurs, looked for piece by piece: others get Python's lock in between."""
    beyond = len(word) - 1
    return sum(data.count(word, at, at + _PIECE + beyond) for at in range(0, len(data), _PIECE))


def _parsed_whole(data: bytes) -> bool:
    """AVIF and JPEG 2000: their parsers go through the whole file, in no bounded time; Pillow's, with Python's lock."""
    avif = data[4:8] == b"ftyp" and b"avif" in data[8:64]
    return avif or data.startswith((b"\x00\x00\x00\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51"))


_READERS: tuple[tuple[bytes, Callable[[bytes, int], Size]], ...] = (
    (b"\xff\xd8\xff", _jpeg),
    (b"\x89PNG\r\n\x1a\n", _png),
    (b"GIF8", _plain(GifImagePlugin.GifImageFile)),
    (b"BM", _plain(BmpImagePlugin.BmpImageFile)),
    (b"RIFF", _plain(WebPImagePlugin.WebPImageFile, _WEBP_BYTES)),
    *((magic, _tiff) for magic in (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")),
    *((b"P%d" % kind, _plain(PpmImagePlugin.PpmImageFile)) for kind in range(1, 7)),
)
