"""Reads binary caffemodels: definitions through protobuf, payloads straight from the file into numpy arrays.

Payloads may be packed in one piece (what Caffe writes), packed in several, or unpacked: the wire format allows all of
them, and they mean the same. `diff` is never read.
"""

from __future__ import annotations

import io
import mmap
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PureWindowsPath

import numpy as np
from google.protobuf.message import DecodeError, Message
from numpy.typing import NDArray

from ..errors import ReadError
from . import caffe_pb2
from .kinds import HEAD, is_text, other_kind
from .tree import MAX_LAYERS, Tree, from_message, name_of
from .wire import BYTES, FIXED32, FIXED64, VARINT, Walker, WireError, WireField

MAX_BYTES = 2**31 - 1  # protobuf, and so Caffe, can neither write nor read more
MAX_NAME = 4096  # bytes of a path
MAX_LOOK = 1000  # fields of a file that may be of another kind
MAX_DEFINITION = 1 << 24  # bytes of one layer without its blobs; a large real one has a few hundred


@dataclass(frozen=True)
class _Schema:
    """A message on the way to the blobs: the number of its field of blobs, and of the message inside that has some."""

    name: str  # of the field that holds it
    message: type[Message]
    blobs: int
    inner: int | None = None


_V0_LAYER = _Schema("layer", caffe_pb2.V0LayerParameter, blobs=50)
_V1_LAYER = _Schema("layers", caffe_pb2.V1LayerParameter, blobs=6, inner=1)
_LAYERS = {100: _Schema("layer", caffe_pb2.LayerParameter, blobs=7), 2: _V1_LAYER}
_PAYLOADS = {5: ("data", "<f4"), 6: ("diff", "<f4"), 8: ("double_data", "<f8"), 9: ("double_diff", "<f8")}
_READ = {name: dtype for name, dtype in _PAYLOADS.values() if name in ("data", "double_data")}

_STATE = (
    "it is a solverstate, which holds the training's state and no weights. Give the caffemodel that was saved with it"
)
# Messages that begin with a number: their fields, with the kinds that these have on the wire, and what to do.
_OTHERS = (
    ({(1, VARINT), (2, BYTES), (3, BYTES), (4, VARINT)}, _STATE),
    (
        {(1, VARINT), (5, VARINT), *((number, BYTES) for number in (2, 3, 4, 6, 7, 8, 14, 20, 25, 26))},
        "it is an ONNX model. Give the caffemodel that it was made from",
    ),
    (
        {
            *((number, VARINT) for number in (1, 2, 3, 4)),
            *((number, BYTES) for number in (5, 6, 7, 8, 9)),
            *((number, FIXED32) for number in (5, 6)),
            *((number, FIXED64) for number in (8, 9)),
        },
        "it is a single blob, such as a mean image (mean.binaryproto), which --mean takes. Give the caffemodel",
    ),
)


def holds_nothing(path: Path) -> bool:
    """Whether a caffemodel has nothing in it but, perhaps, the network's name."""
    with path.open("rb") as file:
        start = file.read(HEAD)
        if len(start) == HEAD:
            return False
    try:
        net = caffe_pb2.NetParameter.FromString(start)
    except DecodeError:
        return False
    net.ClearField("name")
    return not net.ByteSize()


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
        _refuse_other_kinds(path, view[:HEAD])
        reader = _Reader(file, Walker(view))
        try:
            _refuse_other_messages(path, view, size)
            net = reader.net(size)
        except (WireError, DecodeError) as fault:
            after = f", after layer '{reader.last}'" if reader.last else ""
            kind = "truncated or damaged" if reader.last else "not a caffemodel, or damaged"
            raise ReadError(
                f"{path}: {kind}: {fault}{after} (the file has {size} bytes). Copy or download it again"
            ) from None
    if not net.get("layer") and not net.get("layers"):
        raise ReadError(f"{path}: it holds no layers. A caffemodel does; a solverstate or a mean.binaryproto does not")
    return net


def _refuse_other_kinds(path: Path, head: bytes) -> None:
    what = other_kind(head)
    if what is None and is_text(head):
        what = "it is a text file. A text network is given with --prototxt"
    if what is not None:
        raise ReadError(f"{path}: not a caffemodel: {what}")


