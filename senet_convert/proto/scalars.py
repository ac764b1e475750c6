"""Tokens of protobuf's text format, and the values that scalar ones stand for."""

from __future__ import annotations

import re
from ctypes import c_float
from typing import NamedTuple

from .tree import name_of

_ESCAPE = re.compile(
    rb"""\\(?:(?P<octal>[0-7]{1,3})|[xX](?P<hex>[0-9a-fA-F]{1,2})|u(?P<short>[0-9a-fA-F]{4})
      |U(?P<long>[0-9a-fA-F]{8})|(?P<sign>.))""",
    re.VERBOSE | re.DOTALL,
)
_SIGNS = {**dict(zip(b"abfnrtv", b"\a\b\f\n\r\t\v", strict=True)), **{sign: sign for sign in b"\\'\"?"}}


class Token(NamedTuple):
    """One token: a name, a number, a string with its quotes, a mark, or the end; `at` is its offset."""

    kind: str
    text: str
    at: int


def string(text: str) -> bytes:
    """The bytes that a string with its quotes stands for. Raises ValueError for what is not an escape."""
    return _ESCAPE.sub(_unescaped, text[1:-1].encode("utf-8", errors="surrogateescape"))


def _unescaped(match: re.Match[bytes]) -> bytes:
    """The bytes of one escape. Raises ValueError where the text format has no such escape."""
    for kind, base in (("octal", 8), ("hex", 16)):
        if match[kind] is not None and int(match[kind], base) < 256:
            return bytes([int(match[kind], base)])
    point = match["short"] or match["long"]
    if point and int(point, 16) <= 0x10FFFF:
        return chr(int(point, 16)).encode("utf-8", errors="surrogatepass")
    if match["sign"] is not None and match["sign"][0] in _SIGNS:
        return bytes([_SIGNS[match["sign"][0]]])
    raise ValueError(f"'{name_of(match.group())}' is not an escape of the text format")


def integer(text: str) -> int | None:
    """A decimal, hexadecimal or octal number; None for anything else."""
    sign, digits = (-1, text[1:].lstrip()) if text.startswith("-") else (1, text)
    try:
        if digits[:2] in ("0x", "0X"):
            return sign * int(digits, 16)
        return sign * int(digits, 8 if digits.startswith("0") and digits != "0" else 10)
    except ValueError:
        return None


def real(text: str, single: bool) -> float | None:
    """A number, or inf, infinity or nan; rounded to float32 as Caffe holds it when `single`."""
    digits = "".join(text.split()).lower()
    try:
        if "x" in digits:
            value = float(int(digits, 16))
        else:
            value = float(digits if "inf" in digits else digits.removesuffix("f"))
    except (ValueError, OverflowError):
        return None
    return c_float(value).value if single else value
