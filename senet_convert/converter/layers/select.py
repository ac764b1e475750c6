"""Layers that take parts of a blob, or repeat it: Slice, Crop, Tile, Filter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from .base import Emitter, Layer, LayerFault, Shape, axis_of, int64, times


@dataclass(frozen=True)
class Slice(Layer):
    """Caffe's Slice (slice_layer.cpp): cut at every `slice_point` along `axis`, or into equal parts without any.

    `slice_dim` is the older name of the axis.
    """

    axis: int | None = None
    slice_point: tuple[int, ...] = ()
    slice_dim: int | None = None

    message: ClassVar[str] = "slice_param"
    gives: ClassVar[tuple[int, int | None]] = (1, None)
    in_place: ClassVar[bool] = False

    def shares(self, bottoms: int) -> bool:
        """The whole of a blob is that blob."""
        return self.tops == 1

    def validate(self) -> None:
        """Only one spelling of the axis; one point fewer than tops, in order."""
        if self.axis is not None and self.slice_dim is not None:
            raise LayerFault("both axis and slice_dim are given; Caffe takes one of them")
        if self.slice_point and len(self.slice_point) != self.tops - 1:
            raise LayerFault(f"{len(self.slice_point)} slice_point for {self.tops} tops; it must be one fewer")
        if any(a >= b for a, b in pairwise((0, *self.slice_point))):
            raise LayerFault(f"slice_point {list(self.slice_point)}: each must be larger than the one before it")

    def _axis(self, rank: int) -> int:
        axis = self.axis if self.axis is not None else self.slice_dim
        return axis_of(1 if axis is None else axis, rank)

    def sizes(self, bottom: Shape) -> tuple[int, ...]:
        """The lengths of the parts. Raises LayerFault where the bottom is too short, or cannot be cut evenly."""
        size = bottom[self._axis(len(bottom))]
        if not self.slice_point:
            if size % self.tops:
                raise LayerFault(f"{size} values along the axis of a {times(bottom)} bottom, {self.tops} equal parts")
            return (size // self.tops,) * self.tops
        if self.slice_point[-1] >= size:
            raise LayerFault(f"slice_point {self.slice_point[-1]} along an axis of {size} in a {times(bottom)} bottom")
        return tuple(b - a for a, b in pairwise((0, *self.slice_point, size)))

    def shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        """One shape per part."""
        bottom = bottoms[0]
        axis = self._axis(len(bottom))
        return tuple((*bottom[:axis], size, *bottom[axis + 1 :]) for size in self.sizes(bottom))

    def torch(self, bottoms: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """By torch's split."""
        x = bottoms[0]
        return tuple(torch.split(x, list(self.sizes(tuple(x.shape))), self._axis(x.ndim)))

    def onnx(self, emit: Emitter, bottoms: Sequence[str], weights: Sequence[str]) -> tuple[str, ...]:
        """Split; along the batch, where the last part has no fixed length, one Slice for each."""
        x = bottoms[0]
        bottom = emit.shape(x)
        axis = self._axis(len(bottom))
        if self.tops == 1:
            return (x,)
        if axis:
            return emit.several("Split", [x, emit.constant(int64(*self.sizes(bottom)))], self.tops, axis=axis)
        if not self.slice_point:
            count = {"num_outputs": self.tops} if emit.opset >= 18 else {}
            return emit.several("Split", [x], self.tops, axis=axis, **count)
        ends = (*self.slice_point, np.iinfo(np.int64).max)
        return tuple(
            emit("Slice", [x, *(emit.constant(int64(n)) for n in (start, end, axis))])
            for start, end in pairwise((0, *ends))
        )