def _refuse_other_messages(path: Path, view: mmap.mmap, size: int) -> None:
    """Where a network has its name, a text, other messages have a number. The fields that follow tell which it is."""
    if view[0] != 1 << 3 | VARINT:
        return
    found = list(islice(Walker(view).fields(0, size), MAX_LOOK))
    numbers = {(item.number, item.kind) for item in found}
    what = next((what for known, what in _OTHERS if numbers <= known), None)
    if what is None:
        return
    saved = next((item for item in found if (item.number, item.kind) == (2, BYTES)), None)
    if what is _STATE and saved and saved.stop - saved.start < MAX_NAME:
        what += f", '{PureWindowsPath(name_of(view[saved.start : saved.stop])).name}'"  # the path may be of any system
    raise ReadError(f"{path}: not a caffemodel: {what}")


Piece = tuple[WireField, int]  # of a payload: a field, and how many like it stand in a row from it on


@dataclass
class _Reader:
    file: io.BufferedReader
    walker: Walker
    last: str = ""  # the last layer that was read whole

    def net(self, size: int) -> Tree:
        layers: dict[str, list[Tree]] = {}
        kept: list[WireField] = []
        for item in self.walker.fields(0, size):
            schema = _LAYERS.get(item.number)
            if schema is None or item.kind != BYTES:
                kept.append(item)
                continue
            tree = self._layer(item, schema)
            found = layers.setdefault(schema.name, [])
            found.append(tree)
            if len(found) > MAX_LAYERS:
                raise WireError(f"more than {MAX_LAYERS} layers by offset {item.at}")
            self.last = tree.get("name", "") or tree.get("layer", {}).get("name", "") or self.last
        net = self._definition(caffe_pb2.NetParameter, kept)
        net.update(layers)
        return net

    def _layer(self, span: WireField, schema: _Schema) -> Tree:
        kept: list[WireField] = []
        blobs: list[Tree] = []
        inner: list[Tree] = []
        for item in self.walker.fields(span.start, span.stop):
            if item.number == schema.blobs and item.kind == BYTES:
                blobs.append(self._blob(item))
            elif item.number == schema.inner and item.kind == BYTES:
                inner.append(self._layer(item, _V0_LAYER))
            else:
                kept.append(item)
        if len(inner) > 1:
            raise WireError(f"{len(inner)} definitions in one layer at offset {span.at}")
        tree = self._definition(schema.message, kept)
        if inner:
            tree[_V0_LAYER.name] = inner[0]
        if blobs:
            tree["blobs"] = blobs
        return tree

    def _blob(self, span: WireField) -> Tree:
        kept: list[WireField] = []
        pieces: dict[str, list[Piece]] = {}
        at = span.start
        while at < span.stop:
            item = self.walker.field(at, span.stop)
            at = item.stop
            if item.number not in _PAYLOADS:
                kept.append(item)
                continue
            name, dtype = _PAYLOADS[item.number]
            if item.kind not in (BYTES, FIXED32 if dtype == "<f4" else FIXED64):
                raise WireError(f"a blob's '{name}' is not made of floats at offset {item.at}")
            run = self.walker.run(item, span.stop)
            at = item.at + run * (item.stop - item.at)
            pieces.setdefault(name, []).append((item, run))
        tree = self._definition(caffe_pb2.BlobProto, kept)
        tree.update({name: self._payload(pieces[name], dtype) for name, dtype in _READ.items() if name in pieces})
        return tree

    def _payload(self, pieces: Sequence[Piece], dtype: str) -> NDArray[np.generic]:
        width = np.dtype(dtype).itemsize
        raw = np.empty(sum(run * (item.stop - item.start) for item, run in pieces), np.uint8)
        at = 0
        for item, run in pieces:
            size = item.stop - item.start
            if size % width:
                raise WireError(f"{size} bytes of {width}-byte floats at offset {item.start}")
            part = raw[at : at + run * size]
            at += run * size
            if run > 1:
                self._copy_run(item, run, part)
                continue
            self.file.seek(item.start)
            if self.file.readinto(part.data) != size:
                raise WireError(f"the file became shorter while it was read, at offset {item.start}")
        return raw.view(dtype)

    def _copy_run(self, item: WireField, run: int, part: NDArray[np.uint8]) -> None:
        """In a function of its own: a view that outlives it, in a traceback, would keep the file from being closed."""
        record = item.stop - item.at
        matrix = np.frombuffer(self.walker.buffer, np.uint8, run * record, item.at).reshape(run, record)
        part.reshape(run, -1)[:] = matrix[:, item.start - item.at :]

    def _definition(self, message: type[Message], kept: list[WireField]) -> Tree:
        size = sum(item.stop - item.at for item in kept)
        if size > MAX_DEFINITION:
            raise WireError(f"{size} bytes of definition in one {message.DESCRIPTOR.name}, at offset {kept[0].at}")
        return from_message(message.FromString(b"".join(self.walker.buffer[item.at : item.stop] for item in kept)))
