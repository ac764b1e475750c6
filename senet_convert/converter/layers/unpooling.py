"""Layers of forks that undo a pooling: Upsample, Unpooling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np
import torch
from onnx import TensorProto, numpy_helper
from torch import Tensor

from .base import Emitter, Layer, LayerFault, Shape, int64, times


def scattered(x: Tensor, places: Tensor, top: Shape) -> Tensor:
    """Every value at the place in its plane that `places` holds, h * W + w; 0 elsewhere. (N, C, H, W) -> `top`."""
    plane = torch.zeros(*top[:2], prod(top[2:]), dtype=x.dtype)
    return plane.scatter(2, places.flatten(2).long(), x.flatten(2)).reshape(top)


def emit_scattered(emit: Emitter, x: str, places: str, top: Shape) -> str:
    """The same in ONNX: ScatterElements onto zeros."""
    flat = emit.constant(int64(0, 0, -1))
    places = emit("Cast", [emit("Reshape", [places, flat])], to=TensorProto.INT64)
    sizes = emit("Slice", [emit("Shape", [x]), emit.constant(int64(0)), emit.constant(int64(2))])
    sizes = emit("Concat", [sizes, emit.constant(int64(prod(top[2:])))], axis=0)
    zero = numpy_helper.from_array(np.zeros(1, np.float32))
    zeros = emit("ConstantOfShape", [sizes], value=zero)
    planes = emit("ScatterElements", [zeros, places, emit("Reshape", [x, flat])], axis=2)
    return emit("Reshape", [planes, emit.constant(int64(0, 0, *top[2:]))])


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
        return (scattered(x, bottoms[1], top),)

    def onnx(self, emit: Emitter, bottoms: Sequence[str], weights: Sequence[str]) -> tuple[str, ...]:
        """Resize to the nearest; or ScatterElements onto zeros."""
        x = bottoms[0]
        top = self.shapes([emit.shape(bottom) for bottom in bottoms])[0]
        if len(bottoms) == 1:
            scales = emit.constant(np.asarray([1, 1, *self.factors()], np.float32))
            how = {"mode": "nearest", "nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"}
            return (emit("Resize", [x, "", scales], **how),)
        return (emit_scattered(emit, x, bottoms[1], top),)


@dataclass(frozen=True)
class Unpooling(Layer):
    """DeconvNet's Unpooling (unpooling_layer.cpp) by places: every value goes to the place in its plane that the second
    bottom holds, a MAX pooling's second top; 0 stands elsewhere, and of values for one place the last stays.

    The size is `unpool_size`, or `unpool_h` x `unpool_w`, or max((H - 1) stride + kernel - 2 pad, H stride - pad + 1).
    """

    unpool: str = "MAX"
    pad: int = 0
    kernel_size: int | None = None
    stride: int = 1
    unpool_size: int | None = None
    pad_h: int | None = None
    pad_w: int | None = None
    kernel_h: int | None = None
    kernel_w: int | None = None
    stride_h: int | None = None
    stride_w: int | None = None
    unpool_h: int | None = None
    unpool_w: int | None = None

    message: ClassVar[str] = "unpooling_param"
    takes: ClassVar[tuple[int, int | None]] = (1, 2)
    in_place: ClassVar[bool] = False
    note: ClassVar[str] = (
        "every value at the place that a MAX pooling's second top holds (DeconvNet). Where the prototxt gives no "
        "unpool_size, forks compute different sizes: this is max((H - 1) stride + kernel - 2 pad, H stride - pad + 1)"
    )

    def validate(self) -> None:
        """By places only."""
        if self.unpool != "MAX":
            raise LayerFault(f"unpool: {self.unpool} spreads values in a way of its own; only MAX, by places, is known")

    def _side(self, size: int, axis: str) -> int:
        """Cells along one axis of the top. Raises LayerFault where nothing tells."""
        given = self.unpool_size or getattr(self, f"unpool_{axis}")
        if given:
            return int(given)
        kernel, stride, pad = (
            getattr(self, both) if getattr(self, f"{name}_{axis}") is None else getattr(self, f"{name}_{axis}")
            for name, both in (("kernel", "kernel_size"), ("stride", "stride"), ("pad", "pad"))
        )
        if not kernel:
            raise LayerFault("neither unpool_size nor kernel_size says how large the top is")
        return int(max((size - 1) * stride + kernel - 2 * pad, size * stride - pad + 1))

    def shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        """(N, C, H, W) -> (N, C, H', W')."""
        x = bottoms[0]
        if len(bottoms) == 1:
            raise LayerFault(
                "it has one bottom; only Unpooling by places is known, which a MAX pooling gives as its second top"
            )
        if any(len(bottom) != 4 for bottom in bottoms) or bottoms[-1] != x:
            raise LayerFault(
                f"bottoms of shapes {' and '.join(map(times, bottoms))}; Unpooling takes (N, C, H, W), and places alike"
            )
        return ((*x[:2], self._side(x[2], "h"), self._side(x[3], "w")),)

    def index_limits(self, bottoms: Sequence[Shape]) -> Mapping[int, int]:
        """Cells of a plane of the top."""
        return {1: prod(self.shapes(bottoms)[0][2:])}

    def torch(self, bottoms: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """By torch's scatter."""
        top = self.shapes([tuple(bottom.shape) for bottom in bottoms])[0]
        return (scattered(bottoms[0], bottoms[1], top),)

    def onnx(self, emit: Emitter, bottoms: Sequence[str], weights: Sequence[str]) -> tuple[str, ...]:
        """ScatterElements onto zeros."""
        top = self.shapes([emit.shape(bottom) for bottom in bottoms])[0]
        return (emit_scattered(emit, bottoms[0], bottoms[1], top),)
