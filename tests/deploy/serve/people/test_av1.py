"""Sizes in AVIF files whose boxes and streams disagree."""

from __future__ import annotations

import io
import struct

import pytest
from PIL import Image

from senet_convert.deploy.serve.people.av1 import coded_sizes


def avif(width: int, height: int, mode: str = "RGB") -> bytes:
    stream = io.BytesIO()
    Image.new(mode, (width, height)).save(stream, "AVIF")
    return stream.getvalue()


@pytest.mark.parametrize(("width", "height"), [(1, 1), (64, 48), (640, 333), (3000, 17)])
def test_boxes_and_streams_agree(width: int, height: int) -> None:
    assert coded_sizes(avif(width, height)) == ([(width, height)], [(width, height)])


def test_transparency_is_a_stream_of_its_own() -> None:
    _, coded = coded_sizes(avif(64, 48, "RGBA"))
    assert coded == [(64, 48), (64, 48)]


def test_boxes_that_say_less_hide_nothing() -> None:
    data = avif(640, 333)
    at = data.index(b"ispe")
    small = data[: at + 8] + struct.pack(">II", 8, 8) + data[at + 16 :]
    assert coded_sizes(small) == ([(8, 8)], [(640, 333)])


def test_animations_and_files_without_a_picture_are_refused() -> None:
    data = avif(64, 48)
    with pytest.raises(ValueError, match="animated"):
        coded_sizes(data.replace(b"ftypavif", b"ftypavis", 1))
    with pytest.raises(ValueError, match="'meta' box"):
        coded_sizes(data.replace(b"meta", b"mota", 1))
    with pytest.raises(ValueError, match="without a picture"):
        coded_sizes(data.replace(b"av01", b"av02"))
