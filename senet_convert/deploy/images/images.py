"""Picture files as OpenCV reads them: the same bytes give the same pixels as in Caffe's own tools.

Turned by their EXIF orientation; grey and palette pictures become colour, CMYK is converted, transparency is ignored
(the colour beneath it counts), 16 bits a channel become 8, an animation gives its first frame. Anything else is refused
by name: what is no picture, what breaks off, floating-point TIFFs, formats that OpenCV lacks, more pixels than OpenCV's
own variable OPENCV_IO_MAX_IMAGE_PIXELS allows (where it is not set, 2^28: 800 MB). What phones and cameras put behind a
JPEG's end, a video or a second picture, is no part of it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path

WALL = "OPENCV_IO_MAX_IMAGE_PIXELS"
os.environ.setdefault(WALL, str(1 << 28))  # OpenCV reads it once, when it is imported

import cv2  # noqa: E402
import numpy as np  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
from PIL import Image as Pil  # noqa: E402

from ...errors import ConvertError  # noqa: E402
from ...files import require_file  # noqa: E402
from . import sizes  # noqa: E402
from .sizes import NoPictureError, Size, Unmeasured  # noqa: E402

Image = NDArray[np.uint8]  # (H, W, C), B G R or grey

SUFFIXES = {
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".webp", ".tif", ".tiff"),
    *(".gif", ".jp2", ".avif", ".ppm", ".pgm", ".pbm", ".pnm"),
}
_KNOWN = {  # first bytes of what people take for pictures that OpenCV reads
    b"%PDF": "a PDF",
    b"<svg": "an SVG drawing",
    b"<?xml": "XML, perhaps an SVG drawing",
    b"<!DO": "a web page",
    b"<htm": "a web page",
    b"8BPS": "a Photoshop file",
    b"PK\x03\x04": "a ZIP archive",
    b"\x1f\x8b": "gzipped",
}
_JPEG = b"\xff\xd8\xff"
_PATIENCE = 64  # with files that the user has chosen
_HEIC = (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftyphevc")

if hasattr(cv2, "utils") and hasattr(cv2.utils, "logging"):
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # each fault is told once, by name, as an error


class TooManyPixelsError(ConvertError):
    """A picture larger than this process reads."""


def read_image(path: Path, channels: int = 3) -> Image:
    """A picture file: uint8 (H, W, channels), B G R or grey. Raises ConvertError with the file's name."""
    require_file(path)
    try:
        data = path.read_bytes()
    except OSError as fault:
        raise ConvertError(f"{path}: cannot be read: {fault.strerror or fault}") from fault
    return decode(data, str(path), channels)


def decode(data: bytes, name: str, channels: int = 3, patience: int = _PATIENCE) -> Image:
    """A picture's bytes: uint8 (H, W, channels), B G R or grey. Raises ConvertError that begins with `name`.

    `patience` is how much its header may cost, in multiples of what `sizes` thinks right for strangers' pictures.
    """
    if not data:
        raise ConvertError(f"{name}: the file is empty")
    try:
        return decode_measured(data, name, channels, sizes.measure(data, patience))
    except (NoPictureError, Unmeasured) as fault:
        if data.startswith(_JPEG):
            raise ConvertError(f"{name}: {str(fault) or 'a JPEG whose header has too many parts'}") from fault
    return _decode(memoryview(data), name, channels)  # of a format that OpenCV alone knows, or broken


def decode_measured(data: bytes, name: str, channels: int, size: Size) -> Image:
    """As `decode`, of a picture whose size is known."""
    if size.width * size.height > int(os.environ[WALL]):
        raise _too_many(name, f"{size.width} x {size.height} pixels")
    if size.end is not None and size.end < len(data):
        _require_whole(data[: size.end], name)
    return _decode(memoryview(data)[: size.end], name, channels)


def _require_whole(data: bytes, name: str) -> None:
    """A JPEG with something behind its end marker. Where it is cut off, the marker may be one of what follows.

    OpenCV makes a picture of such bytes; Pillow's decoder is strict. It makes an eighth of the picture, for speed.
    """
    try:
        with Pil.open(BytesIO(data), formats=("JPEG",)) as picture:
            picture.draft("L", (1, 1))
            picture.load()
    except Exception as fault:
        raise ConvertError(f"{name}: the JPEG breaks off, and something else follows: {fault}") from fault


def _decode(data: memoryview, name: str, channels: int) -> Image:
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR if channels == 3 else cv2.IMREAD_GRAYSCALE)
    except cv2.error as fault:
        if "CV_IO_MAX_IMAGE_PIXELS" in str(fault):
            raise _too_many(name, "too many pixels") from fault
        raise ConvertError(f"{name}: OpenCV cannot decode it: {' '.join(str(fault.err or fault).split())}") from fault
    if image is None:
        raise ConvertError(f"{name}: {_explain(data[:32].tobytes())}")
    return np.asarray(image, np.uint8).reshape(*image.shape[:2], channels)


def _too_many(name: str, held: str) -> TooManyPixelsError:
    most = int(os.environ[WALL])
    return TooManyPixelsError(f"{name}: has {held}; at most {most:,} are read (set {WALL} to more if memory allows)")


def pictures_in(paths: Iterable[Path]) -> list[Path]:
    """Those of the files that are pictures by their suffix, hidden ones left out, in the order of their names."""
    return sorted(
        path for path in paths if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
    )


def known_as(data: bytes) -> str | None:
    """What these bytes are, where they are something that people take for a picture and OpenCV does not."""
    start = data[:32].lstrip()
    if any(brand in data[:16] for brand in _HEIC):
        return "HEIC; save it as JPEG or PNG"
    return next((kind for head, kind in _KNOWN.items() if start[: len(head)].lower() == head.lower()), None)


def _explain(data: bytes) -> str:
    kind = known_as(data)
    return f"not a picture: it is {kind}" if kind else "OpenCV cannot read it as a picture: it is broken, or no picture"
