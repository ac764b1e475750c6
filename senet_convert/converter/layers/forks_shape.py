"""Layers that move values and that only forks of Caffe have: Permute, ShuffleChannel, Interp."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from .base import Emitter, Layer, LayerFault, Shape, int64, times


@dataclass(frozen=True)
class Permute(Layer):
    """SSD's Permute (permute_layer.cpp): the axes in another `order`; those not named follow in their own."""

    order: tuple[int, ...] = ()

    message: ClassVar[str] = "permute_param"
    moves_cells: ClassVar[bool] = True
    in_place: ClassVar[bool] = False

    def shares(self, bottoms: int) -> bool:
        """What stays in its order stays where it is."""
        return self.order == tuple(range(len(self.order)))

    def validate(self) -> None:
        """No axis twice."""
        if len(set(self.order)) < len(self.order):
            raise LayerFault(f"order {list(self.order)} names an axis twice")

    def axes(self, rank: int) -> tuple[int, ...]:
        """The axes of the bottom, in the top's order."""
        if any(axis >= rank for axis in self.order):
            raise LayerFault(f"order {list(self.order)} names an axis that a blob of {rank} axes does not have")
        return (*self.order, *(axis for axis in range(rank) if axis not in self.order))

    def shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        """The lengths in the new order."""
        return (tuple(bottoms[0][axis] for axis in self.axes(len(bottoms[0]))),)

    def torch(self, bottoms: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """By torch's permute."""
        return (bottoms[0].permute(self.axes(bottoms[0].ndim)).contiguous(),)

    def onnx(self, emit: Emitter, bottoms: Sequence[str], weights: Sequence[str]) -> tuple[str, ...]:
        """Transpose."""
        return (emit("Transpose", [bottoms[0]], perm=list(self.axes(len(emit.shape(bottoms[0]))))),)


@dataclass(frozen=True)
class ShuffleChannel(Layer):
    """ShuffleNet's (shuffle_channel_layer.cpp): channel g * (C / group) + i goes to place i * group + g."""

    group: int = 1

    message: ClassVar[str] = "shuffle_channel_param"
    in_place: ClassVar[bool] = False

    def shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        """As the bottom."""
        x = bottoms[0]
        if self.group < 1 or len(x) < 2 or x[1] % self.group:
            raise LayerFault(f"group {self.group} on a bottom of shape {times(x)}: it must divide the channels")
        return (x,)

    def torch(self, bottoms: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """By transposing groups and places in them."""
        x = bottoms[0]
        groups = x.reshape(x.shape[0], self.group, x.shape[1] // self.group, -1)
        return (groups.transpose(1, 2).reshape(x.shape),)

    def onnx(self, emit: Emitter, bottoms: Sequence[str], weights: Sequence[str]) -> tuple[str, ...]:
        """Reshape, Transpose, Reshape."""
        _, channels, *space = emit.shape(bottoms[0])
        size = prod(space)
        split = emit("Reshape", [bottoms[0], emit.constant(int64(-1, self.group, channels // self.group, size))])
        shuffled = emit("Transpose", [split], perm=[0, 2, 1, 3])
        return (emit("Reshape", [shuffled, emit.constant(int64(-1, channels, *space))]),)


@dataclass(frozen=True)
class Interp(Layer):
    """DeepLab's Interp (interp_layer.cpp): bilinear, the corners of the top on those of the bottom.

    The size is `height` and `width`, or follows `shrink_factor` s, then `zoom_factor` z: (H - 1) / s + 1, then
    H + (H - 1)(z - 1), or is that of a second bottom. Negative `pad_beg` and `pad_end` crop the bottom first.
    """

    height: int | None = None
    width: int | None = None
    zoom_factor: int | None = None
    shrink_factor: int | None = None
    pad_beg: int = 0
    pad_end: int = 0

    message: ClassVar[str] = "interp_param"
    takes: ClassVar[tuple[int, int | None]] = (1, 2)
    in_place: ClassVar[bool] = False
    note: ClassVar[str] = (
        "bilinear with the corners of both maps on each other (DeepLab, PSPNet); forks with align_corners or another "
        "interpolation say so in fields, which are refused"
    )

    def validate(self) -> None:
        """The forks' own checks."""
        if self.pad_beg > 0 or self.pad_end > 0:
            raise LayerFault(f"pad_beg {self.pad_beg}, pad_end {self.pad_end}: Interp only crops, with negative pads")
        if min(value for value in (self.zoom_factor, self.shrink_factor, 1) if value is not None) < 1:
            raise LayerFault("zoom_factor and shrink_factor must be at least 1")

    def size(self, bottoms: Sequence[Shape]) -> tuple[int, int]:
        """Height and width of the top. Raises LayerFault where nothing says them."""
        if any(len(bottom) != 4 for bottom in bottoms):
            raise LayerFault(f"a bottom has shape {times(bottoms[-1])}; Interp needs four axes (N, C, H, W)")
        given = (self.height, self.width, self.zoom_factor, self.shrink_factor)
        if len(bottoms) == 2:
            if any(value is not None for value in given):
                raise LayerFault("the second bottom gives the size; the prototxt gives one too")
            return bottoms[1][2], bottoms[1][3]
        cropped = [side + self.pad_beg + self.pad_end for side in bottoms[0][2:]]
        if min(cropped) < 1:
            raise LayerFault(f"pad_beg {self.pad_beg}, pad_end {self.pad_end} leave nothing of {times(bottoms[0][2:])}")
        if self.shrink_factor is None and self.zoom_factor is None:
            if not self.height or not self.width or min(self.height, self.width) < 1:
                raise LayerFault("neither height and width, nor zoom_factor, nor shrink_factor says the size")
            return self.height, self.width
        shrunk = [(side - 1) // (self.shrink_factor or 1) + 1 for side in cropped]
        height, width = (side + (side - 1) * ((self.zoom_factor or 1) - 1) for side in shrunk)
        return height, width

    def shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        """(N, C, H, W) -> (N, C, H', W')."""
        return ((*bottoms[0][:2], *self.size(bottoms)),)

    def torch(self, bottoms: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """By torch's interpolate."""
        crop = [self.pad_beg, self.pad_end] * 2
        size = self.size([tuple(x.shape) for x in bottoms])
        return (F.interpolate(F.pad(bottoms[0], crop), size, mode="bilinear", align_corners=True),)

    def onnx(self, emit: Emitter, bottoms: Sequence[str], weights: Sequence[str]) -> tuple[str, ...]:
        """Pad, then one MatMul for each axis: the computed places of Resize are float32, and differ by runtime."""
        x = bottoms[0]
        height, width = self.size([emit.shape(bottom) for bottom in bottoms])
        rows, columns = (side + self.pad_beg + self.pad_end for side in emit.shape(x)[2:])
        if self.pad_beg or self.pad_end:
            crop = emit.constant(int64(0, 0, self.pad_beg, self.pad_beg, 0, 0, self.pad_end, self.pad_end))
            x = emit("Pad", [x, crop])
        x = emit("MatMul", [x, emit.constant(_weights(columns, width).T.copy())])
        return (emit("MatMul", [emit.constant(_weights(rows, height)), x]),)


def _weights(size: int, out: int) -> np.ndarray:
    """(out, size) float32: what each cell of the top takes of each cell of the bottom, along one axis."""
    table = np.zeros((out, size))
    for i in range(out):
        place = i * (size - 1) / (out - 1) if out > 1 else 0.0
        low = min(int(place), size - 1)
        table[i, low] += 1 - (place - low)
        table[i, min(low + 1, size - 1)] += place - low
    return table.astype(np.float32)
