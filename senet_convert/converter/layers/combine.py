"""Layers that combine blobs, or a blob with learned values: Axpy, Scale, Bias, Eltwise, Concat."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, ClassVar

import torch
from torch import Tensor

from .base import Emitter, Layer, LayerFault, Shape, axis_of, int64, scaled, times


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
                f"Axpy needs one factor per image and channel; the first bottom has shape {times(a)}, "
                f"the second {times(x)}"
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
class _Operand(Layer):
    """What Scale and Bias share: an operand s, learned or the second bottom, along a run of the axes of x.

    A learned s has the shape of `num_axes` axes of x from `axis` on (-1: all of them); a second bottom brings its own
    number. Nothing else is broadcast.
    """

    axis: int = 1
    num_axes: int = 1

    takes: ClassVar[tuple[int, int | None]] = (1, 2)

    def operand_shape(self, bottoms: Sequence[Shape]) -> Shape:
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
        self.operand_shape(bottoms)
        return (bottoms[0],)

    def _ones(self, rank: int, axes: int) -> int:
        """How many axes of length 1 an operand of `axes` axes needs behind it to line up with `rank` axes."""
        return rank - axis_of(self.axis, rank) - axes if axes else 0

    def lined_up(self, x: Tensor, operand: Tensor) -> Tensor:
        """The operand with the axes of length 1 that it needs behind it."""
        return operand.reshape((*operand.shape, *(1,) * self._ones(x.ndim, operand.ndim)))

    def unsqueezed(self, emit: Emitter, x: str, operand: str) -> str:
        """The same in ONNX."""
        axes = len(emit.shape(operand))
        ones = self._ones(len(emit.shape(x)), axes)
        if not ones:
            return operand
        return emit("Unsqueeze", [operand, emit.constant(int64(*range(axes, axes + ones)))])


@dataclass(frozen=True)
class Scale(_Operand):
    """Caffe's Scale (scale_layer.cpp): x * s (+ b), s learned or the second bottom, b learned and of the shape of s."""

    bias_term: bool = False

    message: ClassVar[str] = "scale_param"
    weight_names: ClassVar[tuple[str, ...]] = ("weight", "bias")

    def weights(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        """s where it is learned, then b."""
        if self.bias_term:  # Caffe's b asks for the axis, even where s is a number that needs none
            axis_of(self.axis, len(bottoms[0]))
        return (self.operand_shape(bottoms),) * ((len(bottoms) == 1) + self.bias_term)

    def names(self, count: int) -> tuple[str, ...]:
        """A single blob is b where the layer has one: s is then a bottom."""
        return ("bias",) if count == 1 and self.bias_term else self.weight_names[:count]

    def torch(self, bottoms: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Multiply, then add."""
        x = bottoms[0]
        factor, *bias = (self.lined_up(x, operand) for operand in (*bottoms[1:], *weights))
        return (x * factor + bias[0] if bias else x * factor,)

    def onnx(self, emit: Emitter, bottoms: Sequence[str], weights: Sequence[str]) -> tuple[str, ...]:
        """Mul, Add."""
        x = bottoms[0]
        factor, *bias = [*bottoms[1:], *weights]
        y = emit("Mul", [x, self.unsqueezed(emit, x, factor)])
        return (emit("Add", [y, self.unsqueezed(emit, x, bias[0])]) if bias else y,)


@dataclass(frozen=True)
class Bias(_Operand):
    """Caffe's Bias (bias_layer.cpp): x + b, b learned or the second bottom."""

    message: ClassVar[str] = "bias_param"
    weight_names: ClassVar[tuple[str, ...]] = ("bias",)

    def weights(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        """b where it is learned."""
        return (self.operand_shape(bottoms),) if len(bottoms) == 1 else ()

    def torch(self, bottoms: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Add."""
        x, bias = [*bottoms, *weights]
        return (x + self.lined_up(x, bias),)

    def onnx(self, emit: Emitter, bottoms: Sequence[str], weights: Sequence[str]) -> tuple[str, ...]:
        """Add."""
        x, bias = [*bottoms, *weights]
        return (emit("Add", [x, self.unsqueezed(emit, x, bias)]),)


@dataclass(frozen=True)
class Eltwise(Layer):
    """Caffe's Eltwise (eltwise_layer.cpp): the product, the sum or the maximum of bottoms of one shape.

    SUM takes one coefficient per bottom. MAX compares, so that NaN counts where the bottom that is compared against
    holds it: a > b ? a : b of the first two, then c > top ? c : top. In place SUM and MAX would lose their first
    bottom, which Caffe overwrites to begin with.
    """

    operation: str = "SUM"
    coeff: tuple[float, ...] = ()
    stable_prod_grad: bool = True  # of training

    message: ClassVar[str] = "eltwise_param"
    takes: ClassVar[tuple[int, int | None]] = (2, None)

    @classmethod
    def works_in_place(cls, params: Mapping[str, Any]) -> bool:
        """A product is taken value by value."""
        return bool(params.get(cls.message, {}).get("operation") == "PROD")

    def validate(self) -> None:
        """Caffe takes coefficients for sums, and passes over those of MAX."""
        if self.operation == "PROD" and self.coeff:
            raise LayerFault("coeff is for operation: SUM; this is PROD")

    def shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        """The one shape that all bottoms have."""
        for other in bottoms[1:]:
            if other != bottoms[0]:
                raise LayerFault(f"bottoms of shapes {times(bottoms[0])} and {times(other)}; Eltwise needs one shape")
        if len(self.coeff) not in (0, len(bottoms)):
            raise LayerFault(f"{len(self.coeff)} coeff for {len(bottoms)} bottoms; each needs one")
        return (bottoms[0],)

    def torch(self, bottoms: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """One after the other, as Caffe does."""
        if self.operation == "MAX" and not self.sound:
            return (reduce(lambda top, x: torch.where(x > top, x, top), [bottoms[1], bottoms[0], *bottoms[2:]]),)
        combine: dict[str, Callable[[Tensor, Tensor], Tensor]]
        combine = {"SUM": operator.add, "PROD": operator.mul, "MAX": torch.maximum}
        if self.operation == "SUM" and self.coeff:
            bottoms = [x * factor for x, factor in zip(bottoms, self.coeff, strict=True)]
        return (reduce(combine[self.operation], bottoms),)

    def onnx(self, emit: Emitter, bottoms: Sequence[str], weights: Sequence[str]) -> tuple[str, ...]:
        """A chain of Add, Mul or Max; of Greater and Where, where there may be NaN."""
        if self.operation == "MAX" and not self.sound:
            chain = [bottoms[1], bottoms[0], *bottoms[2:]]
            return (reduce(lambda top, x: emit("Where", [emit("Greater", [x, top]), x, top]), chain),)
        op = {"SUM": "Add", "PROD": "Mul", "MAX": "Max"}[self.operation]
        if self.operation == "SUM" and self.coeff:
            bottoms = [scaled(emit, x, factor) for x, factor in zip(bottoms, self.coeff, strict=True)]
        return (reduce(lambda x, y: emit(op, [x, y]), bottoms),)


@dataclass(frozen=True)
class Concat(Layer):
    """Caffe's Concat (concat_layer.cpp) along `axis`, or along the older `concat_dim`."""

    axis: int | None = None
    concat_dim: int | None = None

    message: ClassVar[str] = "concat_param"
    takes: ClassVar[tuple[int, int | None]] = (1, None)
    in_place: ClassVar[bool] = False

    def shares(self, bottoms: int) -> bool:
        """A concatenation of one blob is that blob."""
        return bottoms == 1

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
            if len(other) != len(first) or (*other[:axis], first[axis], *other[axis + 1 :]) != first:
                raise LayerFault(f"bottoms of shapes {times(first)} and {times(other)} differ outside axis {axis}")
        return ((*first[:axis], sum(bottom[axis] for bottom in bottoms), *first[axis + 1 :]),)

    def torch(self, bottoms: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """By torch's cat."""
        return (torch.cat(list(bottoms), self._axis(bottoms[0].ndim)),)

    def onnx(self, emit: Emitter, bottoms: Sequence[str], weights: Sequence[str]) -> tuple[str, ...]:
        """Concat."""
        return (emit("Concat", list(bottoms), axis=self._axis(len(emit.shape(bottoms[0])))),)
