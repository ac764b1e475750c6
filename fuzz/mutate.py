"""Ways to damage a file. Each takes the data and a source of chance, and gives other data."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from random import Random

from senet_convert.proto.wire import BYTES, Walker, WireError

Mutation = Callable[[bytes, Random], bytes]

NUMBERS = (0, 1, 2, 3, 5, 7, 31, 127, 128, 255, 256, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**64 - 1)
WORDS = """{ } < > [ ] : ; , # - . ' " \\
0 1 -1 2 3 7 100 1000 65536 2147483647 -2147483648 4294967295 1e9 1e39 -0.0 nan inf 0x7fffffff 08 1.5f
true false MAX AVE SUM PROD MEAN TRAIN TEST CONVOLUTION layer layers name type bottom top blobs param include exclude
axis num_axes shape dim group stride pad kernel_size kernel_h dilation num_output bias_term end_axis
axis:-5 dim:0 dim:-1 stride:0 group:0 kernel_size:0 num_output:0 include{phase:TRAIN}
"" "data" "\\000" "\\377" "a\\nb" "ReLU" "Split" "Reshape" "Concat" "Slice" "Eltwise" "SoftmaxWithLoss"
""".split()  # noqa: SIM905
_TOKEN = re.compile(rb"\"[^\"\n]*\"|[A-Za-z_0-9.+-]+|[^\sA-Za-z_0-9]")

# The way to the payloads of a caffemodel, by field numbers: in today's form, in V1 and in V0.
_INSIDE = {(): (100, 2), (100,): (7,), (2,): (1, 6), (2, 1): (50,)}
_PAYLOADS = ((100, 7, 5), (2, 6, 5), (2, 1, 50, 5))


# ---- any bytes -------------------------------------------------------------------------------------------------------


def flip(data: bytes, random: Random) -> bytes:
    """One bit changes."""
    at = _place(data, random)
    return data[:at] + bytes([data[at] ^ 1 << random.randrange(8)]) + data[at + 1 :]


def overwrite(data: bytes, random: Random) -> bytes:
    """One byte becomes another."""
    at = _place(data, random)
    return data[:at] + bytes([random.choice((0, 1, 0x7F, 0x80, 0xFF, random.randrange(256)))]) + data[at + 1 :]


def cut(data: bytes, random: Random) -> bytes:
    """The end is missing."""
    return data[: _place(data, random)]


def remove(data: bytes, random: Random) -> bytes:
    """A piece in the middle is missing."""
    at = _place(data, random)
    return data[:at] + data[at + random.randint(1, 40) :]


def insert(data: bytes, random: Random) -> bytes:
    """Bytes that do not belong there."""
    at = _place(data, random)
    return data[:at] + random.randbytes(random.randint(1, 12)) + data[at:]


def repeat(data: bytes, random: Random) -> bytes:
    """A piece of the file stands elsewhere once more."""
    start, at = _place(data, random), _place(data, random)
    return data[:at] + data[start : start + random.randint(1, 200)] + data[at:]


# ---- caffemodels -----------------------------------------------------------------------------------------------------


def resize(data: bytes, random: Random) -> bytes:
    """A length or another number of the wire format is wrong."""
    at = _place(data, random)
    value = random.choice((*NUMBERS, data[at] + random.randint(-9, 9)))
    return data[:at] + _varint(value % 2**64) + data[at + 1 :]


def swap_fields(data: bytes, random: Random) -> bytes:
    """Two fields of the outermost message change places, or one stands twice, or is missing."""
    fields = _fields(data)
    if len(fields) < 2:
        return data
    pieces = [data[start:stop] for start, stop in fields]
    one, other = random.randrange(len(pieces)), random.randrange(len(pieces))
    what = random.randrange(3)
    if what == 0:
        pieces[one], pieces[other] = pieces[other], pieces[one]
    elif what == 1:
        pieces.insert(other, pieces[one])
    else:
        del pieces[one]
    return b"".join(pieces)


# ---- prototxts -------------------------------------------------------------------------------------------------------


def edit_token(data: bytes, random: Random) -> bytes:
    """A token is replaced, removed, repeated, or a word stands before it."""
    tokens = list(_TOKEN.finditer(data))
    if not tokens:
        return data
    start, stop = random.choice(tokens).span()
    other = random.choice((random.choice(tokens).group(), random.choice(WORDS).encode()))
    new = random.choice((other, b"", data[start:stop] + b" " + data[start:stop], other + b" " + data[start:stop]))
    return data[:start] + new + data[stop:]


def edit_number(data: bytes, random: Random) -> bytes:
    """A number becomes another one."""
    numbers = list(re.finditer(rb"(?<=: )-?[0-9.]+", data))
    if not numbers:
        return data
    start, stop = random.choice(numbers).span()
    return data[:start] + str(random.choice((*NUMBERS, -1, -2, 0.5))).encode() + data[stop:]


def edit_line(data: bytes, random: Random) -> bytes:
    """A line is removed, repeated or moved."""
    lines = data.split(b"\n")
    line = random.choice((lines.pop, lines.__getitem__))(random.randrange(len(lines)))
    lines.insert(random.randrange(len(lines) + 1), random.choice((line, b"")))
    return b"\n".join(lines)


BYTES_MUTATIONS: Sequence[Mutation] = (flip, overwrite, cut, remove, insert, repeat)
BINARY: Sequence[Mutation] = (*BYTES_MUTATIONS, resize, resize, resize, swap_fields)
TEXT: Sequence[Mutation] = (*BYTES_MUTATIONS, *(edit_token, edit_number, edit_number, edit_line) * 3)


def damage(data: bytes, mutations: Sequence[Mutation], random: Random) -> bytes:
    """One to four mutations, one after another."""
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        if data:
            data = random.choice(mutations)(data, random)
    return data


# ---- where -----------------------------------------------------------------------------------------------------------


def _place(data: bytes, random: Random) -> int:
    """Mostly in definitions: nearly all bytes of a caffemodel are payloads of blobs."""
    places = _definitions(data)
    return random.choice(places) if places and random.random() < 0.8 else random.randrange(len(data))


@lru_cache(64)
def _definitions(data: bytes) -> tuple[int, ...]:
    """Offsets of all bytes outside of payloads, () where it is not a caffemodel."""
    places: list[int] = []

    def visit(start: int, stop: int, path: tuple[int, ...]) -> None:
        for item in Walker(data).fields(start, stop):
            inside = (*path, item.number)
            places.extend(range(item.at, item.start))
            if item.kind == BYTES and item.number in _INSIDE.get(path, ()):
                visit(item.start, item.stop, inside)
            elif inside not in _PAYLOADS:
                places.extend(range(item.start, item.stop))

    try:
        visit(0, len(data), ())
    except WireError:
        return ()
    return tuple(places)


def _fields(data: bytes) -> list[tuple[int, int]]:
    try:
        return [(item.at, item.stop) for item in Walker(data).fields(0, len(data))]
    except WireError:
        return []


def _varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])
