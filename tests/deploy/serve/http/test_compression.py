from __future__ import annotations

import gzip
import tracemalloc
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from senet_convert.deploy.serve.errors import BAD, TOO_LARGE, RequestError
from senet_convert.deploy.serve.http import compression
from senet_convert.deploy.serve.pools import drain

Pack = Callable[[bytes], bytes]
PACKERS: dict[str, Pack] = {"gzip": gzip.compress, "deflate": zlib.compress, "identity": bytes, "": bytes}


def unpacked(body: bytes, encoding: str, limit: int) -> bytes:
    return drain(compression.unpack(body, encoding, limit))


@given(st.binary(), st.integers(1, 50), st.sampled_from(sorted(PACKERS)))
def test_bodies_are_unpacked_in_steps(body: bytes, step: int, name: str) -> None:
    packed = PACKERS[name](body)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compression, "_PIECE", step)
        patch.setattr(compression, "_GROWTH", step)
        assert unpacked(packed, name.upper(), 1000 + len(body)) == body


@pytest.mark.parametrize(("name", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_bombs_stop_at_the_limit(name: str, pack: Pack) -> None:
    assert unpacked(pack(bytes(1000)), name, 1000) == bytes(1000)
    with pytest.raises(RequestError, match="longer than 1000 bytes when it is unpacked") as info:
        unpacked(pack(bytes(1001)), name, 1000)
    assert info.value.status == TOO_LARGE
    bomb = pack(bytes(200_000_000))
    tracemalloc.start()
    try:
        with pytest.raises(RequestError):
            unpacked(bomb, name, 1_000_000)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["gzip", "deflate"])
def test_bodies_that_are_not_packed_that_way(name: str) -> None:
    packed = PACKERS[name](b"body" * 100)
    for wrong in (b"", b"no packing", packed[:-1], packed + b"more", packed[:20] + b"\xff" + packed[21:]):
        with pytest.raises(RequestError, match=name) as info:
            unpacked(wrong, name, 10_000)
        assert info.value.status == BAD


def test_unknown_packings_are_named() -> None:
    with pytest.raises(RequestError, match="'br' is not known; send gzip, deflate or none"):
        unpacked(b"", "br", 1)


@pytest.mark.parametrize(
    ("accept", "name"),
    [
        ("", None),
        ("gzip", "gzip"),
        ("deflate", "deflate"),
        ("deflate, GZIP;q=0.5", "gzip"),
        ("gzip; q=0, deflate;q=0.1", "deflate"),
        ("gzip;q=0.000", None),
        ("br, *", None),
        ("gzip;x=y", None),
    ],
)
def test_answers_are_packed_as_asked(accept: str, name: str | None) -> None:
    assert compression.chosen(accept, 5000) == name
    assert compression.chosen(accept, 100) is None


def test_packed_answers_can_be_unpacked() -> None:
    body = b"answer" * 1000
    assert gzip.decompress(compression.pack(body, "gzip")) == body
    assert zlib.decompress(compression.pack(body, "deflate")) == body


@pytest.mark.parametrize("name", ["gzip", "deflate"])
def test_a_step_is_short_and_tells_what_it_took(name: str) -> None:
    body = bytes(10_000_000)
    sizes = list(compression.unpack(PACKERS[name](body), name, len(body)))
    assert max(sizes) <= 2**20
    assert sum(sizes) == len(body)
    assert len(sizes) < 5 * len(body) / 2**20


def test_what_follows_a_stream_is_not_looked_at() -> None:
    steps = compression.unpack(gzip.compress(b"") * 100_000, "gzip", 1000)
    assert next(steps) == 0
    with pytest.raises(RequestError, match="something follows"):
        next(steps)


def test_few_of_many_choices_are_looked_at() -> None:
    assert compression.chosen("," * 30_000 + "gzip", 5000) is None
    assert compression.chosen("x," * 15 + "gzip" + ",x" * 10_000, 5000) == "gzip"
