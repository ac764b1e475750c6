"""Layers that move values and that only forks of Caffe have: Permute, Transpose, Reverse, ShuffleChannel, CropCenter,
Interp, Upsample.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from onnx import TensorProto, numpy_helper
from torch import Tensor

from .base import Emitter, Layer, LayerFault, Shape, axis_of, int64, times


@dataclass(frozen=True)
class Permute(Layer):
    """SSD's Permute (permute_layer.cpp): the axes in another `order`; those not named follow in their own."""

    order: tuple[int, ...] = ()

    message: ClassVar[str] = "permute_param"
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
class Transpose(Layer):
    """CTPN's and CRNN's Transpose (transpose_layer.cpp): the axes in another order, each named in `dim`."""

    dim: tuple[int, ...] = ()

    message: ClassVar[str] = "transpose_param"
    in_place: ClassVar[bool] = False

    def shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        """The lengths in the new order."""
        shape = bottoms[0]
        if sorted(self.dim) != list(range(len(shape))):
            raise LayerFault(f"dim {list(self.dim)} does not name each of the {len(shape)} axes of the bottom once")
        return (tuple(shape[axis] for axis in self.dim),)

    def torch(self, bottoms: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """By torch's permute."""
        return (bottoms[0].permute(self.dim).contiguous(),)

    def onnx(self, emit: Emitter, bottoms: Sequence[str], weights: Sequence[str]) -> tuple[str, ...]:
        """Transpose."""
        return (emit("Transpose", [bottoms[0]], perm=list(self.dim)),)


@dataclass(frozen=True)
class Reverse(Layer):
    """CTPN's and CRNN's Reverse (reverse_layer.cpp): the cells along `axis` in reverse order."""

    axis: int = 0

    message: ClassVar[str] = "reverse_param"
    in_place: ClassVar[bool] = False

    def shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        """As the bottom."""
        axis_of(self.axis, len(bottoms[0]))
        return (bottoms[0],)

    def torch(self, bottoms: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """By torch's flip."""
        return (bottoms[0].flip(axis_of(self.axis, bottoms[0].ndim)),)

    def onnx(self, emit: Emitter, bottoms: Sequence[str], weights: Sequence[str]) -> tuple[str, ...]:
        """Slice backwards."""
        axis = axis_of(self.axis, len(emit.shape(bottoms[0])))
        bounds = (int64(-1), int64(np.iinfo(np.int64).min), int64(axis), int64(-1))
        return (emit("Slice", [bottoms[0], *map(emit.constant, bounds)]),)


@dataclass(frozen=True)
class CropCenter(Layer):
    """waifu2x-caffe's CropCenter: of axis i, crop_size[i] cells are cut off at both ends."""

    crop_size: tuple[int, ...] = ()

    message: ClassVar[str] = "crop_center_param"
    in_place: ClassVar[bool] = False

    def shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        """Each axis without what is cut off."""
        shape = bottoms[0]
        if len(self.crop_size) != len(shape):
            raise LayerFault(f"{len(self.crop_size)} crop_size for the {len(shape)} axes of the bottom {times(shape)}")
        left = tuple(size - 2 * cut for size, cut in zip(shape, self.crop_size, strict=True))
        if min(left) < 1:
            raise LayerFault(f"crop_size {list(self.crop_size)} leaves nothing of the bottom {times(shape)}")
        return (left,)

    def torch(self, bottoms: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """A slice."""
        x = bottoms[0]
        return (x[tuple(slice(cut, size - cut) for cut, size in zip(self.crop_size, x.shape, strict=True))],)

    def onnx(self, emit: Emitter, bottoms: Sequence[str], weights: Sequence[str]) -> tuple[str, ...]:
        """Slice, of the axes that lose cells."""
        shape = emit.shape(bottoms[0])
        axes = [axis for axis, cut in enumerate(self.crop_size) if cut]
        if not axes:
            return (emit("Identity", [bottoms[0]]),)
        starts = [self.crop_size[axis] for axis in axes]
        ends = [shape[axis] - self.crop_size[axis] for axis in axes]
        return (emit("Slice", [bottoms[0], *(emit.constant(int64(*row)) for row in (starts, ends, axes))]),)


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


@dataclass(frozen=True)
class Upsample(Layer):
    """Two layers of one name (upsample_layer.cpp).

    With one bottom (converters of YOLO): every cell becomes a block of `scale` x `scale`. With two (SegNet): every
    value goes to the place in its plane that the second bottom holds, a MAX pooling's second top; 0 stands elsewhere,
    and of values for one place the last stays. The size is `upsample_h` x `upsample_w`, or `scale` times the bottom's,
    less one with `pad_out_h`, `pad_out_w`.
    """

    scale: int | None = None
    scale_h: int | None = None
    scale_w: int | None = None
    pad_out_h: bool = False
    pad_out_w: bool = False
    upsample_h: int | None = None
    upsample_w: int | None = None

    message: ClassVar[str] = "upsample_param"
    takes: ClassVar[tuple[int, int | None]] = (1, 2)
    in_place: ClassVar[bool] = False
    note: ClassVar[str] = (
        "with one bottom the nearest cell, repeated (converters of YOLO); with two the places of a MAX pooling "
        "(SegNet). Some forks with one bottom write zeros between the cells instead"
    )

    def factors(self) -> tuple[int, int]:
        """Along height and width. Raises LayerFault where they are not given, or both ways."""
        sides = (self.scale_h, self.scale_w)
        if self.scale is not None and sides != (None, None):
            raise LayerFault("both scale and scale_h, scale_w are given; the layer takes one of them")
        height, width = (2 if self.scale is None else self.scale,) * 2 if None in sides else sides
        if height is None or width is None or min(height, width) < 1:
            raise LayerFault(f"scale {height}x{width}; it must be at least 1")
        return height, width

    def shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        """(N, C, H, W) -> (N, C, H', W')."""
        x = bottoms[0]
        if any(len(bottom) != 4 for bottom in bottoms) or bottoms[-1] != x:
            raise LayerFault(
                f"bottoms of shapes {' and '.join(map(times, bottoms))}; Upsample takes (N, C, H, W), and places alike"
            )
        wanted = (self.upsample_h, self.upsample_w)
        if len(bottoms) == 1 and (wanted != (None, None) or self.pad_out_h or self.pad_out_w):
            raise LayerFault("upsample_h, upsample_w, pad_out_h and pad_out_w need the places as a second bottom")
        if self.upsample_h and self.upsample_w:
            return ((*x[:2], self.upsample_h, self.upsample_w),)
        height, width = self.factors()
        return ((*x[:2], x[2] * height - self.pad_out_h, x[3] * width - self.pad_out_w),)

    def index_limits(self, bottoms: Sequence[Shape]) -> Mapping[int, int]:
        """Cells of a plane of the top."""
        return {1: prod(self.shapes(bottoms)[0][2:])} if len(bottoms) == 2 else {}

    def torch(self, bottoms: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """By repeating; by torch's scatter."""
        x = bottoms[0]
        top = self.shapes([tuple(bottom.shape) for bottom in bottoms])[0]
        if len(bottoms) == 1:
            height, width = self.factors()
            return (x.repeat_interleave(height, 2).repeat_interleave(width, 3),)
        plane = torch.zeros(*top[:2], prod(top[2:]), dtype=x.dtype)
        return (plane.scatter(2, bottoms[1].flatten(2).long(), x.flatten(2)).reshape(top),)

    def onnx(self, emit: Emitter, bottoms: Sequence[str], weights: Sequence[str]) -> tuple[str, ...]:
        """Resize to the nearest; or ScatterElements onto zeros."""
        x = bottoms[0]
        top = self.shapes([emit.shape(bottom) for bottom in bottoms])[0]
        if len(bottoms) == 1:
            scales = emit.constant(np.asarray([1, 1, *self.factors()], np.float32))
            how = {"mode": "nearest", "nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"}
            return (emit("Resize", [x, "", scales], **how),)
        flat = emit.constant(int64(0, 0, -1))
        places = emit("Cast", [emit("Reshape", [bottoms[1], flat])], to=TensorProto.INT64)
        sizes = emit("Slice", [emit("Shape", [x]), emit.constant(int64(0)), emit.constant(int64(2))])
        sizes = emit("Concat", [sizes, emit.constant(int64(prod(top[2:])))], axis=0)
        zero = numpy_helper.from_array(np.zeros(1, np.float32))
        zeros = emit("ConstantOfShape", [sizes], value=zero)
        planes = emit("ScatterElements", [zeros, places, emit("Reshape", [x, flat])], axis=2)
        return (emit("Reshape", [planes, emit.constant(int64(0, 0, *top[2:]))]),)
