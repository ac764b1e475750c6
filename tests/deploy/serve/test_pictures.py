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

from senet_convert.deploy.images.images import decode, read_image
from senet_convert.deploy.model import Model
from senet_convert.deploy.serve import pictures as module
from senet_convert.deploy.serve.errors import BUSY, NO_IMAGE, TOO_LARGE, RequestError
from senet_convert.deploy.serve.pictures import Pictures, prepare
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


@pytest.mark.parametrize("suffix", [".avif", ".jp2"])
def test_what_is_decoded_apart_keeps_to_the_same_limits(suffix: str, model: Model) -> None:
    data = encoded(90, 80, suffix)
    np.testing.assert_array_equal(prepare(data, model, 7200), model.preprocess.apply(decode(data, "it")))
    fault = refused(data, model, 7199)
    assert fault.status == TOO_LARGE
    assert "more than 7,199 pixels" in fault.message
    assert refused(data[:-400], model).status == NO_IMAGE


def test_a_header_that_costs_too_much_is_read_apart(model: Model) -> None:
    """Cameras and editors put megabytes before the pixels."""
    jpeg = encoded(40, 40, ".jpg")
    data = jpeg[:2] + 100 * (b"\xff\xe1\xff\xff" + bytes(65533)) + jpeg[2:]
    np.testing.assert_array_equal(prepare(data, model, MOST), prepare(jpeg, model, MOST))
    pnm = refused(b"P6" + b" " * 20_000_000, model)
    assert pnm.status == NO_IMAGE
    assert "no picture" in pnm.message


def test_what_is_decoded_apart_holds_up_no_other_picture(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    held = threading.Event()

    def stuck(*_: object) -> None:
        held.wait(10)

    async def go() -> None:
        pictures = Pictures(Pool("pictures", threads=1, queue=9), MOST)
        monkeypatch.setattr(module, "_unmeasured", stuck)
        tasks = [asyncio.create_task(pictures.prepare(encoded(9, 9, ".avif"), model)) for _ in range(4)]
        await asyncio.sleep(0.05)
        async with asyncio.timeout(5):
            assert (await pictures.prepare(encoded(9, 9), model)).shape == (3, 32, 32)
        held.set()
        await asyncio.gather(*tasks)

    asyncio.run(go())


def test_scans_cost_as_much_as_pixels(model: Model) -> None:
    stream = io.BytesIO()
    Image.new("RGB", (1000, 1000)).save(stream, "JPEG", progressive=True)
    data = stream.getvalue()
    last = data.rindex(b"\xff\xda")
    assert prepare(data, model, MOST).shape == (3, 32, 32)
    fault = refused(data[:-2] + 60 * data[last:-2] + data[-2:], model)
    assert fault.status == TOO_LARGE
    assert "1000 x 1000 pixels, but decoding it would cost as much as 4," in fault.message


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
