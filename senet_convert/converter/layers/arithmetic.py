"""Layers that calculate with values, one by one: AbsVal, Power, Exp, Log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from typing import ClassVar

import numpy as np
import torch
from onnx import numpy_helper
from torch import Tensor

from .base import Emitter, Layer, LayerFault, scalar, scaled


@dataclass(frozen=True)
class AbsVal(Layer):
    """Caffe's AbsVal (absval_layer.cpp): |x|."""

    pointwise: ClassVar[bool] = True
    in_place: ClassVar[bool] = False

    def torch(self, bottoms: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """By torch's own."""
        return (bottoms[0].abs(),)

    def onnx(self, emit: Emitter, bottoms: Sequence[str], weights: Sequence[str]) -> tuple[str, ...]:
        """Abs."""
        return (emit("Abs", [bottoms[0]]),)


@dataclass(frozen=True)
class Power(Layer):
    """Caffe's Power (power_layer.cpp): (shift + scale * x) ^ power.

    Where power or scale is 0 the top is constant, whatever the bottom holds: 1 for power 0, else shift ^ power.
    """

    power: float = 1.0
    scale: float = 1.0
    shift: float = 0.0

    pointwise: ClassVar[bool] = True
    message: ClassVar[str] = "power_param"

    @property
    def constant(self) -> float | None:
        """The one value of the top, where it has but one."""
        if self.power * self.scale != 0:
            return None
        with np.errstate(all="ignore"):  # as C's pow: 0 ^ -1 is infinite, (-1) ^ 0.5 is NaN
            return 1.0 if self.power == 0 else float(np.float64(self.shift) ** self.power)

    def torch(self, bottoms: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """In Caffe's order: multiply, add, raise."""
        x = bottoms[0]
        if self.constant is not None:
            return (torch.full_like(x, self.constant),)
        x = x * self.scale if self.scale != 1 else x
        x = x + self.shift if self.shift else x
        return (x**self.power if self.power != 1 else x,)

    def onnx(self, emit: Emitter, bottoms: Sequence[str], weights: Sequence[str]) -> tuple[str, ...]:
        """Mul, Add, Pow, as far as they do something."""
        x = bottoms[0]
        if self.constant is not None:
            value = numpy_helper.from_array(np.asarray([self.constant], np.float32))
            return (emit("ConstantOfShape", [emit("Shape", [x])], value=value),)
        x = scaled(emit, x, self.scale)
        x = emit("Add", [x, scalar(emit, self.shift)]) if self.shift else x
        return (emit("Pow", [x, scalar(emit, self.power)]) if self.power != 1 else x,)


@dataclass(frozen=True)
class Exp(Layer):
    """Caffe's Exp (exp_layer.cpp): base ^ (shift + scale * x), as base ^ shift * exp(log(base) * scale * x).

    The base -1 stands for e.
    """

    base: float = -1.0
    scale: float = 1.0
    shift: float = 0.0

    pointwise: ClassVar[bool] = True
    message: ClassVar[str] = "exp_param"

    def validate(self) -> None:
        """The base must be above 0, or -1."""
        if self.base != -1 and not self.base > 0:
            raise LayerFault(f"base {self.base:g}; it must be above 0, or -1 for e")

    @property
    def factors(self) -> tuple[float, float]:
        """The factors inside and outside of exp(). The outer one is infinite, as in Caffe, where float32 ends."""
        base = 1.0 if self.base == -1 else log(self.base)
        with np.errstate(over="ignore"):
            return base * self.scale, float(np.float32(np.exp(base * self.shift)))

    def torch(self, bottoms: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """As written above."""
        inner, outer = self.factors
        y = torch.exp(bottoms[0] * inner if inner != 1 else bottoms[0])
        return (y * outer if outer != 1 else y,)

    def onnx(self, emit: Emitter, bottoms: Sequence[str], weights: Sequence[str]) -> tuple[str, ...]:
        """Mul, Exp, Mul."""
        inner, outer = self.factors
        return (scaled(emit, emit("Exp", [scaled(emit, bottoms[0], inner)]), outer),)


@dataclass(frozen=True)
class Log(Layer):
    """Caffe's Log (log_layer.cpp): log(shift + scale * x) / log(base). The base -1 stands for e."""

    base: float = -1.0
    scale: float = 1.0
    shift: float = 0.0

    pointwise: ClassVar[bool] = True
    message: ClassVar[str] = "log_param"

    def validate(self) -> None:
        """The base must be above 0 and not 1, or -1."""
        if self.base != -1 and (not self.base > 0 or self.base == 1):
            raise LayerFault(f"base {self.base:g}; it must be above 0 and not 1, or -1 for e")

    @property
    def factor(self) -> float:
        """1 / log(base)."""
        return 1.0 if self.base == -1 else 1 / log(self.base)

    def torch(self, bottoms: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """As written above."""
        x = bottoms[0]
        x = x * self.scale if self.scale != 1 else x
        y = torch.log(x + self.shift if self.shift else x)
        return (y * self.factor if self.factor != 1 else y,)

    def onnx(self, emit: Emitter, bottoms: Sequence[str], weights: Sequence[str]) -> tuple[str, ...]:
        """Mul, Add, Log, Mul."""
        x = scaled(emit, bottoms[0], self.scale)
        x = emit("Add", [x, scalar(emit, self.shift)]) if self.shift else x
        return (scaled(emit, emit("Log", [x]), self.factor),)
