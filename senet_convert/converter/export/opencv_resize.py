"""OpenCV's INTER_LINEAR of uint8 pictures as ONNX nodes: exactly the numbers of `cv2.resize`, not nearly the same.

OpenCV computes places in float64, rounds them to float32, and from there on works in integers: weights are multiples of
1/2048, a row is mixed first, then two rows, which lose four bits before and sixteen after the product, and the last two
bits are rounded (8-bit linear in its imgproc/resize.cpp; the same from 4.8 to 5.0). ONNX's own Resize, rounded, is off
by one in 6 % of the values of smooth pictures, and in 10 % of noise.

Only the pixels that the crop keeps are computed, from the four neighbours of each; the resized picture never exists.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from ...deploy.images.preprocess import Preprocess
from .nodes import Front

ONE = 2048  # what a weight of 1 is in OpenCV's integers
ROWS, COLUMNS = 1, 2  # axes of a picture (1, H, W, C)
BEFORE, AFTER, LAST = 1 << 4, 1 << 16, 1 << 2  # divisors of the second pass: before and after the product, at the end


@dataclass(frozen=True)
class _Neighbours:
    """The two pixels that each pixel of the crop comes from, int64 (n,), and their weights, int32."""

    near: str
    far: str
    near_weight: str
    far_weight: str


def resized_and_cropped(front: Front, picture: str, preprocess: Preprocess) -> str:
    """From a picture, uint8 (1, H, W, C), to what `preprocess` keeps of it, int32 (1, height, width, C)."""
    size, resize = preprocess.size, preprocess.resize
    sides = front("Cast", front("Gather", front("Shape", picture), _int64(ROWS, COLUMNS)), to=TensorProto.DOUBLE)
    if resize is None:
        wanted = front("Identity", _float64(*size))
        offsets = front("Identity", _float64(0, 0))
    else:
        shorter = front("ReduceMin", sides, keepdims=1)
        wanted = front("Round", front("Div", front("Mul", sides, _float64(resize)), shorter))
        offsets = front("Floor", front("Div", front("Sub", wanted, _float64(*size)), _float64(2)))
    scales = front("Div", _float64(1), front("Div", wanted, sides))  # OpenCV's: the reciprocal of the quotient
    rows, columns = (
        _neighbours(front, (_item(front, sides, i), _item(front, scales, i), _item(front, offsets, i)), size[i], axis)
        for i, axis in enumerate((ROWS, COLUMNS))
    )
    return _mixed(front, picture, rows, columns, preprocess.channels)


def _neighbours(front: Front, geometry: tuple[str, str, str], count: int, axis: int) -> _Neighbours:
    """Those of `count` pixels along an axis of the picture, whose `geometry` is length, scale and begin of the crop."""
    side, scale, offset = geometry
    centres = front("Add", offset, np.arange(count) + 0.5)
    place = front("Cast", front("Sub", front("Mul", centres, scale), _float64(0.5)), to=TensorProto.FLOAT)
    below = front("Floor", place)
    part = front("Sub", place, below)
    last = front("Cast", front("Sub", side, _float64(1)), to=TensorProto.FLOAT)
    if axis == COLUMNS:  # outside the picture OpenCV takes one column whole, but still mixes a row with itself
        inside = front("And", front("GreaterOrEqual", below, _float32(0)), front("Less", below, last))
        part = front("Where", inside, part, _float32(0))
    near, far = (
        front("Cast", front("Min", front("Max", at, _float32(0)), last), to=TensorProto.INT64)
        for at in (below, front("Add", below, _float32(1)))
    )
    near_weight, far_weight = (
        front("Cast", front("Round", front("Mul", share, _float32(ONE))), to=TensorProto.INT32)
        for share in (front("Sub", _float32(1), part), part)
    )
    return _Neighbours(near, far, near_weight, far_weight)


def _mixed(front: Front, picture: str, rows: _Neighbours, columns: _Neighbours, channels: int) -> str:
    """Both passes: along the rows, then two rows into one."""
    weights = [  # for each channel: a product whose inner axis has three values only is six times slower
        front("Expand", front("Reshape", weight, _int64(-1, 1)), _int64(1, channels))
        for weight in (columns.near_weight, columns.far_weight)
    ]
    parts = []
    for at, weight in ((rows.near, rows.near_weight), (rows.far, rows.far_weight)):
        row = front("Gather", picture, at, axis=ROWS)
        pixels = [front("Gather", row, place, axis=COLUMNS) for place in (columns.near, columns.far)]
        shares = [
            front("Mul", front("Cast", pixel, to=TensorProto.INT32), share)
            for pixel, share in zip(pixels, weights, strict=True)
        ]
        mixed = front("Div", front("Add", *shares), _int32(BEFORE))
        product = front("Mul", mixed, front("Reshape", weight, _int64(-1, 1, 1)))
        parts.append(front("Div", product, _int32(AFTER)))
    return front("Div", front("Add", front("Add", *parts), _int32(LAST // 2)), _int32(LAST))


def _item(front: Front, pair: str, i: int) -> str:
    return front("Gather", pair, _int64(i))


def _int64(*values: int) -> NDArray[np.int64]:
    return np.array(values, np.int64)


def _int32(value: int) -> NDArray[np.int32]:
    return np.array([value], np.int32)


def _float32(value: float) -> NDArray[np.float32]:
    return np.array([value], np.float32)


def _float64(*values: float) -> NDArray[np.float64]:
    return np.array(values, np.float64)
