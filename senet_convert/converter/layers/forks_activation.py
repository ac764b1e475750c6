"""Activation functions that only forks of Caffe have: ReLU6, CReLU, HardSigmoid, HardSwish, Mish."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from .activation import ReLU
from .base import ULP, Emitter, Layer, LayerFault, Shape, axis_of, scalar


@dataclass(frozen=True)
class ReLU6(Layer):
    """min(max(x, 0), 6), as all forks have it (relu6_layer.cpp)."""

    pointwise: ClassVar[bool] = True

    def torch(self, bottoms: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """By torch's clamp."""
        return (torch.clamp(bottoms[0], 0, 6),)

    def onnx(self, emit: Emitter, bottoms: Sequence[str], weights: Sequence[str]) -> tuple[str, ...]:
        """Clip."""
        return (emit("Clip", [bottoms[0], scalar(emit, 0), scalar(emit, 6)]),)


@dataclass(frozen=True)
class BReLU(Layer):
    """DehazeNet's (brelu_layer.cpp): min(max(x, minval), maxval)."""

    minval: float = 0.0
    maxval: float = 1.0

    message: ClassVar[str] = "brelu_param"
    note: ClassVar[str] = (
        "min(max(x, minval), maxval), between 0 and 1 unless brelu_param says otherwise; one GPU version of it "
        "multiplies what is below 0 by minval instead, which with minval 0 is the same"
    )

    def validate(self) -> None:
        """Limits in order."""
        if self.minval > self.maxval:
            raise LayerFault(f"minval {self.minval:g} is above maxval {self.maxval:g}")

    def torch(self, bottoms: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """By torch's clamp."""
        return (torch.clamp(bottoms[0], self.minval, self.maxval),)

    def onnx(self, emit: Emitter, bottoms: Sequence[str], weights: Sequence[str]) -> tuple[str, ...]:
        """Clip."""
        return (emit("Clip", [bottoms[0], scalar(emit, self.minval), scalar(emit, self.maxval)]),)


@dataclass(frozen=True)
class CReLU(Layer):
    """ReLU of x and of -x, one behind the other along `concat_axis` (crelu_layer.cpp)."""

    negative_slope: float = 0.0
    concat_axis: int = 1

    message: ClassVar[str] = "crelu_param"
    in_place: ClassVar[bool] = False

    def shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        """The axis twice as long."""
        x = bottoms[0]
        axis = axis_of(self.concat_axis, len(x), "concat_axis")
        return ((*x[:axis], 2 * x[axis], *x[axis + 1 :]),)

    def torch(self, bottoms: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Join, then bend."""
        both = torch.cat([bottoms[0], -bottoms[0]], self.concat_axis)
        return (F.leaky_relu(both, self.negative_slope),)

    def onnx(self, emit: Emitter, bottoms: Sequence[str], weights: Sequence[str]) -> tuple[str, ...]:
        """Neg, Concat, then as ReLU."""
        x = bottoms[0]
        axis = axis_of(self.concat_axis, len(emit.shape(x)))
        both = emit("Concat", [x, emit("Neg", [x])], axis=axis)
        return ReLU(self.negative_slope, sound=self.sound).onnx(emit, [both], [])


@dataclass(frozen=True)
class HardSigmoid(Layer):
    """min(max(alpha * x + beta, 0), 1) (hardsigmoid_layer.cpp)."""

    alpha: float = float(np.float32(0.2))
    beta: float = 0.5

    pointwise: ClassVar[bool] = True
    message: ClassVar[str] = "hardsigmoid_param"
    note: ClassVar[str] = (
        "min(max(alpha * x + beta, 0), 1) with alpha 0.2 and beta 0.5 unless the prototxt says otherwise; some forks "
        "have alpha 1/6 built in (MobileNetV3's): write it into hardsigmoid_param"
    )

    def torch(self, bottoms: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """As written above."""
        return (torch.clamp(self.alpha * bottoms[0] + self.beta, 0, 1),)

    def onnx(self, emit: Emitter, bottoms: Sequence[str], weights: Sequence[str]) -> tuple[str, ...]:
        """HardSigmoid."""
        return (emit("HardSigmoid", [bottoms[0]], alpha=self.alpha, beta=self.beta),)


@dataclass(frozen=True)
class HardSwish(Layer):
    """x * min(max(x + 3, 0), 6) / 6 (hard_swish_layer.cpp), as MobileNetV3 has it."""

    pointwise: ClassVar[bool] = True
    note: ClassVar[str] = "x * min(max(x + 3, 0), 6) / 6, as in MobileNetV3; some forks multiply by 0.2 x + 0.5 instead"

    def torch(self, bottoms: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """In that order."""
        x = bottoms[0]
        return (x * torch.clamp(x + 3, 0, 6) / 6,)

    def onnx(self, emit: Emitter, bottoms: Sequence[str], weights: Sequence[str]) -> tuple[str, ...]:
        """Add, Clip, Mul, Div: HardSwish is an operator from opset 14 on only."""
        x = bottoms[0]
        gate = emit("Clip", [emit("Add", [x, scalar(emit, 3)]), scalar(emit, 0), scalar(emit, 6)])
        return (emit("Div", [emit("Mul", [x, gate]), scalar(emit, 6)]),)


@dataclass(frozen=True)
class Mish(Layer):
    """x * tanh(log(1 + exp(x))) (mish_layer.cpp); forks cut the logarithm off at 20, which changes nothing in float."""

    pointwise: ClassVar[bool] = True

    def resolution(self, x: Tensor) -> Tensor | float:
        """That of the tanh, multiplied as it is."""
        return ULP * x.abs()

    def torch(self, bottoms: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """By logaddexp, as BNLL."""
        x = bottoms[0]
        return (x * torch.tanh(torch.logaddexp(x, torch.zeros_like(x))),)

    def onnx(self, emit: Emitter, bottoms: Sequence[str], weights: Sequence[str]) -> tuple[str, ...]:
        """Softplus, Tanh, Mul: Mish is an operator from opset 18 on only."""
        x = bottoms[0]
        return (emit("Mul", [x, emit("Tanh", [emit("Softplus", [x])])]),)
