"""Packed bodies: a request's is unpacked within a limit, an answer packed as the client asks."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence

from ..faults import BAD, TOO_LARGE, RequestError

_WINDOWS = {"gzip": 31, "deflate": 15}  # zlib's word for each packing: gzip's header, zlib's header
_WORTH = 1024  # bytes that are worth packing
_FAST = 1  # zlib's level: an answer is packed while its client waits
_QUALITY = re.compile(r"\s*([\w*-]+)\s*(?:;\s*q\s*=\s*([\d.]+)\s*)?")


def unpack(pieces: Sequence[bytes], encoding: str, limit: int) -> bytes:
    """The body whole; `encoding` is the request's Content-Encoding.

    Raises RequestError: unknown encoding, not packed that way, or longer than `limit` bytes when unpacked.
    """
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return b"".join(pieces)
    if name not in _WINDOWS:
        raise RequestError(BAD, f"Content-Encoding {encoding[:40]!r} is not known; send gzip, deflate or none")
    unpacker = zlib.decompressobj(_WINDOWS[name])
    try:
        found = unpacker.decompress(b"".join(pieces), limit + 1)
    except zlib.error as fault:
        raise RequestError(BAD, f"the body is not packed by {name} as its Content-Encoding says: {fault}") from None
    if len(found) > limit:
        raise RequestError(TOO_LARGE, f"the body is longer than {limit} bytes when it is unpacked")
    if not unpacker.eof or unpacker.unused_data:
        raise RequestError(BAD, f"the body is not one whole {name} stream: it is cut off, or something follows it")
    return found


def chosen(accept: str, size: int) -> str | None:
    """How to pack an answer of `size` bytes; `accept` is the request's Accept-Encoding, where only names count."""
    if size < _WORTH:
        return None
    asked = {match[1].lower() for match in map(_QUALITY.fullmatch, accept.split(",")) if match and _wanted(match[2])}
    return next((name for name in _WINDOWS if name in asked), None)


def pack(content: bytes, name: str) -> bytes:
    """`content` packed."""
    packer = zlib.compressobj(_FAST, wbits=_WINDOWS[name])
    return packer.compress(content) + packer.flush()


def _wanted(quality: str | None) -> bool:
    return quality is None or quality.strip("0.") != ""
