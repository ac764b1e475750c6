"""Writes networks in Caffe's format: text prototxts, and binary caffemodels like those that Caffe saves.

Definitions go through protobuf, which knows Caffe's order and spelling of the fields; payloads go from their arrays to
the disk one by one. A string that was not UTF-8 in its file is written as it was read, with '\\xff' for such a byte.

Fields of forks have names, so that a text can hold them, but no numbers that are theirs. A layer with such a field has
only its name and its blobs in a binary, which is what Caffe takes of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from io import BufferedWriter
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import text_format
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message
from numpy.typing import NDArray

from ..errors import ConvertError
from ..files import write_in_pieces
from . import caffe_pb2
from .binary import MAX_BYTES
from .netdef import Blob, LayerDef, NetDef, ParamSpec, Rule, State
from .tree import FORK_NUMBERS, Field, fields
from .wire import head

Piece = bytes | NDArray[Any]  # of a file; an array stands for its bytes

_LAYER: Descriptor = caffe_pb2.DESCRIPTOR.message_types_by_name["LayerParameter"]
_NUMBERS = {field.name: field.number for field in _LAYER.fields}
_BLOBS = _NUMBERS["blobs"]
_LAYERS = caffe_pb2.NetParameter.DESCRIPTOR.fields_by_name["layer"].number
_BLOB = {field.name: field.number for field in caffe_pb2.BlobProto.DESCRIPTOR.fields}
_WHOLE = re.compile(r"^( *\w+: -?[0-9]+)\.0$", re.MULTILINE)  # protobuf's C++ prints 1, its Python 1.0
_LEGACY_SIDES = ("num", "channels", "height", "width")


def to_text(net: NetDef) -> str:
    """The definition as Caffe's protobuf prints it, without blobs; floats in the fewest digits that give them back.

    The file's comments come first, all of them: where they stood is not known any more.
    """
    message = caffe_pb2.NetParameter()
    _fill(message, _header(net))
    for layer in net.layers:
        _fill(message.layer.add(), _layer(layer))
    comments = "".join(f"# {comment}\n" for comment in net.comments if comment)
    return comments + _WHOLE.sub(r"\1", text_format.MessageToString(message, as_utf8=True))


def write_prototxt(net: NetDef, path: Path) -> None:
    """`to_text` as a file."""
    path.write_text(to_text(net), encoding="utf-8", newline="\n")


def write_caffemodel(net: NetDef, path: Path) -> None:
    """Definition and blobs. Raises ConvertError where the file would reach 2 GiB, which Caffe could not read, and for a
    layer of which a blob before others is left out.
    """
    for layer in net.layers:
        numbers = [blob.number for blob in layer.blobs]
        if any(number not in (None, i) for i, number in enumerate(numbers)):
            raise ConvertError(
                f"{path}: layer '{layer.name}' has blob {', '.join(map(str, numbers))} alone and shares others; a "
                f"caffemodel holds all of a layer's or none. Convert {net.source} with its prototxt, then use to-caffe"
            )
    size = sum(map(_size, _pieces(net)))
    if size > MAX_BYTES:
        blobs = sum(blob.data.nbytes for layer in net.layers for blob in layer.blobs)
        raise ConvertError(
            f"{path}: the network takes {size} bytes, of which its weights are {blobs}; a caffemodel has less than "
            "2 GiB, the most that protobuf, and so Caffe, can hold"
        )
    with path.open("wb") as file:
        for piece in _pieces(net):
            _write(file, piece)


def _write(file: BufferedWriter, piece: Piece) -> None:
    if isinstance(piece, bytes):
        file.write(piece)
    else:
        write_in_pieces(file, np.ascontiguousarray(piece, _dtype(piece)).reshape(-1).view(np.uint8).data)


# ---- the file, piece by piece ----------------------------------------------------------------------------------------


def _pieces(net: NetDef) -> Iterator[Piece]:
    """The bytes of the file in their order; arrays are not copied for it."""
    yield _serialised(caffe_pb2.NetParameter(), _header(net))
    for layer in net.layers:
        pieces = list(_layer_pieces(layer))
        yield head(_LAYERS, sum(map(_size, pieces)))
        yield from pieces


def _layer_pieces(layer: LayerDef) -> Iterator[Piece]:
    """Fields stand in the order of their numbers, as Caffe writes them: some before the blobs, some behind."""
    values = _layer(layer)
    if _is_of_a_fork(_LAYER, values):
        values = {"name": layer.name}
    before = {key: value for key, value in values.items() if _NUMBERS[key] < _BLOBS}
    behind = {key: value for key, value in values.items() if _NUMBERS[key] > _BLOBS}
    yield _serialised(caffe_pb2.LayerParameter(), before)
    for blob in layer.blobs:
        pieces = list(_blob_pieces(blob))
        yield head(_BLOBS, sum(map(_size, pieces)))
        yield from pieces
    yield _serialised(caffe_pb2.LayerParameter(), behind)


def _is_of_a_fork(message: Descriptor, values: Mapping[str, Any]) -> bool:
    """Whether a field has no number in binaries, here or in a message inside."""
    table = fields(message)
    for name, value in values.items():
        if message.fields_by_name[name].number >= FORK_NUMBERS:
            return True
        inside = table[name].message
        if inside is not None and any(
            _is_of_a_fork(inside, item) for item in (value if table[name].repeated else (value,))
        ):
            return True
    return False


def _blob_pieces(blob: Blob) -> Iterator[Piece]:
    """A shape of no axes is no shape at all, and no values are no payload: so does Caffe."""
    sides: Mapping[str, Any] = dict(zip(_LEGACY_SIDES, blob.shape, strict=True)) if blob.legacy else {}
    shape = {"shape": {"dim": blob.shape}} if blob.shape and not blob.legacy else {}
    name = "double_data" if _dtype(blob.data) == "<f8" else "data"
    payload: list[Piece] = [head(_BLOB[name], _size(blob.data)), blob.data] if blob.data.size else []
    yield _serialised(caffe_pb2.BlobProto(), sides)
    yield from payload if name == "data" else []
    yield _serialised(caffe_pb2.BlobProto(), shape)
    yield from payload if name == "double_data" else []


def _dtype(array: NDArray[Any]) -> str:
    return "<f8" if array.dtype.itemsize == 8 else "<f4"


def _size(piece: Piece) -> int:
    return len(piece) if isinstance(piece, bytes) else piece.size * np.dtype(_dtype(piece)).itemsize


# ---- definitions as messages -----------------------------------------------------------------------------------------


def _serialised(message: Message, values: Mapping[str, Any]) -> bytes:
    _fill(message, values)
    return message.SerializeToString(deterministic=True)


def _fill(message: Any, values: Mapping[str, Any]) -> None:
    """Set a message's fields from plain values; Any, because its fields are known at run time only."""
    table = fields(message.DESCRIPTOR)
    for name, value in values.items():
        field = table[name]
        if field.message is not None:
            for item in value if field.repeated else (value,):
                inner = getattr(message, name).add() if field.repeated else getattr(message, name)
                inner.SetInParent()
                _fill(inner, item)
        elif field.repeated:
            getattr(message, name).extend(known for item in value for known in _known(field, item))
        else:
            for known in _known(field, value):
                setattr(message, name, known)


