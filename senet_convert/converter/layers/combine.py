"""Layers that combine blobs, or a blob with learned values: Axpy, Scale, Concat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from .base import Emitter, Layer, LayerFault, Shape, axis_of, int64, times


@dataclass(frozen=True)
class Axpy(Layer):
    """The SENet authors' Axpy: a * x + y for bottoms (a, x, y); a is (N, C) or (N, C, 1, 1), one factor per channel."""

    takes: ClassVar[tuple[int, int | None]] = (3, 3)
    in_place: ClassVar[bool] = False

    def shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        """As x and y."""
        a, x, y = bottoms
        if x != y:
            raise LayerFault(f"Axpy adds its second and third bottom, of shapes {times(x)} and {times(y)}")
        if len(x) < 2 or a[:2] != x[:2] or any(dim != 1 for dim in a[2:]):
            raise LayerFault(
                f"Axpy needs one factor per image and channel; the first bottom has shape {times(a)}, the second {times(x)}"
            )
        return (x,)

    def torch(self, bottoms: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Multiply, then add."""
        a, x, y = bottoms
        return (a.reshape(*a.shape[:2], *(1,) * (x.ndim - 2)) * x + y,)

    def onnx(self, emit: Emitter, bottoms: Sequence[str], weights: Sequence[str]) -> tuple[str, ...]:
        """Mul, Add."""
        a, x, y = bottoms
        axes, rank = len(emit.shape(a)), len(emit.shape(x))
        if axes != rank:
            a = emit("Reshape", [a, emit.constant(int64(0, 0, *(1,) * (rank - 2)))])
        return (emit("Add", [emit("Mul", [a, x]), y]),)


@dataclass(frozen=True)
class Scale(Layer):
    """Caffe's Scale (scale_layer.cpp): x * s (+ b), s learned or the second bottom.

    s has the shape of the axes of x from `axis` on, `num_axes` of them (-1: all); a second bottom brings its own number.
    Nothing else is broadcast.
    """

    axis: int = 1
    num_axes: int = 1
    bias_term: bool = False

    message: ClassVar[str] = "scale_param"
    takes: ClassVar[tuple[int, int | None]] = (1, 2)
    weight_names: ClassVar[tuple[str, ...]] = ("weight", "bias")

    def factor_shape(self, bottoms: Sequence[Shape]) -> Shape:
        """The shape of s. Raises LayerFault where it does not stand in the bottom's shape."""
        x = bottoms[0]
        axis = axis_of(self.axis, len(x)) if len(bottoms) == 1 or bottoms[1] else 0
        if len(bottoms) == 2:
            wanted = x[axis : axis + len(bottoms[1])]
            if bottoms[1] != wanted:
                raise LayerFault(
                    f"the second bottom has shape {times(bottoms[1])}; from axis {axis} on the first, {times(x)}, has "
                    f"{times(wanted)}. Caffe does not broadcast here"
                )
            return bottoms[1]
        if self.num_axes < -1 or axis + self.num_axes > len(x):
            raise LayerFault(f"num_axes {self.num_axes} from axis {axis} on goes beyond the bottom's shape {times(x)}")
        return x[axis:] if self.num_axes == -1 else x[axis : axis + self.num_axes]

    def shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        """As the first bottom."""
        self.factor_shape(bottoms)
        return (bottoms[0],)

    def weights(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        """s where it is learned, then b."""
        shape = self.factor_shape(bottoms)
        return (shape,) * ((len(bottoms) == 1) + self.bias_term)

    def _aligned(self, rank: int, axes: int) -> tuple[int, ...]:
        """The ones that a factor of `axes` axes needs behind it to line up with a bottom of `rank` axes."""
        axis = axis_of(self.axis, rank) if axes else rank
        return (1,) * (rank - axis - axes)

    def torch(self, bottoms: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Multiply, then add."""
        x = bottoms[0]
        factor, *bias = [*bottoms[1:], *weights]
        ones = self._aligned(x.ndim, factor.ndim)
        y = x * factor.reshape(*factor.shape, *ones)
        return (y + bias[0].reshape(*bias[0].shape, *ones) if bias else y,)

    def onnx(self, emit: Emitter, bottoms: Sequence[str], weights: Sequence[str]) -> tuple[str, ...]:
        """Mul, Add."""
        factor, *bias = [*bottoms[1:], *weights]
        rank, axes = len(emit.shape(bottoms[0])), len(emit.shape(factor))
        ones = self._aligned(rank, axes)
        y = emit("Mul", [bottoms[0], trailing_ones(emit, factor, axes, len(ones))])
        return (emit("Add", [y, trailing_ones(emit, bias[0], axes, len(ones))]) if bias else y,)


def trailing_ones(emit: Emitter, value: str, axes: int, ones: int) -> str:
    """`value`, which has `axes` axes, with `ones` axes of length 1 behind them."""
    if not ones:
        return value
    return emit("Unsqueeze", [value, emit.constant(int64(*range(axes, axes + ones)))])


@dataclass(frozen=True)
class Concat(Layer):
    """Caffe's Concat (concat_layer.cpp) along `axis`, or along the older `concat_dim`."""

    axis: int | None = None
    concat_dim: int | None = None

    message: ClassVar[str] = "concat_param"
    takes: ClassVar[tuple[int, int | None]] = (1, None)
    in_place: ClassVar[bool] = False

    def validate(self) -> None:
        """Only one spelling of the axis."""
        if self.axis is not None and self.concat_dim is not None:
            raise LayerFault("both axis and concat_dim are given; Caffe takes one of them")

    def _axis(self, rank: int) -> int:
        axis = self.axis if self.axis is not None else self.concat_dim
        return axis_of(1 if axis is None else axis, rank)

    def shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        """The bottoms' lengths along the axis added up; everything else must agree."""
        first = bottoms[0]
        axis = self._axis(len(first))
        for other in bottoms[1:]:
            if len(other) != len(first) or any(i != axis and a != b for i, (a, b) in enumerate(zip(first, other, strict=True))):
                raise LayerFault(f"bottoms of shapes {times(first)} and {times(other)} differ outside axis {axis}")
        return ((*first[:axis], sum(bottom[axis] for bottom in bottoms), *first[axis + 1 :]),)

    def torch(self, bottoms: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """By torch's cat."""
        return (torch.cat(list(bottoms), self._axis(bottoms[0].ndim)),)

    def onnx(self, emit: Emitter, bottoms: Sequence[str], weights: Sequence[str]) -> tuple[str, ...]:
        """Concat."""
        return (emit("Concat", list(bottoms), axis=self._axis(len(emit.shape(bottoms[0])))),)
