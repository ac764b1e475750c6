"""Protobuf's wire format, as far as it takes to leave the blobs' payloads where they are.

A caffemodel is a few hundred kilobytes of definitions with up to 2 GiB of floats between them. The walker below visits
the definitions only; payloads become spans of the file, which `binary.py` reads straight into arrays. It also gives
what a protobuf runtime does not: where a broken file is broken.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
MAX_FIELDS = 300_000  # SENet-154, the largest of its release, has 11 000 in 1030 layers
_WINDOW = 1 << 20  # bytes looked at in one step of a run


class WireError(Exception):
    """The bytes are not a protobuf message; the message says what is wrong at which offset."""


class WireField(NamedTuple):
    """One field: its number and wire type, where it starts, and where its payload lies in the file."""

    number: int
    kind: int
    at: int
    start: int
    stop: int


def head(number: int, size: int) -> bytes:
    """What stands before a payload of `size` bytes: the field's number with its wire type, and the size."""
    return _varint(number << 3 | BYTES) + _varint(size)


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])


class Walker:
    """Walks messages in a buffer, each field counted against one budget for the whole file."""

    def __init__(self, buffer: mmap.mmap | bytes) -> None:
        self.buffer = buffer
        self._left = MAX_FIELDS

    def fields(self, start: int, stop: int) -> Iterator[WireField]:
        """Fields of the message at [start, stop). Raises WireError where it is not one."""
        while start < stop:
            field = self.field(start, stop)
            yield field
            start = field.stop

    def field(self, at: int, stop: int) -> WireField:
        """The field that starts at `at`, in a message that ends at `stop`."""
        self._left -= 1
        if self._left < 0:
            raise WireError(f"more than {MAX_FIELDS} fields by offset {at}, many times those of the largest networks")
        key, begin = self._varint(at, stop)
        number, kind = key >> 3, key & 7
        if number == 0:
            raise WireError(f"a field numbered 0 at offset {at}")
        if kind == VARINT:
            _, end = self._varint(begin, stop)
        elif kind == BYTES:
            size, begin = self._varint(begin, stop)
            end = begin + size
        elif kind in (FIXED32, FIXED64):
            end = begin + (4 if kind == FIXED32 else 8)
        else:
            raise WireError(f"wire type {kind} at offset {at}, which Caffe never writes")
        if end > stop:
            raise WireError(f"the field at offset {at} needs {end - begin} bytes, {stop - begin} are left")
        return WireField(number, kind, at, begin, end)

    def run(self, field: WireField, stop: int) -> int:
        """How many fields of this one's number and size stand in a row from it on: unpacked floats, or equal pieces.

        A run is looked at as matrices of records, so that a million values cost no million steps. The first matrices
        are small, so that short runs cost no more than they are worth.
        """
        record = field.stop - field.at
        count = (stop - field.at) // record
        head = self.buffer[field.at : field.start]
        if count < 2 or self.buffer[field.stop : field.stop + len(head)] != head:
            return 1
        done, size = 2, 16
        while done < count:
            size = min(4 * size, max(_WINDOW // record, 1), count - done)
            window = np.frombuffer(self.buffer, np.uint8, size * record, field.at + done * record)
            differs = (window.reshape(size, record)[:, : len(head)] != np.frombuffer(head, np.uint8)).any(axis=1)
            if differs.any():
                return done + int(differs.argmax())
            done += size
        return count

    def _varint(self, at: int, stop: int) -> tuple[int, int]:
        if at < stop and (value := self.buffer[at]) < 128:
            return value, at + 1
        value = shift = 0
        begin = at
        while at < stop:
            byte = self.buffer[at]
            at += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value, at
            shift += 7
            if shift > 63:
                raise WireError(f"a number of more than 10 bytes at offset {begin}")
        raise WireError(f"the data ends inside a number at offset {begin}")
