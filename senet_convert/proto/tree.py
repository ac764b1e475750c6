"""Messages as plain values: what both readers give, and what the legacy upgrades work on.

A `Tree` is a dict of the fields that the file sets: repeated fields are lists, messages are Trees, enums the names of
their values, payloads of blobs numpy arrays. It also remembers where it stood in a text file, and what in it Caffe's
format does not know.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from google.protobuf import unknown_fields
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from . import caffe_pb2


@dataclass(frozen=True)
class Fault:
    """Something in a message that Caffe's format does not know. It counts only where the message counts."""

    line: int | None
    text: str


class Tree(dict[str, Any]):
    """One message; `line` is where it begins in the text (None in a binary), `faults` what is unknown in it."""

    def __init__(self, line: int | None = None) -> None:
        super().__init__()
        self.line = line
        self.faults: list[Fault] = []

    def all_faults(self) -> list[Fault]:
        """The faults of this message and of all messages in it."""
        found = list(self.faults)
        for value in self.values():
            for item in value if isinstance(value, list) else [value]:
                if isinstance(item, Tree):
                    found += item.all_faults()
        return found


@dataclass(frozen=True)
class Field:
    """One field of a message type: `kind` is int, float, bool, string, bytes, enum or message."""

    name: str
    kind: str
    repeated: bool
    message: Descriptor | None
    values: dict[str, int]  # of an enum
    names: dict[int, str]


_KINDS = {
    FieldDescriptor.TYPE_DOUBLE: "float",
    FieldDescriptor.TYPE_FLOAT: "float",
    FieldDescriptor.TYPE_INT64: "int",
    FieldDescriptor.TYPE_INT32: "int",
    FieldDescriptor.TYPE_UINT32: "uint",
    FieldDescriptor.TYPE_BOOL: "bool",
    FieldDescriptor.TYPE_STRING: "string",
    FieldDescriptor.TYPE_BYTES: "bytes",
    FieldDescriptor.TYPE_ENUM: "enum",
    FieldDescriptor.TYPE_MESSAGE: "message",
}
_PAYLOADS = {"data", "diff", "double_data", "double_diff"}


@cache
def fields(message: Descriptor) -> dict[str, Field]:
    """The fields of a message type by name. Payloads of blobs count as repeated floats: that is what text holds."""
    table = {}
    for field in message.fields:
        payload = message.name == "BlobProto" and field.name in _PAYLOADS
        enum = field.enum_type
        table[field.name] = Field(
            name=field.name,
            kind="float" if payload else _KINDS[field.type],
            repeated=payload or field.is_repeated,
            message=field.message_type,
            values={v.name: v.number for v in enum.values} if enum else {},
            names={v.number: v.name for v in enum.values} if enum else {},
        )
    return table


NET: Descriptor = caffe_pb2.NetParameter.DESCRIPTOR


def from_message(message: Message) -> Tree:
    """A protobuf message as a Tree. Unknown fields, which forks of Caffe add, become faults."""
    tree = Tree()
    table = fields(message.DESCRIPTOR)
    for descriptor, value in message.ListFields():
        field = table[descriptor.name]
        if field.kind == "message":
            tree[field.name] = [from_message(m) for m in value] if field.repeated else from_message(value)
        elif field.kind == "enum":
            tree[field.name] = [field.names[v] for v in value] if field.repeated else field.names[value]
        else:
            tree[field.name] = list(value) if field.repeated and field.kind != "bytes" else value
    for unknown in unknown_fields.UnknownFieldSet(message):  # type: ignore[no-untyped-call]
        tree.faults.append(Fault(None, f"field number {unknown.field_number} of {message.DESCRIPTOR.name}"))
    return tree
