"""Packed bodies: a request's is unpacked within a limit, an answer packed as the client asks."""

from __future__ import annotations

import io
import re
import zlib

from ..errors import BAD, TOO_LARGE, RequestError
from ..pools import Steps

_WINDOWS = {"gzip": 31, "deflate": 15}  # zlib's word for each packing: gzip's header, zlib's header
_WORTH = 1024  # bytes that are worth packing
_FAST = 1  # zlib's level: an answer is packed while its client waits
_PIECE = 64 * 1024  # bytes that are unpacked in one step
_GROWTH = 256 * 1024  # bytes that they may become in it
_CHOICES = 16  # packings of an Accept-Encoding that are looked at
_QUALITY = re.compile(r"\s*([\w*-]+)\s*(?:;\s*q\s*=\s*([\d.]+)\s*)?")


def unpack(body: bytes, encoding: str, limit: int) -> Steps[bytes]:
    """The body whole; `encoding` is the request's Content-Encoding. Yields how much longer it has become.

    Raises RequestError: unknown encoding, not packed that way, or longer than `limit` bytes when unpacked.
    """
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return body
    if name not in _WINDOWS:
        raise RequestError(BAD, f"Content-Encoding {encoding[:40]!r} is not known; send gzip, deflate or none")
    unpacker = zlib.decompressobj(_WINDOWS[name])
    found = io.BytesIO()
    at = 0
    while at < len(body) and not unpacker.eof:
        rest, at = body[at : at + _PIECE], at + _PIECE
        grown = _GROWTH
        while (rest or grown == _GROWTH) and not unpacker.eof:  # a full step may have left something inside of zlib
            try:
                grown = found.write(unpacker.decompress(rest, _GROWTH))
            except zlib.error as fault:
                raise RequestError(BAD, f"the body is not packed by {name} as its encoding says: {fault}") from None
            rest = unpacker.unconsumed_tail
            if found.tell() > limit:
                raise RequestError(TOO_LARGE, f"the body is longer than {limit} bytes when it is unpacked")
            yield grown
    if not unpacker.eof or unpacker.unused_data or at < len(body):
        raise RequestError(BAD, f"the body is not one whole {name} stream: it is cut off, or something follows it")
    return found.getvalue()


def chosen(accept: str, size: int) -> str | None:
    """How to pack an answer of `size` bytes; `accept` is the request's Accept-Encoding, where only names count."""
    if size < _WORTH:
        return None
    choices = accept.split(",", _CHOICES)[:_CHOICES]
    asked = {match[1].lower() for match in map(_QUALITY.fullmatch, choices) if match and _wanted(match[2])}
    return next((name for name in _WINDOWS if name in asked), None)


def pack(content: bytes, name: str) -> bytes:
    """`content` packed."""
    packer = zlib.compressobj(_FAST, wbits=_WINDOWS[name])
    return packer.compress(content) + packer.flush()


def _wanted(quality: str | None) -> bool:
    return quality is None or quality.strip("0.") != ""