@dataclass(frozen=True)
class Crop(Layer):
    """Caffe's Crop (crop_layer.cpp): from `axis` on, what the second bottom has room for, `offset` cells further in.

    One offset counts for all these axes, none means 0.
    """

    axis: int = 2
    offset: tuple[int, ...] = ()

    message: ClassVar[str] = "crop_param"
    takes: ClassVar[tuple[int, int | None]] = (2, 2)
    in_place: ClassVar[bool] = False

    def _offsets(self, rank: int) -> tuple[int, ...]:
        """An offset for each axis from `axis` on."""
        axes = rank - axis_of(self.axis, rank)
        if len(self.offset) not in (0, 1, axes):
            raise LayerFault(
                f"{len(self.offset)} offset for the {axes} axes from axis {self.axis} on; give one, or {axes}"
            )
        return self.offset if len(self.offset) == axes else (self.offset or (0,)) * axes

    def shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        """The first bottom's shape before `axis`, the second's from there on."""
        x, wanted = bottoms
        if len(wanted) != len(x):
            raise LayerFault(f"bottoms of shapes {times(x)} and {times(wanted)}; Crop needs the same number of axes")
        axis = axis_of(self.axis, len(x))
        offsets = self._offsets(len(x))
        if any(size - offset < new for size, offset, new in zip(x[axis:], offsets, wanted[axis:], strict=True)):
            raise LayerFault(
                f"a {times(x)} bottom has no room for {times(wanted[axis:])} at offset {times(offsets)}, axis {axis} on"
            )
        return ((*x[:axis], *wanted[axis:]),)

    def grid(self, bottom: Shape) -> tuple[tuple[float, float], tuple[float, float]]:
        """What is cut off lies before the top."""
        axis = axis_of(self.axis, len(bottom))
        h, w = ((0,) * axis + self._offsets(len(bottom)))[2:4]
        return (1.0, -float(h)), (1.0, -float(w))

    def torch(self, bottoms: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """By torch's narrow."""
        x, wanted = bottoms
        axis = axis_of(self.axis, x.ndim)
        for i, offset in enumerate(self._offsets(x.ndim), axis):
            x = x.narrow(i, offset, wanted.shape[i])
        return (x,)

    def onnx(self, emit: Emitter, bottoms: Sequence[str], weights: Sequence[str]) -> tuple[str, ...]:
        """Slice; its ends come from the second bottom where the batch is cropped."""
        x, wanted = bottoms
        shape = emit.shape(wanted)
        axis = axis_of(self.axis, len(shape))
        offsets = self._offsets(len(shape))
        starts, axes = emit.constant(int64(*offsets)), emit.constant(int64(*range(axis, len(shape))))
        if axis == 0:
            ends = emit("Add", [emit("Shape", [wanted]), starts])
        else:
            ends = emit.constant(int64(*(a + b for a, b in zip(offsets, shape[axis:], strict=True))))
        return (emit("Slice", [x, starts, ends, axes]),)


@dataclass(frozen=True)
class CROP(Crop):
    """The FCN fork's CROP, of `layers { type: CROP }`: Crop along height and width, without parameters. The offset
    follows from where the cells of both bottoms lie on the map that both are computed from.
    """

    message: ClassVar[str] = ""
    by_coordinates: ClassVar[bool] = True
    note: ClassVar[str] = (
        "the offset is what puts the cells of both bottoms on each other, by the strides and pads of the layers that "
        "they come from, as in the FCN fork; BVLC's Crop has 0 where the prototxt says nothing"
    )

    def shifted(self, offset: tuple[int, int]) -> Self:
        """Along height and width."""
        return replace(self, axis=2, offset=offset)


@dataclass(frozen=True)
class Tile(Layer):
    """Caffe's Tile (tile_layer.cpp): the block from `axis` on, `tiles` times one behind the other."""

    tiles: int
    axis: int = 1

    message: ClassVar[str] = "tile_param"
    in_place: ClassVar[bool] = False

    def validate(self) -> None:
        """At least once."""
        if self.tiles < 1:
            raise LayerFault(f"tiles is {self.tiles}; it must be at least 1")

    def _repeats(self, rank: int) -> list[int]:
        axis = axis_of(self.axis, rank)
        return [self.tiles if i == axis else 1 for i in range(rank)]

    def shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        """The axis `tiles` times as long."""
        return (tuple(a * b for a, b in zip(bottoms[0], self._repeats(len(bottoms[0])), strict=True)),)

    def torch(self, bottoms: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """By torch's tile."""
        return (bottoms[0].tile(self._repeats(bottoms[0].ndim)),)

    def onnx(self, emit: Emitter, bottoms: Sequence[str], weights: Sequence[str]) -> tuple[str, ...]:
        """Tile."""
        return (emit("Tile", [bottoms[0], emit.constant(int64(*self._repeats(len(emit.shape(bottoms[0])))))]),)


@dataclass(frozen=True)
class Filter(Layer):
    """Caffe's Filter (filter_layer.cpp), which is refused: it keeps the images whose selector is not 0."""

    takes: ClassVar[tuple[int, int | None]] = (2, None)
    gives: ClassVar[tuple[int, int | None]] = (1, None)
    in_place: ClassVar[bool] = False

    def shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        """Raises LayerFault."""
        raise LayerFault(
            "Filter keeps those images of a batch whose selector is not 0, so that the shapes of its tops depend on "
            "the data. Read its bottoms instead, and select outside of the network"
        )
