"""Requests that a server must survive, each with the answers that are right for it: a table, and a few bad manners."""

from __future__ import annotations

import asyncio
import gzip
import json
import struct
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import numpy as np

from .wire import Connection, binary, encode, plain

_JSON = "application/json"
_PIXELS = 60_000  # on a side of the picture that unpacks to gigabytes


@dataclass(frozen=True)
class Hostile:
    """A request as bytes, and the statuses that answer it."""

    name: str
    request: bytes
    answers: tuple[int, ...] = (400,)


def requests(model: str, name: str, shape: tuple[int, ...], output: str) -> list[Hostile]:
    """Bad requests to `model`, whose input `name` takes uint8 of `shape` (one item), each kind once."""
    infer = f"/v2/models/{model}/infer"
    image = np.zeros((1, *shape), np.uint8)
    tensor = {"name": name, "datatype": "UINT8", "shape": list(image.shape), "data": image.ravel().tolist()}
    good = binary(model, name, "UINT8", image, output)

    def asks(**changes: object) -> bytes:
        return encode(infer, json.dumps({"inputs": [tensor | changes]}).encode(), Content_Type=_JSON)

    def raw(body: bytes, **headers: str) -> bytes:
        return encode(infer, body, Content_Type=_JSON, **headers)

    def length(value: object) -> bytes:
        return raw(good.partition(b"\r\n\r\n")[2], Inference_Header_Content_Length=str(value))

    classify = "/v1/classify"
    return [
        Hostile("no JSON", raw(b"\x00\xff" * 500), (400,)),
        Hostile("broken JSON", raw(b'{"inputs": [{"name": '), (400,)),
        Hostile("another JSON", raw(b'[1, "two", null]'), (400,)),
        Hostile("deep JSON", raw(b"[" * 200_000), (400,)),
        Hostile("deep data", asks(data=json.loads("[" * 90 + "]" * 90)), (400,)),
        Hostile("huge number", raw(b'{"inputs": ' + b"9" * 100_000 + b"}"), (400,)),
        Hostile("no inputs", raw(b"{}"), (400,)),
        Hostile("unknown input", asks(name="nothing"), (400,)),
        Hostile("wrong type", asks(datatype="FP32"), (400,)),
        Hostile("no such type", asks(datatype="COMPLEX9"), (400,)),
        Hostile("strings for numbers", asks(data=["a"] * image.size), (400,)),
        Hostile("numbers out of range", asks(data=[256] * image.size), (400,)),
        Hostile("too few numbers", asks(data=[1, 2, 3]), (400,)),
        Hostile("wrong shape", asks(shape=[1, 2, 3]), (400,)),
        Hostile("negative shape", asks(shape=[-1, *shape]), (400,)),
        Hostile("endless shape", asks(shape=[2**62, *shape]), (400,)),
        Hostile("empty batch", asks(shape=[0, *shape], data=[]), (400,)),
        Hostile("large batch", plain(model, name, "UINT8", np.zeros((64, *shape), np.uint8)), (400, 413)),
        Hostile("unknown output", binary(model, name, "UINT8", image, "nothing"), (400,)),
        Hostile("header length beyond the body", length(10**9), (400,)),
        Hostile("negative header length", length(-1), (400,)),
        Hostile("header length in words", length("many"), (400,)),
        Hostile("header length too short", length(20), (400,)),
        Hostile("truncated tensor", _cut(good), (400,)),
        Hostile("gzip that is none", raw(b"not gzipped", Content_Encoding="gzip"), (400,)),
        Hostile("gzip bomb", raw(gzip.compress(bytes(2**26)), Content_Encoding="gzip"), (400, 413)),
        Hostile("unknown encoding", raw(b"x", Content_Encoding="lzma"), (400, 415)),
        Hostile("unknown model", binary("nothing", name, "UINT8", image, output), (404,)),
        Hostile("unknown version", encode(f"/v2/models/{model}/versions/77/ready"), (404,)),
        Hostile("a version in words", encode(f"/v2/models/{model}/versions/..%2f..%2fetc/ready"), (400, 404)),
        Hostile("a way out", encode("/v2/models/..%2f..%2f..%2fetc%2fpasswd/config"), (404,)),
        Hostile("static way out", encode("/static/..%2f..%2f..%2f..%2fetc%2fpasswd"), (404,)),
        Hostile("load what is not there", encode("/v2/repository/models/nothing/load", b"{}"), (400, 404)),
        Hostile("another method", encode(infer, method="DELETE"), (405,)),
        Hostile("no such path", encode("/v9/everything"), (404,)),
        Hostile("oversize, announced", encode(infer, method="POST", Content_Length=10**12), (413,)),
        Hostile("classify nothing", encode(classify, b" ", Content_Type="image/png"), (415, 422)),
        Hostile("classify noise", encode(classify, bytes(range(256)) * 40, Content_Type="image/png"), (415, 422)),
        Hostile("classify JSON", encode(classify, b'{"a": 1}', Content_Type=_JSON), (400, 415, 422)),
        Hostile(
            "P6 and spaces", encode(classify, b"P6" + b" " * 2_000_000, Content_Type="image/x-portable-pixmap"), (422,)
        ),
        Hostile("AVIF of many items", encode(classify, avif(2000, 4000), Content_Type="image/avif"), (422,)),
        Hostile("bomb of pixels", encode(classify, png_bomb(), Content_Type="image/png"), (413, 422)),
        Hostile(
            "broken form", encode(classify, b"--x\r\n", Content_Type="multipart/form-data; boundary=y"), (400, 422)
        ),
        Hostile("form without boundary", encode(classify, b"--x\r\n", Content_Type="multipart/form-data"), (400, 415)),
        Hostile("endless head", b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"a" * 2**17 + b"\r\n\r\n", (431,)),
        Hostile("long path", b"GET /" + b"a" * 2**17 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", (414,)),
        Hostile("no HTTP", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", (400,)),
    ]


def png_bomb() -> bytes:
    """A PNG of a few kB that says it has 60,000 x 60,000 pixels."""
    head = struct.pack(">IIBBBBB", _PIXELS, _PIXELS, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(2**20), 9)
    chunks = [(b"IHDR", head), (b"IDAT", rows), (b"IEND", b"")]
    parts = [struct.pack(">I", len(data)) + kind + data + _crc(kind + data) for kind, data in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def avif(items: int, headers: int) -> bytes:
    """An AVIF without a picture, whose table names one item many times, and whose item has many sequence headers."""

    def box(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I4s", 8 + len(body), kind) + body

    entry = box(b"infe", b"\2\0\0\0" + struct.pack(">HH", 1, 0) + b"av01\0")
    table = box(b"iinf", bytes(4) + struct.pack(">H", items) + entry * items)
    size = box(b"iprp", box(b"ipco", box(b"ispe", bytes(4) + struct.pack(">II", 16, 16))))
    stream = b"\x0a\x04\x18\0\0\0" * headers
    brand = box(b"ftyp", b"avif\0\0\0\0avifmif1")

    def meta(offset: int) -> bytes:
        where = struct.pack(">HHHII", 1, 0, 1, offset, len(stream))
        place = box(b"iloc", bytes(4) + b"\x44\0" + struct.pack(">H", 1) + where)
        return box(b"meta", bytes(4) + size + table + place)

    return brand + meta(len(brand) + len(meta(0)) + 8) + box(b"mdat", stream)


async def abort_within_body(port: int, request: bytes) -> None:
    """Half a request, then gone."""
    connection = await Connection.open(port)
    await connection.send(request[: len(request) // 2])
    await asyncio.sleep(0.05)
    connection.close()


async def abort_before_answer(port: int, request: bytes) -> None:
    """A whole request, then gone."""
    connection = await Connection.open(port)
    await connection.send(request)
    connection.close()


async def drip(port: int, request: bytes) -> None:
    """A byte now and then, for a while."""
    connection = await Connection.open(port)
    for at in range(10):
        await connection.send(request[at : at + 1])
        await asyncio.sleep(0.1)
    connection.close()


async def say_nothing(port: int, _: bytes) -> None:
    """A connection without a request."""
    connection = await Connection.open(port)
    await asyncio.sleep(1)
    connection.close()


async def take_nothing(port: int, request: bytes) -> None:
    """Many requests at once, and none of the answers read."""
    connection = await Connection.open(port)
    await connection.send(request * 8)
    await asyncio.sleep(0.3)
    connection.close()


MANNERS: tuple[Callable[[int, bytes], Awaitable[None]], ...] = (
    abort_within_body,
    abort_before_answer,
    drip,
    say_nothing,
    take_nothing,
)


def _cut(request: bytes) -> bytes:
    """The same with a body that lacks its last 100 bytes, and a Content-Length that says so."""
    head, _, body = request.partition(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"content-length")]
    short = body[:-100]
    return b"\r\n".join([*lines, b"Content-Length: %d" % len(short)]) + b"\r\n\r\n" + short


def _crc(data: bytes) -> bytes:
    return struct.pack(">I", zlib.crc32(data))
