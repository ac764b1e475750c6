"""Sizes that an AVIF file makes its decoder hold: those in its boxes, and those in the AV1 streams inside.

The decoder believes the streams, which may be larger than the boxes say. Boxes as in ISO/IEC 14496-12 and 23008-12,
sequence headers as in the AV1 bitstream specification, section 5.5.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

_SEQUENCE_HEADER = 1
_PICTURE = b"av01"

Extent = tuple[int, int]  # offset, length
Sizes = list[tuple[int, int]]  # (width, height)


def coded_sizes(data: bytes) -> tuple[Sizes, Sizes]:
    """(Sizes in the boxes, sizes in the AV1 streams) of an AVIF picture; neither is empty.

    Raises ValueError, in words; struct.error or IndexError for a file that breaks off.
    """
    brands = next((body for kind, body in _boxes(data, 0, len(data)) if kind == b"ftyp"), (0, 0))
    names = data[brands[0] : brands[1]]
    if b"avif" not in names or names.startswith(b"avis"):
        raise ValueError("an animated AVIF" if b"avis" in names else "of the ISO media family, but no AVIF picture")
    meta = _child(data, (0, len(data)), b"meta")
    inside = (meta[0] + 4, meta[1])  # version and flags come first
    properties = _child(data, _child(data, inside, b"iprp"), b"ipco")
    shown = [
        struct.unpack_from(">II", data, body[0] + 4) for kind, body in _boxes(data, *properties) if kind == b"ispe"
    ]
    pictures = _pictures(data, _child(data, inside, b"iinf"))
    places = _places(data, inside)
    coded: Sizes = []
    for item in pictures:
        extents = places.get(item, [])
        if sum(length for _, length in extents) > len(data):
            raise ValueError("an AVIF whose parts are larger than the file")
        stream = b"".join(data[at : at + length] for at, length in extents)
        coded += [_frame(header) for header in _sequence_headers(stream)]
    if not shown or not coded:
        raise ValueError("an AVIF without a picture")
    return [(width, height) for width, height in shown], coded


def _boxes(data: bytes, at: int, end: int) -> Iterator[tuple[bytes, Extent]]:
    """(type, (begin, end) of what is in it)."""
    while at + 8 <= end:
        size, kind = struct.unpack_from(">I4s", data, at)
        begin = at + 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, begin)
            begin += 8
        stop = end if size == 0 else min(at + size, end)
        if stop < begin:
            raise ValueError("an AVIF whose boxes are broken")
        yield kind, (begin, stop)
        at = stop


def _child(data: bytes, within: Extent, kind: bytes) -> Extent:
    for found, body in _boxes(data, *within):
        if found == kind:
            return body
    raise ValueError(f"an AVIF without its '{kind.decode()}' box")


def _pictures(data: bytes, iinf: Extent) -> list[int]:
    """The items that are AV1 streams."""
    begin = iinf[0] + (6 if data[iinf[0]] == 0 else 8)
    found = []
    for kind, (at, _) in _boxes(data, begin, iinf[1]):
        if kind != b"infe":
            continue
        wide = data[at] > 2
        (item,) = struct.unpack_from(">I" if wide else ">H", data, at + 4)
        start = at + (10 if wide else 8)
        if data[start : start + 4] == _PICTURE:
            found.append(item)
    return found


def _places(data: bytes, meta: Extent) -> dict[int, list[Extent]]:
    """Where the items lie in the file."""
    at, _ = _child(data, meta, b"iloc")
    version, sizes = data[at], int.from_bytes(data[at + 4 : at + 6], "big")
    offset_size, length_size, base_size, index_size = (sizes >> shift & 15 for shift in (12, 8, 4, 0))
    if not {offset_size, length_size, base_size, index_size} <= {0, 4, 8}:
        raise ValueError("an AVIF whose table of places is broken")
    at += 6

    def take(size: int) -> int:
        nonlocal at
        if at + size > len(data):
            raise IndexError
        at += size
        return int.from_bytes(data[at - size : at], "big")

    wide = 4 if version == 2 else 2
    found: dict[int, list[Extent]] = {}
    for _ in range(take(wide)):
        item = take(wide)
        method = take(2) & 15 if version else 0
        take(2)
        base = take(base_size)
        if method == 1:
            base += _child(data, meta, b"idat")[0]
        extents = []
        for _ in range(take(2)):
            take(index_size if version else 0)
            start = base + take(offset_size)
            extents.append((start, take(length_size) or len(data) - start))
        found.setdefault(item, []).extend(extents)
    return found


def _sequence_headers(stream: bytes) -> Iterator[bytes]:
    """The open bitstream units of that kind."""
    at = 0
    while at < len(stream):
        head = stream[at]
        at += 2 if head & 4 else 1
        size = len(stream) - at
        if head & 2:
            size, at = _leb128(stream, at)
        if head >> 3 & 15 == _SEQUENCE_HEADER:
            yield stream[at : at + size]
        at += size


def _leb128(stream: bytes, at: int) -> tuple[int, int]:
    value = 0
    for place in range(8):
        byte = stream[at + place]
        value |= (byte & 127) << 7 * place
        if byte < 128:
            return value, at + place + 1
    raise ValueError("an AVIF whose stream is broken")


def _frame(header: bytes) -> tuple[int, int]:
    """The largest (width, height) that frames after this sequence header may have."""
    bits = _Bits(header)
    bits.take(4)  # profile, still picture
    if bits.take(1):  # reduced header
        bits.take(5)
    else:
        _skip_operating_points(bits)
    width_bits, height_bits = bits.take(4) + 1, bits.take(4) + 1
    return bits.take(width_bits) + 1, bits.take(height_bits) + 1


def _skip_operating_points(bits: _Bits) -> None:
    delay = 0
    if bits.take(1):  # timing
        bits.take(64)
        if bits.take(1):
            bits.take_exp_golomb()
        if bits.take(1):  # decoder model
            delay = bits.take(5) + 1
            bits.take(42)
    display_delays = bits.take(1)
    for _ in range(bits.take(5) + 1):
        bits.take(12)
        if bits.take(5) > 7:
            bits.take(1)
        if delay and bits.take(1):
            bits.take(2 * delay + 1)
        if display_delays and bits.take(1):
            bits.take(4)


class _Bits:
    """Big-endian bits of some bytes."""

    def __init__(self, data: bytes) -> None:
        self.value = int.from_bytes(data[:512], "big")
        self.left = 8 * len(data[:512])

    def take(self, count: int) -> int:
        """The next bits as a number. Raises IndexError where there are no more."""
        if count > self.left:
            raise IndexError
        self.left -= count
        return self.value >> self.left & (1 << count) - 1

    def take_exp_golomb(self) -> int:
        """The specification's uvlc()."""
        zeros = 0
        while not self.take(1):
            zeros += 1
        return self.take(zeros)
