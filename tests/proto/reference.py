"""Caffe's format with blobs as Caffe declares them, repeated floats: protobuf itself reads and writes the payloads.

Made from our own definition under another package name; `packed` says how the payloads are written.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from senet_convert.proto import caffe_pb2

PAYLOADS = ("data", "diff", "double_data", "double_diff")


@cache
def message_class(name: str = "NetParameter", packed: bool = True) -> type[Any]:
    """The class of one message. Typed as Any: its fields are known at run time only."""
    package = "reference.packed" if packed else "reference.unpacked"
    return message_factory.GetMessageClass(_pool(package, packed).FindMessageTypeByName(f"{package}.{name}"))


@cache
def _pool(package: str, packed: bool) -> descriptor_pool.DescriptorPool:
    file = descriptor_pb2.FileDescriptorProto()
    caffe_pb2.DESCRIPTOR.CopyToProto(file)
    file.name, file.package = f"{package}.proto", package
    for message in file.message_type:
        for field in message.field:
            if field.type_name:
                field.type_name = field.type_name.replace(".senet_convert.caffe.", f".{package}.")
            if message.name == "BlobProto" and field.name in PAYLOADS:
                double = field.name.startswith("double")
                field.type = field.TYPE_DOUBLE if double else field.TYPE_FLOAT
                field.label = field.LABEL_REPEATED
                field.options.packed = packed
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return pool


def plain(value: Any) -> Any:
    """Trees, arrays and lists in a form that compares to the bit: floats in hexadecimal, NaN as such."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, float):
        return value.hex()
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    return [plain(item) for item in value] if isinstance(value, list) else value
