"""Bytes that become a model's input, and what is refused before it costs memory."""

from __future__ import annotations

import asyncio
import io
import struct
import threading
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from senet_convert.deploy.images.images import read_image
from senet_convert.deploy.model import Model
from senet_convert.deploy.serve.faults import BUSY, NO_IMAGE, TOO_LARGE, RequestError
from senet_convert.deploy.serve.people.pictures import Pictures, prepare
from senet_convert.deploy.serve.pools import Pool
from tests.deploy.serve.asgi import encoded

MOST = 1_000_000


def refused(data: bytes, model: Model, most: int = MOST) -> RequestError:
    with pytest.raises(RequestError) as caught:
        prepare(data, model, most)
    return caught.value


def test_the_same_as_on_the_command_line(digits: Path, model: Model) -> None:
    file = digits / "images" / "digits_val_00000001.png"
    expected = model.preprocess.apply(read_image(file))
    np.testing.assert_array_equal(prepare(file.read_bytes(), model, MOST), expected)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no bytes came"),
        (b"hello", "none of JPEG, PNG"),
        (b"%PDF-1.7 ...", "it is a PDF"),
        (b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00", "HEIC; save it as JPEG or PNG"),
        (encoded(40, 40, ".jpg")[:-300], "breaks off"),
        (encoded(40, 40)[:60], "broken"),
    ],
)
def test_what_is_no_picture_is_told_in_words(data: bytes, words: str, model: Model) -> None:
    fault = refused(data, model)
    assert fault.status == NO_IMAGE
    assert words in fault.message


def test_a_bomb_is_refused_before_it_is_decoded(model: Model) -> None:
    bomb = bytearray(encoded(8, 8))
    bomb[16:24] = struct.pack(">II", 30_000, 30_000)
    tracemalloc.start()
    fault = refused(bytes(bomb), model)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert fault.status == TOO_LARGE
    assert "30000 x 30000 pixels; this server takes 1,000,000 at most" in fault.message
    assert peak < 100_000


def test_an_avif_that_lies_about_its_size_is_refused(model: Model) -> None:
    stream = io.BytesIO()
    Image.new("RGB", (4000, 3000)).save(stream, "AVIF")
    data = stream.getvalue()
    at = data.index(b"ispe")
    fault = refused(data[: at + 8] + struct.pack(">II", 8, 8) + data[at + 16 :], model)
    assert fault.status == TOO_LARGE
    assert "8 x 8 pixels, but decoding it would cost as much as 12,000,000" in fault.message


def test_a_long_strip_is_refused_when_resizing_would_blow_it_up(model: Model) -> None:
    strip = encoded(9000, 1)
    fault = refused(strip, model)
    assert fault.status == TOO_LARGE
    assert "resized to 36 it would have 11,664,000" in fault.message
    squeezed = replace(model, preprocess=replace(model.preprocess, resize=None))
    assert prepare(strip, squeezed, MOST).shape == (3, 32, 32)


def test_no_more_wait_than_may(model: Model) -> None:
    async def go() -> None:
        pool = Pool("pictures", threads=1, queue=2)
        held = threading.Event()
        holding = asyncio.create_task(pool.run(held.wait, 10))
        await asyncio.sleep(0)
        pictures = Pictures(pool, MOST)
        tasks = [asyncio.create_task(pictures.prepare(encoded(9, 9), model)) for _ in range(3)]
        await asyncio.sleep(0.05)
        held.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [getattr(result, "status", None) for result in results] == [None, None, BUSY]
        assert (await pictures.prepare(encoded(9, 9), model)).shape == (3, 32, 32)
        await holding

    asyncio.run(go())
