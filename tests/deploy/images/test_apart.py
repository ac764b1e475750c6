"""Pictures decoded in a process of their own, within limits."""

from __future__ import annotations

import io
import struct
import time

import numpy as np
import pytest
from PIL import Image

from senet_convert.deploy.images import apart
from senet_convert.deploy.images.apart import TooCostlyError, decode_apart
from senet_convert.deploy.images.images import decode
from senet_convert.errors import ConvertError
from tests.deploy.serve.asgi import encoded

MOST = 1_000_000


@pytest.mark.parametrize("suffix", [".avif", ".jp2", ".jpg", ".tiff"])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_same_pixels(suffix: str, channels: int) -> None:
    data = encoded(53, 37, suffix)
    np.testing.assert_array_equal(decode_apart(data, channels, MOST), decode(data, "it", channels))


@pytest.mark.parametrize("suffix", [".avif", ".jp2", ".png"])
def test_more_pixels_than_allowed(suffix: str) -> None:
    assert decode_apart(encoded(50, 40, suffix), 3, 2000).shape == (40, 50, 3)
    with pytest.raises(TooCostlyError, match="more than 1,999 pixels"):
        decode_apart(encoded(50, 40, suffix), 3, 1999)


def test_what_is_broken_is_told_as_elsewhere() -> None:
    with pytest.raises(ConvertError, match=r"^the picture: OpenCV cannot read it") as caught:
        decode_apart(encoded(53, 37, ".avif")[:100], 3, MOST)
    assert not isinstance(caught.value, TooCostlyError)


def box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(body), kind) + body


def many_items(count: int) -> bytes:
    """An AVIF whose tables name so many items: each is looked for among all others."""
    numbers = range(1, count + 1)
    named = b"".join(box(b"infe", b"\2\0\0\0" + struct.pack(">HH", one, 0) + b"av01\0") for one in numbers)
    places = b"".join(struct.pack(">HHHII", one, 0, 1, 0, 10) for one in numbers)
    uses = b"".join(box(b"auxl", struct.pack(">HHH", one, 1, 1)) for one in numbers[1:])
    meta = box(b"hdlr", bytes(8) + b"pict" + bytes(13)) + box(b"pitm", bytes(4) + b"\0\1")
    meta += box(b"iinf", bytes(4) + struct.pack(">H", count) + named) + box(b"iref", bytes(4) + uses)
    meta += box(b"iloc", b"\0\0\0\0\x44\0" + struct.pack(">H", count) + places)
    return box(b"ftyp", b"avif\0\0\0\0avifmif1") + box(b"meta", bytes(4) + meta)


def test_a_parser_that_takes_forever_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart, "SECONDS", 1)
    started = time.monotonic()
    with pytest.raises(TooCostlyError, match="takes longer than 3 s"):
        decode_apart(many_items(60_000), 3, MOST)
    assert time.monotonic() - started < 12  # it would take minutes


def test_a_stream_larger_than_its_boxes_say_stays_within_memory() -> None:
    """The boxes promise 8 x 8 pixels, the stream has 144 million."""
    stream = io.BytesIO()
    Image.new("L", (12_000, 12_000)).save(stream, "AVIF", speed=10)
    data = stream.getvalue()
    at = data.index(b"ispe")
    with pytest.raises(ConvertError, match=r"more memory|OpenCV cannot"):
        decode_apart(data[: at + 8] + struct.pack(">II", 8, 8) + data[at + 16 :], 3, MOST)
