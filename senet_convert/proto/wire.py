"""Protobuf's wire format, as far as it takes to leave the blobs' payloads where they are.

A caffemodel is a few hundred kilobytes of definitions with up to 2 GiB of floats between them. The walker below visits
the definitions only; payloads become spans of the file, which `binary.py` reads straight into arrays. It also gives
what a protobuf runtime does not: where a broken file is broken.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
MAX_FIELDS = 1_000_000  # a real caffemodel has tens of thousands; more is an attack on the reader's time
_WINDOW = 1 << 18  # records looked at in one step of a run


class WireError(Exception):
    """The bytes are not a protobuf message; the message says what is wrong at which offset."""


@dataclass(frozen=True)
class WireField:
    """One field: its number and wire type, where it starts, and where its payload lies in the file."""

    number: int
    kind: int
    at: int
    start: int
    stop: int


class Walker:
    """Walks messages in a buffer, each field counted against one budget for the whole file."""

    def __init__(self, buffer: mmap.mmap | bytes) -> None:
        self.buffer = buffer
        self._left = MAX_FIELDS

    def fields(self, start: int, stop: int) -> Iterator[WireField]:
        """Fields of the message at [start, stop). Raises WireError where it is not one."""
        at = start
        while at < stop:
            self._left -= 1
            if self._left < 0:
                raise WireError(f"more than {MAX_FIELDS} fields by offset {at}")
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
            yield WireField(number, kind, at, begin, end)
            at = end

    def fixed_run(self, field: WireField, stop: int) -> int:
        """How many fields like this fixed-width one stand in a row from it on (an unpacked repeated float or double).

        A run is looked at as matrices of records, so that a million values cost no million steps. The first matrices
        are small, so that runs of one cost no more than they are worth.
        """
        record = field.stop - field.at
        count = (stop - field.at) // record
        tag = np.frombuffer(self.buffer, np.uint8, field.start - field.at, field.at)
        done, size = 1, 16
        while done < count:
            size = min(4 * size, _WINDOW, count - done)
            window = np.frombuffer(self.buffer, np.uint8, size * record, field.at + done * record)
            differs = (window.reshape(size, record)[:, : len(tag)] != tag).any(axis=1)
            if differs.any():
                return done + int(differs.argmax())
            done += size
        return count

    def _varint(self, at: int, stop: int) -> tuple[int, int]:
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
