"""PSROIPooling: the mean of a grid of bins over each region of interest, each bin from channels of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import numpy as np
import torch
from onnx import TensorProto
from torch import Tensor

from ...errors import ConvertError
from .base import Array, Emitter, Layer, LayerFault, Shape, int64, reduced, scalar, times

LEAST = 0.1  # cells that a region measures at least


@dataclass(frozen=True)
class PSROIPooling(Layer):
    """R-FCN's PSROIPooling (psroi_pooling_layer.cu): maps (N, D P P, H, W), regions (R, 5) -> (R, D, P, P).

    P is `group_size`, D `output_dim`. A region is the number of an image and x1, y1, x2, y2, in the input's pixels,
    rounded (halves away from 0), both ends included, then scaled. Bin (p, q) of channel d is the mean of channel (d P +
    p) P + q over the bin's cells; an empty bin gives 0.
    """

    spatial_scale: float
    output_dim: int
    group_size: int

    message: ClassVar[str] = "psroi_pooling_param"
    takes: ClassVar[tuple[int, int | None]] = (2, 2)
    in_place: ClassVar[bool] = False

    def validate(self) -> None:
        """Caffe's own checks."""
        if min(self.output_dim, self.group_size) < 1:
            raise LayerFault(f"output_dim {self.output_dim}, group_size {self.group_size}; both must be at least 1")

    def shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        """(R, D, P, P)."""
        maps, regions = bottoms
        if len(maps) != 4 or len(regions) < 2 or regions[1] != 5 or max(regions[2:], default=1) != 1:
            raise LayerFault(
                f"bottoms of shapes {times(maps)} and {times(regions)}; PSROIPooling takes (N, C, H, W) and (R, 5)"
            )
        needed = self.output_dim * self.group_size**2
        if maps[1] != needed:
            raise LayerFault(
                f"a bottom of {maps[1]} channels; output_dim {self.output_dim} and group_size {self.group_size} need "
                f"{needed}"
            )
        return ((regions[0], self.output_dim, self.group_size, self.group_size),)

    def jumps(self) -> tuple[int, ...]:
        """Where the edge of a bin lies between two cells."""
        return (0,)

    def index_limits(self, bottoms: Sequence[Shape]) -> Mapping[int, int]:
        """Numbers of images."""
        return {1: bottoms[0][0]}

    def torch(self, bottoms: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Bin by bin; the bins' edges in float32, as Caffe has them."""
        regions = bottoms[1].reshape(-1, 5).numpy().astype(np.float32)
        maps = bottoms[0].reshape(-1, self.output_dim, self.group_size, self.group_size, *bottoms[0].shape[2:])
        tops = torch.zeros(len(regions), *maps.shape[1:4], dtype=maps.dtype)
        for r, (number, x1, y1, x2, y2) in enumerate(regions):
            rows, columns = (
                self._bins(first, last, size)
                for first, last, size in ((y1, y2, maps.shape[4]), (x1, x2, maps.shape[5]))
            )
            for p, (top, bottom) in enumerate(rows):
                for q, (left, right) in enumerate(columns):
                    if top < bottom and left < right:
                        tops[r, :, p, q] = maps[int(number), :, p, q, top:bottom, left:right].mean((1, 2))
        return (tops,)

    def _bins(self, first: np.float32, last: np.float32, size: int) -> list[tuple[int, int]]:
        """First cell and end of each bin along one axis of `size` cells."""
        scale = np.float32(self.spatial_scale)
        start, end = _rounded(first) * scale, (_rounded(last) + np.float32(1)) * scale
        width = max(end - start, np.float32(LEAST)) / np.float32(self.group_size)
        edges = [np.float32(i) * width + start for i in range(self.group_size + 1)]
        return [
            (min(max(int(np.floor(low)), 0), size), min(max(int(np.ceil(high)), 0), size))
            for low, high in pairwise(edges)
        ]

    def onnx(self, emit: Emitter, bottoms: Sequence[str], weights: Sequence[str]) -> tuple[str, ...]:
        """Which cells a bin has, as 0 and 1 along each axis: a MatMul sums over rows (and picks the image), Mul and
        ReduceSum over columns.
        """
        if not self.sound:
            raise ConvertError(
                "PSROIPooling in a network with weights that are NaN or infinite: such values would spread from cell "
                "to cell; repair the weights"
            )
        maps, regions = bottoms
        _, _, height, width = emit.shape(maps)
        groups, channels = self.group_size, self.output_dim
        if len(emit.shape(regions)) > 2:
            regions = emit("Flatten", [regions], axis=1)
        number, x1, y1, x2, y2 = (emit("Gather", [regions, emit.constant(int64(i))], axis=1) for i in range(5))
        rows, high = self._emit_bins(emit, y1, y2, height)  # (R, P, H), (R, P)
        columns, wide = self._emit_bins(emit, x1, x2, width)
        images = emit("Slice", [emit("Shape", [maps]), emit.constant(int64(0)), emit.constant(int64(1))])
        images = emit("Squeeze", [images, emit.constant(int64(0))])
        every = emit("Range", [emit.constant(np.asarray(0, np.int64)), images, emit.constant(np.asarray(1, np.int64))])
        chosen = emit("Equal", [emit("Cast", [number], to=TensorProto.INT64), every])  # (R, N)
        chosen = emit("Unsqueeze", [emit("Cast", [chosen], to=TensorProto.FLOAT), emit.constant(int64(1, 3))])
        picked = emit("Mul", [chosen, emit("Unsqueeze", [rows, emit.constant(int64(2))])])  # (R, P, N, H)
        picked = emit("Transpose", [picked], perm=[1, 0, 2, 3])
        picked = emit("Reshape", [picked, emit.constant(int64(0, 0, -1))])
        cells = emit("Reshape", [maps, emit.constant(int64(-1, channels, groups, groups, height, width))])
        cells = emit("Transpose", [cells], perm=[2, 0, 4, 1, 3, 5])
        cells = emit("Reshape", [cells, emit.constant(int64(groups, -1, channels * groups * width))])
        sums = emit("MatMul", [picked, cells])
        sums = emit("Reshape", [sums, emit.constant(int64(groups, -1, channels, groups, width))])  # (P, R, D, P, W)
        sums = emit("Mul", [sums, emit("Unsqueeze", [columns, emit.constant(int64(1))])])
        sums = emit("Transpose", [reduced(emit, "ReduceSum", sums, [4], keepdims=False)], perm=[1, 2, 0, 3])
        high = emit("Unsqueeze", [high, emit.constant(int64(1, 3))])
        wide = emit("Unsqueeze", [wide, emit.constant(int64(1, 2))])
        return (emit("Div", [sums, emit("Max", [emit("Mul", [high, wide]), scalar(emit, 1)])]),)

    def _emit_bins(self, emit: Emitter, first: str, last: str, size: int) -> tuple[str, str]:
        """Of each bin along one axis, 1 for its cells and 0 elsewhere, (R, P, size), and how many it has, (R, P)."""
        scale, nothing, end = scalar(emit, self.spatial_scale), scalar(emit, 0), scalar(emit, size)
        start = emit("Mul", [_emit_rounded(emit, first), scale])
        stop = emit("Mul", [emit("Add", [_emit_rounded(emit, last), scalar(emit, 1)]), scale])
        wide = emit("Max", [emit("Sub", [stop, start]), scalar(emit, LEAST)])
        wide = emit("Div", [wide, scalar(emit, self.group_size)])
        bounds = []
        for op, places in (("Floor", range(self.group_size)), ("Ceil", range(1, self.group_size + 1))):
            edges = emit("Add", [emit("Mul", [_floats(emit, places), wide]), start])
            bounds.append(emit("Min", [emit("Max", [emit(op, [edges]), nothing]), end]))
        low, high = (emit("Unsqueeze", [bound, emit.constant(int64(2))]) for bound in bounds)
        cells = _floats(emit, range(size))
        inside = emit("And", [emit("GreaterOrEqual", [cells, low]), emit("Less", [cells, high])])
        return emit("Cast", [inside], to=TensorProto.FLOAT), emit("Sub", [bounds[1], bounds[0]])


def _floats(emit: Emitter, values: Sequence[int]) -> str:
    array: Array = np.asarray(values, np.float32)
    return emit.constant(array)


def _rounded(value: np.float32) -> np.float32:
    """C's round."""
    return np.float32(np.copysign(np.floor(np.abs(np.float64(value)) + 0.5), value))


def _emit_rounded(emit: Emitter, x: str) -> str:
    """The same in ONNX, whose Round takes halves to even numbers."""
    whole = emit("Floor", [emit("Add", [emit("Abs", [x]), scalar(emit, 0.5)])])
    return emit("Mul", [emit("Sign", [x]), whole])
