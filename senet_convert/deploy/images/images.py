"""Picture files as OpenCV reads them: the same bytes give the same pixels as in Caffe's own tools.

Turned by their EXIF orientation; grey and palette pictures become colour, CMYK is converted, transparency is ignored
(the colour beneath it counts), 16 bits a channel become 8, an animation gives its first frame. Anything else is refused
by name: what is no picture, what breaks off, floating-point TIFFs, formats that OpenCV lacks.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ...errors import ConvertError
from ...files import require_file

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
_HEIC = (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftyphevc")

if hasattr(cv2, "utils") and hasattr(cv2.utils, "logging"):
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # each fault is told once, by name, as an error


def read_image(path: Path, channels: int = 3) -> Image:
    """A picture file: uint8 (H, W, channels), B G R or grey. Raises ConvertError with the file's name."""
    require_file(path)
    try:
        data = path.read_bytes()
    except OSError as fault:
        raise ConvertError(f"{path}: cannot be read: {fault.strerror or fault}") from fault
    return decode(data, str(path), channels)


def decode(data: bytes, name: str, channels: int = 3) -> Image:
    """A picture's bytes: uint8 (H, W, channels), B G R or grey. Raises ConvertError that begins with `name`."""
    if not data:
        raise ConvertError(f"{name}: the file is empty")
    if _breaks_off(data):
        raise ConvertError(f"{name}: the JPEG breaks off after {len(data):,} bytes")
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR if channels == 3 else cv2.IMREAD_GRAYSCALE)
    except cv2.error as fault:
        raise ConvertError(f"{name}: OpenCV cannot decode it: {' '.join(str(fault.err or fault).split())}") from fault
    if image is None:
        raise ConvertError(f"{name}: {_explain(data)}")
    return np.asarray(image, np.uint8).reshape(*image.shape[:2], channels)


def pictures_in(paths: Iterable[Path]) -> list[Path]:
    """Those of the files that are pictures by their suffix, hidden ones left out, in the order of their names."""
    return sorted(
        path for path in paths if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
    )


def _breaks_off(data: bytes) -> bool:
    """Is this a JPEG whose last scan has no end? Older OpenCVs fill the rest of such a picture with grey.

    Inside a scan every byte 0xFF is escaped, so the markers cannot occur by chance.
    """
    return data.startswith(b"\xff\xd8\xff") and data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda")


def known_as(data: bytes) -> str | None:
    """What these bytes are, where they are something that people take for a picture and OpenCV does not."""
    start = data[:32].lstrip()
    if any(brand in data[:16] for brand in _HEIC):
        return "HEIC; save it as JPEG or PNG"
    return next((kind for head, kind in _KNOWN.items() if start[: len(head)].lower() == head.lower()), None)


def _explain(data: bytes) -> str:
    kind = known_as(data)
    return f"not a picture: it is {kind}" if kind else "OpenCV cannot read it as a picture: it is broken, or no picture"