def _known(field: Field, value: Any) -> tuple[Any, ...]:
    """The value as the message takes it; nothing for an enum's value that the format lacks, which is a fault."""
    if field.kind != "enum":
        return (value,)
    return (field.values[value],) if value in field.values else ()


def _header(net: NetDef) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": net.name,
        "input": [name for name, _ in net.inputs],
        "input_shape": [{"dim": shape} for _, shape in net.inputs if shape is not None],
        **net.rest,
    }
    if "state" not in net.rest and net.state != State():
        found["state"] = {"level": net.state.level, "stage": net.state.stages}
    return {key: value for key, value in found.items() if _is_set(value)}


def _layer(layer: LayerDef) -> dict[str, Any]:
    """The fields of a LayerParameter, without blobs."""
    found: dict[str, Any] = {
        "name": layer.name,
        "type": layer.type,
        "bottom": layer.bottoms,
        "top": layer.tops,
        "include": [_rule(rule) for rule in layer.include],
        "exclude": [_rule(rule) for rule in layer.exclude],
        **layer.rest,
        "param": _specs(layer),
    }
    return {**{key: value for key, value in found.items() if _is_set(value)}, **layer.params}


def _is_set(value: Any) -> bool:
    """Names and lists count as set when they are not empty."""
    return bool(value) or not isinstance(value, str | list | tuple | dict)


def _specs(layer: LayerDef) -> list[dict[str, Any]]:
    """The layer's `param`s, with the learning rates of the file."""
    written = [dict(spec) for spec in layer.rest.get("param", ())]
    written += [{} for _ in layer.specs[len(written) :]]
    return [_spec(values, spec) for values, spec in zip(written, layer.specs, strict=False)]


def _spec(values: dict[str, Any], spec: ParamSpec) -> dict[str, Any]:
    """The file's spelling where it says what `spec` does: an empty name, or a default, may stand or not."""
    if values.get("name", "") != spec.name:
        values["name"] = spec.name
    if values.get("share_mode", "STRICT") != spec.share_mode:
        values["share_mode"] = spec.share_mode
    return values


def _rule(rule: Rule) -> dict[str, Any]:
    found = {
        "phase": rule.phase,
        "min_level": rule.min_level,
        "max_level": rule.max_level,
        "stage": rule.stages,
        "not_stage": rule.not_stages,
    }
    return {key: value for key, value in found.items() if value is not None}
