"""Reads mean.binaryproto: the mean image of a training set, as Caffe's compute_image_mean writes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from ..errors import ReadError
from ..files import require_file
from . import caffe_pb2


def read_mean(path: Path) -> NDArray[Any]:
    """The mean image, float32 (C, H, W), B G R as Caffe's tools have it. Raises ReadError."""
    require_file(path, ".binaryproto")
    try:
        blob = caffe_pb2.BlobProto.FromString(path.read_bytes())
    except (OSError, DecodeError) as fault:
        raise ReadError(f"{path}: cannot be read as a mean image (mean.binaryproto): {fault}") from fault
    shape = list(blob.shape.dim) or [blob.num, blob.channels, blob.height, blob.width]
    values = np.frombuffer(blob.double_data, "<f8") if blob.double_data else _floats(blob.data)
    while len(shape) > 3 and shape[0] == 1:
        shape = shape[1:]
    if len(shape) != 3 or min(shape) < 1 or values is None or values.size != np.prod(shape):
        held = "bytes" if values is None else f"{values.size} values"
        raise ReadError(f"{path}: not a mean image (mean.binaryproto): {held} of shape {shape}")
    return values.astype(np.float32).reshape(shape)


def _floats(data: bytes) -> NDArray[Any] | None:
    return np.frombuffer(data, "<f4") if len(data) % 4 == 0 else None
