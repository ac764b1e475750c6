"""Layers of forks that cut, turn or rearrange blobs: CropCenter, Transpose, Reverse, Reorg."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch import Tensor

from .base import Emitter, Layer, LayerFault, Shape, int64, times

INT64 = np.iinfo(np.int64)


@dataclass(frozen=True)
class CropCenter(Layer):
    """waifu2x-caffe's CropCenter (crop_center_layer.cpp): of axis i `crop_size`[i] cells go, at both of its ends."""

    crop_size: tuple[int, ...] = ()

    message: ClassVar[str] = "crop_center_param"
    in_place: ClassVar[bool] = False

    def shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        """Each axis shorter by twice its crop_size."""
        x = bottoms[0]
        if len(self.crop_size) != len(x):
            raise LayerFault(
                f"{len(self.crop_size)} crop_size for a bottom of {len(x)} axes ({times(x)}); give one for each axis"
            )
        for axis, (size, crop) in enumerate(zip(x, self.crop_size, strict=True)):
            if size < 2 * crop + 1:
                raise LayerFault(
                    f"crop_size {crop} at both ends of axis {axis} leaves nothing of {size} cells ({times(x)})"
                )
        return (tuple(size - 2 * crop for size, crop in zip(x, self.crop_size, strict=True)),)

    def torch(self, bottoms: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """By torch's narrow."""
        x = bottoms[0]
        for axis, crop in enumerate(self.crop_size):
            x = x.narrow(axis, crop, x.shape[axis] - 2 * crop)
        return (x,)

    def onnx(self, emit: Emitter, bottoms: Sequence[str], weights: Sequence[str]) -> tuple[str, ...]:
        """Slice, with ends that count from the back: the batch may be any."""
        axes = [axis for axis, crop in enumerate(self.crop_size) if crop]
        if not axes:
            return (emit("Identity", [bottoms[0]]),)
        starts = int64(*(self.crop_size[axis] for axis in axes))
        return (emit("Slice", [bottoms[0], *(emit.constant(part) for part in (starts, -starts, int64(*axes)))]),)


@dataclass(frozen=True)
class Transpose(Layer):
    """CTPN's Transpose (transpose_layer.cpp): axis i of the top is axis `dim`[i] of the bottom."""

    dim: tuple[int, ...] = ()

    message: ClassVar[str] = "transpose_param"
    moves_cells: ClassVar[bool] = True
    in_place: ClassVar[bool] = False

    def shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        """The lengths in the new order."""
        x = bottoms[0]
        if sorted(self.dim) != list(range(len(x))):
            raise LayerFault(
                f"dim {list(self.dim)} for a bottom of {len(x)} axes ({times(x)}); it must name each of 0 to "
                f"{len(x) - 1} once"
            )
        return (tuple(x[axis] for axis in self.dim),)

    def torch(self, bottoms: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """By torch's permute."""
        return (bottoms[0].permute(self.dim).contiguous(),)

    def onnx(self, emit: Emitter, bottoms: Sequence[str], weights: Sequence[str]) -> tuple[str, ...]:
        """Transpose."""
        return (emit("Transpose", [bottoms[0]], perm=list(self.dim)),)


@dataclass(frozen=True)
class Reverse(Layer):
    """CTPN's Reverse (reverse_layer.cpp): the cells along `axis` in the opposite order."""

    axis: int = 0

    message: ClassVar[str] = "reverse_param"
    moves_cells: ClassVar[bool] = True
    in_place: ClassVar[bool] = False

    def shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        """As the bottom."""
        if not 0 <= self.axis < len(bottoms[0]):
            raise LayerFault(
                f"axis {self.axis} is out of range for a blob of {len(bottoms[0])} axes; Reverse counts from 0"
            )
        return (bottoms[0],)

    def torch(self, bottoms: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """By torch's flip."""
        return (bottoms[0].flip(self.axis),)

    def onnx(self, emit: Emitter, bottoms: Sequence[str], weights: Sequence[str]) -> tuple[str, ...]:
        """Slice, backwards."""
        parts = (-1, INT64.min, self.axis, -1)
        return (emit("Slice", [bottoms[0], *(emit.constant(int64(part)) for part in parts)]),)


@dataclass(frozen=True)
class Reorg(Layer):
    """YOLO v2's Reorg (reorg_layer.cpp): maps of fewer cells and more channels, in darknet's order.

    With s = `stride`, o = C / s^2 and the map taken for one of o channels, H s rows and W s columns: value (c, h s + i,
    w s + j) of it goes to ((i s + j) o + c, h, w) in a map of C x H x W; the top, of C s^2 x H / s x W / s, holds these
    values in that order. `reverse` makes maps of more cells: value ((i s + j) o + c, h, w) goes to (c, h s + i,
    w s + j) of a top of o x H s x W s.
    """

    stride: int
    reverse: bool = False

    message: ClassVar[str] = "reorg_param"
    in_place: ClassVar[bool] = False
    note: ClassVar[str] = (
        "darknet's order, as in YOLO v2's weights, which splits the channels as if the map were the larger one; a fork "
        "that takes each cell's block of stride x stride instead (space to depth) gives other numbers"
    )

    def validate(self) -> None:
        """At least 1."""
        if self.stride < 1:
            raise LayerFault(f"stride is {self.stride}; it must be at least 1")

    def shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        """(N, C, H, W) -> (N, C s^2, H / s, W / s); with `reverse` (N, C / s^2, H s, W s)."""
        x, s = bottoms[0], self.stride
        if len(x) != 4:
            raise LayerFault(f"the bottom has shape {times(x)}; Reorg needs four axes (N, C, H, W)")
        batch, channels, height, width = x
        if channels % s**2 or (not self.reverse and (height % s or width % s)):
            what = f"channels by {s**2}" if self.reverse else f"channels by {s**2}, height and width by {s}"
            raise LayerFault(f"stride {s} on a bottom of shape {times(x)}: it must divide {what}")
        if self.reverse:
            return ((batch, channels // s**2, height * s, width * s),)
        return ((batch, channels * s**2, height // s, width // s),)

    def _steps(self, bottom: Shape) -> tuple[list[int], list[int], list[int]]:
        """Split, order, joined: how the values of a bottom are regrouped, without the batch's length."""
        _, channels, height, width = bottom
        s = self.stride
        out = channels // s**2
        if self.reverse:
            return [s, s, out, height, width], [0, 3, 4, 1, 5, 2], list(self.shapes([bottom])[0][1:])
        return [out, height, s, width, s], [0, 3, 5, 1, 2, 4], list(self.shapes([bottom])[0][1:])

    def torch(self, bottoms: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Split, permute, join."""
        x = bottoms[0]
        split, order, joined = self._steps(tuple(x.shape))
        return (x.reshape(-1, *split).permute(order).reshape(-1, *joined),)

    def onnx(self, emit: Emitter, bottoms: Sequence[str], weights: Sequence[str]) -> tuple[str, ...]:
        """Reshape, Transpose, Reshape."""
        split, order, joined = self._steps(emit.shape(bottoms[0]))
        cells = emit("Reshape", [bottoms[0], emit.constant(int64(-1, *split))])
        turned = emit("Transpose", [cells], perm=order)
        return (emit("Reshape", [turned, emit.constant(int64(-1, *joined))]),)
