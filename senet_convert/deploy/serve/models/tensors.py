"""Tensors as bytes: row-major, little-endian, BYTES with their lengths. What the binary extension and gRPC share."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import InvalidInput
from .inference import BYTES, Output
from .served import Spec

Array = NDArray[Any]


def from_bytes(spec: Spec, shape: Sequence[int], buffer: bytes, start: int = 0, size: int | None = None) -> Array:
    """The tensor for input `spec` that lies in `size` bytes of `buffer` from `start` on (default: all); not a copy.

    Raises InvalidInput when `shape` takes another number of bytes, and for a BOOL that is neither 0 nor 1.
    """
    given = len(buffer) - start if size is None else size
    needed = math.prod(shape) * spec.dtype.itemsize
    if given != needed:
        raise InvalidInput(f"input {spec}: shape {list(shape)} takes {needed} bytes of data; {given} were given")
    array = np.frombuffer(buffer, spec.dtype, math.prod(shape), start).reshape(shape)
    if spec.dtype == np.bool_ and (array.view(np.uint8) > 1).any():
        raise InvalidInput(f"input {spec}: a BOOL is a byte 0 or 1; there are others")
    return np.require(array, requirements="A")  # a copy where the bytes lie across the type's boundaries


def to_bytes(output: Output) -> bytes:
    """The inverse, for results: BYTES are each preceded by their length in 4 bytes."""
    if output.datatype != BYTES:
        return output.data.tobytes()
    return b"".join(struct.pack("<I", len(entry)) + entry for entry in output.data.ravel())
