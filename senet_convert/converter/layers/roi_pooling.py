"""ROIPooling: the largest values in a grid of bins over each region of interest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from ...errors import ConvertError
from .base import Emitter, Layer, LayerFault, Shape, times
from .pooling import emit_floored, floored

LAST_OPSET = 21  # that onnxruntime (1.31) has MaxRoiPool in


@dataclass(frozen=True)
class ROIPooling(Layer):
    """Fast R-CNN's ROIPooling (roi_pooling_layer.cpp): maps (N, C, H, W), regions (R, 5) -> (R, C, pooled_h, pooled_w).

    A region is the number of an image and x1, y1, x2, y2, in the input's pixels, both ends included; they are scaled
    and rounded, halves away from 0. Bins overlap where the region does not divide evenly; an empty bin gives 0.
    """

    pooled_h: int
    pooled_w: int
    spatial_scale: float = 1.0

    message: ClassVar[str] = "roi_pooling_param"
    takes: ClassVar[tuple[int, int | None]] = (2, 2)
    in_place: ClassVar[bool] = False

    def validate(self) -> None:
        """Caffe's own checks."""
        if min(self.pooled_h, self.pooled_w) < 1:
            raise LayerFault(f"pooled_h {self.pooled_h}, pooled_w {self.pooled_w}; both must be at least 1")

    def shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        """(R, C, pooled_h, pooled_w)."""
        maps, regions = bottoms
        if len(maps) != 4 or len(regions) < 2 or regions[1] != 5 or max(regions[2:], default=1) != 1:
            raise LayerFault(
                f"bottoms of shapes {times(maps)} and {times(regions)}; ROIPooling takes (N, C, H, W) and (R, 5)"
            )
        return ((regions[0], maps[1], self.pooled_h, self.pooled_w),)

    def jumps(self) -> tuple[int, ...]:
        """Where a corner lies half-way between two cells."""
        return (0,)

    def index_limits(self, bottoms: Sequence[Shape]) -> Mapping[int, int]:
        """Numbers of images."""
        return {1: bottoms[0][0]}

    def torch(self, bottoms: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Bin by bin; the bins' edges in float32, as Caffe has them."""
        maps = bottoms[0] if self.sound else floored(bottoms[0])
        regions = bottoms[1].reshape(-1, 5).numpy().astype(np.float32)
        tops = []
        for number, *corners in regions:
            image = maps[int(number)]
            x1, y1, x2, y2 = (_rounded(corner * np.float32(self.spatial_scale)) for corner in corners)
            rows = _bins(y1, y2, self.pooled_h, image.shape[1])
            columns = _bins(x1, x2, self.pooled_w, image.shape[2])
            tops.append(torch.stack([torch.stack([_most(image, row, column) for column in columns]) for row in rows]))
        return (torch.stack(tops).permute(0, 3, 1, 2).contiguous(),)

    def onnx(self, emit: Emitter, bottoms: Sequence[str], weights: Sequence[str]) -> tuple[str, ...]:
        """MaxRoiPool, which onnxruntime computes as Caffe does, up to opset 21."""
        if emit.opset > LAST_OPSET:
            raise ConvertError(
                f"opset {emit.opset}: onnxruntime has no MaxRoiPool, which ROIPooling becomes, from opset "
                f"{LAST_OPSET + 1} on; choose --opset {LAST_OPSET} or an older one"
            )
        regions = bottoms[1]
        if len(emit.shape(regions)) > 2:
            regions = emit("Flatten", [regions], axis=1)
        size = [self.pooled_h, self.pooled_w]
        maps = bottoms[0] if self.sound else emit_floored(emit, bottoms[0])
        return (emit("MaxRoiPool", [maps, regions], pooled_shape=size, spatial_scale=self.spatial_scale),)


def _rounded(value: np.float32) -> int:
    """C's round."""
    return int(np.copysign(np.floor(np.abs(value) + np.float64(0.5)), value))


def _bins(first: int, last: int, count: int, size: int) -> list[tuple[int, int]]:
    """First cell and end of each bin along one axis of `size` cells."""
    width = np.float32(max(last - first + 1, 1)) / np.float32(count)
    edges = [(int(np.floor(np.float32(i) * width)), int(np.ceil(np.float32(i + 1) * width))) for i in range(count)]
    return [(min(max(low + first, 0), size), min(max(high + first, 0), size)) for low, high in edges]


def _most(image: Tensor, rows: tuple[int, int], columns: tuple[int, int]) -> Tensor:
    cells = image[:, slice(*rows), slice(*columns)].flatten(1)
    return cells.amax(1) if cells.shape[1] else torch.zeros_like(image[:, 0, 0])
