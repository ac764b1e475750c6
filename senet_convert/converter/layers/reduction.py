"""Layers that make few values of many: Reduction, ArgMax."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np
import torch
from onnx import TensorProto
from torch import Tensor

from .base import Emitter, Layer, LayerFault, Shape, axis_of, int64, reduced, scaled, times

OPERATORS = {"SUM": "ReduceSum", "ASUM": "ReduceL1", "SUMSQ": "ReduceSumSquare", "MEAN": "ReduceMean"}


@dataclass(frozen=True)
class Reduction(Layer):
    """Caffe's Reduction (reduction_layer.cpp): coeff times the sum of x, |x| or x^2, or the mean, over all axes from
    `axis` on.
    """

    operation: str = "SUM"
    axis: int = 0
    coeff: float = 1.0

    message: ClassVar[str] = "reduction_param"
    in_place: ClassVar[bool] = False

    def shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        """The axes before `axis`."""
        return (bottoms[0][: axis_of(self.axis, len(bottoms[0]))],)

    def torch(self, bottoms: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """By torch's own sums."""
        x = bottoms[0]
        axes = list(range(axis_of(self.axis, x.ndim), x.ndim))
        x = {"ASUM": torch.abs, "SUMSQ": torch.square}.get(self.operation, lambda x: x)(x)
        y = x.mean(axes) if self.operation == "MEAN" else x.sum(axes)
        return (y * self.coeff if self.coeff != 1 else y,)

    def onnx(self, emit: Emitter, bottoms: Sequence[str], weights: Sequence[str]) -> tuple[str, ...]:
        """A Reduce operator, then Mul."""
        rank = len(emit.shape(bottoms[0]))
        axes = range(axis_of(self.axis, rank), rank)
        return (scaled(emit, reduced(emit, OPERATORS[self.operation], bottoms[0], axes, keepdims=False), self.coeff),)


@dataclass(frozen=True)
class ArgMax(Layer):
    """Caffe's ArgMax (argmax_layer.cpp): where the `top_k` largest values stand, as numbers of the bottom's type.

    Of equal values the one with the largest index comes first: Caffe sorts (value, index) pairs, largest first.
    With `axis`: along it, and the values instead of the indices with `out_max_val`. Without: over each image, flat, and
    the values as a second row with `out_max_val`.
    """

    out_max_val: bool = False
    top_k: int = 1
    axis: int | None = None

    message: ClassVar[str] = "argmax_param"
    in_place: ClassVar[bool] = False

    def jumps(self) -> tuple[int, ...]:
        """Where the largest values are nearly equal."""
        return (0,)

    def shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        """(..., top_k, ...); or (N, 1 or 2, top_k), with more ones where the bottom has more axes."""
        bottom = bottoms[0]
        along = None if self.axis is None else axis_of(self.axis, len(bottom))
        size = prod(bottom[1:]) if along is None else bottom[along]
        if not bottom or not 1 <= self.top_k <= size:
            raise LayerFault(f"top_k {self.top_k} of the {size} values of a {times(bottom)} bottom")
        if along is not None:
            return ((*bottom[:along], self.top_k, *bottom[along + 1 :]),)
        return ((bottom[0], 1 + self.out_max_val, self.top_k, *(1,) * (len(bottom) - 3)),)

    def torch(self, bottoms: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """A stable sort of the reversed values, so that the largest index stands first among equals."""
        flat = bottoms[0].reshape(bottoms[0].shape[0], -1)
        x, axis = (flat, 1) if self.axis is None else (bottoms[0], axis_of(self.axis, bottoms[0].ndim))
        values, places = x.flip(axis).sort(dim=axis, descending=True, stable=True)
        values = values.narrow(axis, 0, self.top_k)
        indices = (x.shape[axis] - 1 - places.narrow(axis, 0, self.top_k)).to(x.dtype)
        if self.axis is not None:
            return (values if self.out_max_val else indices,)
        rows = torch.stack([indices, values], 1) if self.out_max_val else indices
        return (rows.reshape(self.shapes([tuple(bottoms[0].shape)])[0]),)

    def onnx(self, emit: Emitter, bottoms: Sequence[str], weights: Sequence[str]) -> tuple[str, ...]:
        """ArgMax for one index; TopK of the reversed values otherwise, as it prefers the smallest index."""
        bottom = emit.shape(bottoms[0])
        flat = self.axis is None
        x = emit("Flatten", [bottoms[0]], axis=1) if flat else bottoms[0]
        axis = 1 if self.axis is None else axis_of(self.axis, len(bottom))
        if self.top_k == 1 and not self.out_max_val:
            indices = emit("Cast", [emit("ArgMax", [x], axis=axis, select_last_index=1)], to=TensorProto.FLOAT)
            return (self._shaped(emit, indices, bottom),)
        ends = emit.constant(int64(np.iinfo(np.int64).min))
        backwards = emit("Slice", [x, emit.constant(int64(-1)), ends, *(emit.constant(int64(n)) for n in (axis, -1))])
        values, places = emit.several("TopK", [backwards, emit.constant(int64(self.top_k))], 2, axis=axis)
        if not flat and self.out_max_val:
            return (values,)
        if axis == 0:  # the batch, of whatever size
            size = emit("Gather", [emit("Shape", [x]), emit.constant(int64(0))])
            last = emit("Sub", [size, emit.constant(int64(1))])
        else:
            last = emit.constant(int64((prod(bottom[1:]) if flat else bottom[axis]) - 1))
        indices = emit("Cast", [emit("Sub", [last, places])], to=TensorProto.FLOAT)
        if flat and self.out_max_val:
            indices = emit("Concat", [indices, values], axis=1)
        return (self._shaped(emit, indices, bottom),)

    def _shaped(self, emit: Emitter, value: str, bottom: Shape) -> str:
        """Without `axis`: the rows as axes of their own."""
        if self.axis is not None:
            return value
        top = self.shapes([bottom])[0]
        return emit("Reshape", [value, emit.constant(int64(-1, *top[1:]))])
