"""Messages as plain values: what both readers give, and what the legacy upgrades work on.

A `Tree` is a dict of the fields that the file sets: repeated fields are lists, messages are Trees, enums the names of
their values, payloads of blobs numpy arrays. It also remembers where it stood in a text file, and what in it Caffe's
format does not know.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

from . import caffe_pb2


@dataclass(frozen=True)
class Fault:
    """Something in a message that Caffe's format does not know. It counts only where the message counts.

    For an unknown field in a text, `path` is its name behind those of the messages that it stands in, and `value` what
    unknown.py makes of it. In a binary fields have numbers only, and `path` is ().
    """

    line: int | None
    text: str
    path: tuple[str, ...] = field(default=(), compare=False)
    value: Any = field(default=None, compare=False)


class Tree(dict[str, Any]):
    """One message; `line` is where it begins in the text (None in a binary), `faults` what is unknown in it."""

    def __init__(self, line: int | None = None) -> None:
        super().__init__()
        self.line = line
        self.faults: list[Fault] = []

    def all_faults(self) -> list[Fault]:
        """The faults of this message and of all messages in it."""
        found = list(self.faults)
        for name, value in self.items():
            for item in value if isinstance(value, list) else [value]:
                if isinstance(item, Tree):
                    found += [replace(f, path=(name, *f.path) if f.path else ()) for f in item.all_faults()]
        return found


@dataclass(frozen=True)
class Field:
    """One field of a message type: `kind` is int32, int64, uint32, float, double, bool, string, enum or message."""

    name: str
    kind: str
    repeated: bool
    message: Descriptor | None
    values: dict[str, int]  # of an enum
    names: dict[int, str]


_KINDS = {
    FieldDescriptor.TYPE_FLOAT: "float",
    FieldDescriptor.TYPE_INT64: "int64",
    FieldDescriptor.TYPE_INT32: "int32",
    FieldDescriptor.TYPE_UINT32: "uint32",
    FieldDescriptor.TYPE_BOOL: "bool",
    FieldDescriptor.TYPE_STRING: "string",
    FieldDescriptor.TYPE_ENUM: "enum",
    FieldDescriptor.TYPE_MESSAGE: "message",
}
_PAYLOADS = {"data": "float", "diff": "float", "double_data": "double", "double_diff": "double"}


@cache
def fields(message: Descriptor) -> dict[str, Field]:
    """The fields of a message type by name. Payloads of blobs count as repeated numbers: that is what text holds."""
    table = {}
    for item in message.fields:
        payload = _PAYLOADS.get(item.name) if message.name == "BlobProto" else None
        enum = item.enum_type
        table[item.name] = Field(
            name=item.name,
            kind=payload or _KINDS[item.type],
            repeated=payload is not None or item.is_repeated,
            message=item.message_type,
            values={v.name: v.number for v in enum.values} if enum else {},
            names={v.number: v.name for v in enum.values} if enum else {},
        )
    return table


MAX_LAYERS = 30_000  # of a file; SENet-154 has 1030, those that Caffe inserted included
NET: Descriptor = caffe_pb2.DESCRIPTOR.message_types_by_name["NetParameter"]
FORK_NUMBERS = 20_000  # and above: what only forks have. Binaries hold no such numbers


def is_bvlc(message: str) -> bool:
    """Whether BVLC's Caffe knows this message of a layer's parameters, so that a binary's number for it is its own."""
    field = caffe_pb2.LayerParameter.DESCRIPTOR.fields_by_name.get(message)
    return field is not None and field.number < FORK_NUMBERS


def name_of(raw: str | bytes) -> str:
    """A string of the file. What is not UTF-8 keeps its bytes as '\\xff', so that different names stay different."""
    return raw if isinstance(raw, str) else raw.decode("utf-8", errors="backslashreplace")


def from_message(message: Message) -> Tree:
    """A protobuf message, without payloads of blobs, as a Tree. Unknown fields, as forks add, become faults."""
    tree = Tree()
    table = fields(message.DESCRIPTOR)
    for descriptor, value in message.ListFields():
        field = table[descriptor.name]
        tree[field.name] = [_plain(field, item) for item in value] if field.repeated else _plain(field, value)
    unknown = UnknownFieldSet(message)
    for number in dict.fromkeys(unknown[i].field_number for i in range(len(unknown))):
        tree.faults.append(Fault(None, f"unknown field number {number} of {message.DESCRIPTOR.name}, or its value"))
    return tree


def _plain(field: Field, value: Any) -> Any:
    if field.kind == "message":
        return from_message(value)
    if field.kind == "enum":
        return field.names[value]
    return name_of(value) if field.kind == "string" else value
