"""What a message costs, told by its wire bytes before it is parsed.

Two bytes are a submessage that takes hundreds in memory, and one byte a number that takes eight. Values of known length
are stepped over, so that a message is refused after `most` fields, however long it is
(https://protobuf.dev/programming-guides/encoding/).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...errors import BAD, TOO_LARGE, RequestError

FIELDS = 5_000  # most fields of a message, those of its submessages among them
NUMBERS = 4 * 2**20  # most numbers of variable length; 26 images of 224 x 224 pixels hold as many
TEXT = 2**20  # most bytes of text: names, ids, parameters
FEW = 100  # fields that are counted in less than a millisecond; hardly a request has more
BROKEN = "the message cannot be parsed as one of this call"

_FIELD, _NUMBER = 256, 8  # bytes in memory, at most
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5  # wire types; groups are none that proto3 writes
_PACKED, _WORDS, _OTHER = "packed", "words", "other"

Schema = dict[int, "Schema | str"]


class TooManyFieldsError(RequestError):
    """There are more than were to be counted."""


@dataclass(frozen=True)
class Weight:
    """`fields` with those of submessages, `numbers` packed with variable length, bytes of `text`."""

    fields: int
    numbers: int
    text: int

    @property
    def held(self) -> int:
        """Bytes in memory beside those of the message itself, at most."""
        return self.fields * _FIELD + self.numbers * _NUMBER


def schema(descriptor: Any) -> Schema:
    """What is to be told apart in a message of this descriptor, by the fields' numbers; no message may hold itself."""
    return {field.number: _kind(field) for field in descriptor.fields}


def weigh(data: bytes, known: Schema, most: int = FIELDS) -> Weight:
    """Count. Raises RequestError: too many fields (TooManyFieldsError), numbers or text; bytes that are no message."""
    left: list[tuple[int, int, Schema]] = [(0, len(data), known)]
    fields = numbers = text = 0
    while left:
        at, end, known = left.pop()
        while at < end:
            fields += 1
            if fields > most:
                raise TooManyFieldsError(TOO_LARGE, f"the message has more than {most} fields; pack repeated numbers")
            tag, at = _varint(data, at)
            kind = known.get(tag >> 3, _OTHER)
            if tag & 7 != _LENGTH:
                at = _step(data, at, tag & 7)
            else:
                size, at = _varint(data, at)
                if isinstance(kind, dict):
                    left.append((at, at + size, kind))
                elif kind is _PACKED:
                    numbers += size
                elif kind is _WORDS:
                    text += size
                at += size
            if at > end:
                raise RequestError(BAD, BROKEN)
    if numbers > NUMBERS:
        raise RequestError(TOO_LARGE, f"{numbers} bytes of packed integers; at most {NUMBERS}; use raw_input_contents")
    if text > TEXT:
        raise RequestError(TOO_LARGE, f"{text} bytes of names and other text; at most {TEXT} are taken")
    return Weight(fields, numbers, text)


def _step(data: bytes, at: int, kind: int) -> int:
    """Where a value of a length of its own ends that begins at `at`."""
    if kind == _VARINT:
        return _varint(data, at)[1]
    if kind in (_FIXED32, _FIXED64):
        return at + (4 if kind == _FIXED32 else 8)
    raise RequestError(BAD, BROKEN)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of at most ten bytes, and where it ends."""
    if at < len(data) and data[at] < 0x80:
        return data[at], at + 1
    value = 0
    for shift, byte in enumerate(data[at : at + 10]):
        value |= (byte & 0x7F) << 7 * shift
        if byte < 0x80:
            return value, at + shift + 1
    raise RequestError(BAD, BROKEN)


def _kind(field: Any) -> Schema | str:
    if field.message_type is not None:
        return schema(field.message_type)
    if field.type == field.TYPE_STRING:
        return _WORDS
    fixed = (field.TYPE_FLOAT, field.TYPE_DOUBLE, field.TYPE_FIXED32, field.TYPE_FIXED64)
    more = (field.TYPE_SFIXED32, field.TYPE_SFIXED64, field.TYPE_BYTES)
    return _OTHER if field.type in fixed + more else _PACKED
