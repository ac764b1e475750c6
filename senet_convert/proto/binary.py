"""Reads binary caffemodels: definitions through protobuf, payloads straight from the file into numpy arrays.

Payloads may be packed in one piece (what Caffe writes), packed in several, or unpacked: the wire format allows all of
them, and they mean the same. `diff` is never read.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
from google.protobuf.message import DecodeError, Message
from numpy.typing import NDArray

from ..errors import ReadError
from . import caffe_pb2
from .tree import Tree, from_message
from .wire import BYTES, FIXED32, FIXED64, Walker, WireError, WireField

MAX_BYTES = 2**31 - 1  # protobuf, and so Caffe, can neither write nor read more
MAX_DEFINITION = 1 << 24  # bytes of one layer without its blobs; a large real one has a few hundred

# The messages on the way to a payload: field number -> field name, and what lies below.
_PAYLOADS = {5: ("data", "<f4"), 6: ("diff", "<f4"), 8: ("double_data", "<f8"), 9: ("double_diff", "<f8")}
_V0_LAYER = (caffe_pb2.V0LayerParameter, 50, {})
_V1_LAYER = (caffe_pb2.V1LayerParameter, 6, {1: ("layer", _V0_LAYER)})
_LAYER = (caffe_pb2.LayerParameter, 7, {})
_NET_LAYERS = {100: ("layer", _LAYER), 2: ("layers", _V1_LAYER)}

_MAGIC = (
    (b"\x89HDF", "it is an HDF5 file. Caffe's HDF5 snapshots are not read yet: save the net as a binary caffemodel"),
    (b"PK\x03\x04", "it is a zip archive (a PyTorch file, or a packed download): unpack it, or give the caffemodel"),
    (b"\x1f\x8b", "it is gzip-compressed: unpack it first"),
    (b"<", "it begins with '<': a web page, perhaps of a download that failed. Download the caffemodel again"),
    (b"version https://git-lfs", "it is a Git LFS pointer, not the file itself: fetch it with `git lfs pull`"),
)


def read_binary(path: Path) -> Tree:
    """The NetParameter in a binary caffemodel; blobs hold `data` or `double_data` as flat arrays.

    Raises ReadError: not a caffemodel, truncated, corrupt, larger than protobuf's 2 GiB.
    """
    size = path.stat().st_size
    if size == 0:
        raise ReadError(f"{path}: the file is empty (0 bytes); copy or download it again")
    if size > MAX_BYTES:
        raise ReadError(f"{path}: {size} bytes; a caffemodel has less than 2 GiB, the most that protobuf can hold")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
        _refuse_other_kinds(path, view[:4096])
        reader = _Reader(file, Walker(view))
        try:
            net = reader.net(size)
        except (WireError, DecodeError, UnicodeDecodeError) as fault:
            after = f", after layer '{reader.last}'" if reader.last else ""
            kind = "truncated or damaged" if reader.last else "not a caffemodel, or damaged"
            raise ReadError(
                f"{path}: {kind}: {fault}{after} (the file has {size} bytes). Copy or download it again"
            ) from None
    if not net.get("layer") and not net.get("layers"):
        raise ReadError(
            f"{path}: it holds no layers. A caffemodel does; a solverstate or a mean.binaryproto does not"
        )
    return net


def _refuse_other_kinds(path: Path, head: bytes) -> None:
    for magic, what in _MAGIC:
        if head.startswith(magic):
            raise ReadError(f"{path}: not a caffemodel: {what}")
    text = head.strip()
    if text and b"\0" not in head and all(byte < 127 and (byte > 31 or byte in b"\t\r\n") for byte in head):
        raise ReadError(f"{path}: not a caffemodel: it is a text file. A text network is given with --prototxt")


@dataclass
class _Reader:
    file: BinaryIO
    walker: Walker
    last: str = ""  # the last layer that was read whole
    _kept: list[bytes] = field(default_factory=list)

    def net(self, size: int) -> Tree:
        layers: dict[str, list[Tree]] = {}
        kept: list[WireField] = []
        for item in self.walker.fields(0, size):
            if item.number in _NET_LAYERS and item.kind == BYTES:
                name, schema = _NET_LAYERS[item.number]
                tree = self._layer(item, schema)
                layers.setdefault(name, []).append(tree)
                self.last = tree.get("name", "") or tree.get("layer", {}).get("name", "") or self.last
            else:
                kept.append(item)
        net = self._definition(caffe_pb2.NetParameter, kept)
        net.update(layers)
        return net

    def _layer(self, span: WireField, schema: tuple[type[Message], int, dict]) -> Tree:  # type: ignore[type-arg]
        message, blobs_number, below = schema
        kept, blobs, inner = [], [], {}
        for item in self.walker.fields(span.start, span.stop):
            if item.number == blobs_number and item.kind == BYTES:
                blobs.append(self._blob(item))
            elif item.number in below and item.kind == BYTES:
                name, deeper = below[item.number]
                inner[name] = self._layer(item, deeper)
            else:
                kept.append(item)
        tree = self._definition(message, kept)
        tree.update(inner)
        if blobs:
            tree["blobs"] = blobs
        return tree

    def _blob(self, span: WireField) -> Tree:
        kept: list[WireField] = []
        pieces: dict[str, list[tuple[int, NDArray[np.uint8] | int]]] = {}
        at = span.start
        while at < span.stop:
            item = next(self.walker.fields(at, span.stop))
            at = item.stop
            if item.number not in _PAYLOADS:
                kept.append(item)
                continue
            name, dtype = _PAYLOADS[item.number]
            if item.kind == BYTES:
                pieces.setdefault(name, []).append((item.start, item.stop - item.start))
            elif item.kind == (FIXED32 if dtype == "<f4" else FIXED64):
                run = self.walker.fixed_run(item, span.stop)
                record = item.stop - item.at
                at = item.at + run * record
                if name in ("data", "double_data"):
                    pieces.setdefault(name, []).append((item.at, self._unpacked(item, run)))
            else:
                raise WireError(f"a blob's '{name}' is not made of floats at offset {item.at}")
        tree = self._definition(caffe_pb2.BlobProto, kept)
        for name, dtype in (("data", "<f4"), ("double_data", "<f8")):
            if name in pieces:
                tree[name] = self._payload(pieces[name], dtype)
        return tree

    def _unpacked(self, item: WireField, run: int) -> NDArray[np.uint8]:
        record, tag = item.stop - item.at, item.start - item.at
        matrix = np.frombuffer(self.walker.buffer, np.uint8, run * record, item.at).reshape(run, record)
        return np.ascontiguousarray(matrix[:, tag:]).reshape(-1)

    def _payload(self, pieces: Sequence[tuple[int, NDArray[np.uint8] | int]], dtype: str) -> NDArray[np.generic]:
        sizes = [piece if isinstance(piece, int) else piece.nbytes for _, piece in pieces]
        total, width = sum(sizes), np.dtype(dtype).itemsize
        if any(size % width for size in sizes):
            raise WireError(f"{total} bytes of {width}-byte floats at offset {pieces[0][0]}")
        raw = np.empty(total, np.uint8)
        at = 0
        for (offset, piece), size in zip(pieces, sizes, strict=True):
            if isinstance(piece, int):
                self.file.seek(offset)
                if self.file.readinto(memoryview(raw)[at : at + size]) != size:
                    raise WireError(f"the file became shorter while it was read, at offset {offset}")
            else:
                raw[at : at + size] = piece
            at += size
        return raw.view(dtype)

    def _definition(self, message: type[Message], kept: list[WireField]) -> Tree:
        size = sum(item.stop - item.at for item in kept)
        if size > MAX_DEFINITION:
            raise WireError(f"{size} bytes of definition in one {message.DESCRIPTOR.name}, at offset {kept[0].at}")
        return from_message(message.FromString(b"".join(self.walker.buffer[item.at : item.stop] for item in kept)))
