"""Layers that bend values, one by one: the activation functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import ClassVar

import torch
import torch.nn.functional as F  # noqa: N812
from onnx import TensorProto
from torch import Tensor

from .base import ULP, Emitter, Layer, LayerFault, Shape, int64, scalar, scaled, times


@dataclass(frozen=True)
class ReLU(Layer):
    """Caffe's ReLU (relu_layer.cpp): max(x, 0) + negative_slope * min(x, 0), which is NaN for -inf and slope 0.

    With `relu6`, of a fork, it is min(max(x, 0), 6).
    """

    negative_slope: float = 0.0
    relu6: bool = False

    pointwise: ClassVar[bool] = True
    message: ClassVar[str] = "relu_param"
    keeps_class_order: ClassVar[bool] = True

    def validate(self) -> None:
        """Caffe multiplies the slope by 0 for values above 0: an infinite one makes NaN of them."""
        if self.relu6 and self.negative_slope:
            raise LayerFault(f"relu6 with negative_slope {self.negative_slope:g}: what that means is not known")
        if not isfinite(self.negative_slope):
            raise LayerFault(f"negative_slope is {self.negative_slope}: every value above 0 would become NaN")

    def torch(self, bottoms: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """By torch's own."""
        x = bottoms[0]
        if self.relu6:
            return (torch.clamp(x, 0, 6),)
        if not self.sound:
            return (_bent(x, self.negative_slope),)
        return (F.leaky_relu(x, self.negative_slope) if self.negative_slope else F.relu(x),)

    def onnx(self, emit: Emitter, bottoms: Sequence[str], weights: Sequence[str]) -> tuple[str, ...]:
        """Relu, LeakyRelu, or Clip; Max, Min, Mul and Add where values may be infinite."""
        if self.relu6:
            return (emit("Clip", [bottoms[0], scalar(emit, 0), scalar(emit, 6)]),)
        if not self.sound:
            return (_emit_bent(emit, bottoms[0], scalar(emit, self.negative_slope)),)
        if self.negative_slope:
            return (emit("LeakyRelu", [bottoms[0]], alpha=self.negative_slope),)
        return (emit("Relu", [bottoms[0]]),)


def _bent(x: Tensor, slope: Tensor | float) -> Tensor:
    """Caffe's formula as it stands: the slope is multiplied by 0 too."""
    return torch.clamp(x, min=0) + slope * torch.clamp(x, max=0)


def _emit_bent(emit: Emitter, x: str, slope: str) -> str:
    """The same in ONNX; Max and Min pass NaN on, in onnxruntime as in C++ with x in front."""
    zero = scalar(emit, 0)
    return emit("Add", [emit("Max", [x, zero]), emit("Mul", [slope, emit("Min", [x, zero])])])


@dataclass(frozen=True)
class PReLU(Layer):
    """Caffe's PReLU (prelu_layer.cpp): max(x, 0) + a * min(x, 0), with one learned a per channel, or one for all.

    An a that is NaN or infinite makes NaN of values above 0 too.
    """

    channel_shared: bool = False

    pointwise: ClassVar[bool] = True
    message: ClassVar[str] = "prelu_param"
    weight_names: ClassVar[tuple[str, ...]] = ("slope",)

    def shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        """As the bottom."""
        if len(bottoms[0]) < 2:
            raise LayerFault(f"the bottom has shape {times(bottoms[0])}; PReLU needs at least two axes (N, C)")
        return (bottoms[0],)

    def weights(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        """(C,); a blob without axes where the channels share it."""
        return (() if self.channel_shared else (bottoms[0][1],),)

    def torch(self, bottoms: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """By torch's own."""
        x, slope = bottoms[0], weights[0]
        if not self.sound:
            return (_bent(x, slope.reshape(-1, *(1,) * (x.ndim - 2))),)
        return (F.prelu(x, slope),)

    def onnx(self, emit: Emitter, bottoms: Sequence[str], weights: Sequence[str]) -> tuple[str, ...]:
        """PRelu, with the slopes lined up with the channels."""
        x, slope = bottoms[0], weights[0]
        space = len(emit.shape(x)) - 2
        if emit.shape(slope) and space:
            slope = emit("Unsqueeze", [slope, emit.constant(int64(*range(1, space + 1)))])
        return (emit("PRelu", [x, slope]) if self.sound else _emit_bent(emit, x, slope),)


@dataclass(frozen=True)
class ELU(Layer):
    """Caffe's ELU (elu_layer.cpp): max(x, 0) + alpha * (exp(min(x, 0)) - 1)."""

    alpha: float = 1.0

    pointwise: ClassVar[bool] = True
    message: ClassVar[str] = "elu_param"

    def torch(self, bottoms: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """As written above: torch's own is better near 0 than Caffe, and than onnxruntime, are in float32."""
        x = bottoms[0]
        return (torch.clamp(x, min=0) + self.alpha * (torch.exp(torch.clamp(x, max=0)) - 1),)

    def onnx(self, emit: Emitter, bottoms: Sequence[str], weights: Sequence[str]) -> tuple[str, ...]:
        """Elu."""
        return (emit("Elu", [bottoms[0]], alpha=self.alpha),)


@dataclass(frozen=True)
class Sigmoid(Layer):
    """Caffe's Sigmoid (sigmoid_layer.cpp); it saturates, it does not overflow."""

    pointwise: ClassVar[bool] = True
    message: ClassVar[str] = "sigmoid_param"
    keeps_class_order: ClassVar[bool] = True

    def resolution(self, x: Tensor) -> Tensor | float:
        """Of values up to 1: onnxruntime takes a rational function."""
        return ULP

    def torch(self, bottoms: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """By torch's own."""
        return (torch.sigmoid(bottoms[0]),)

    def onnx(self, emit: Emitter, bottoms: Sequence[str], weights: Sequence[str]) -> tuple[str, ...]:
        """Sigmoid."""
        return (emit("Sigmoid", [bottoms[0]]),)


@dataclass(frozen=True)
class TanH(Layer):
    """Caffe's TanH (tanh_layer.cpp)."""

    pointwise: ClassVar[bool] = True
    message: ClassVar[str] = "tanh_param"

    def resolution(self, x: Tensor) -> Tensor | float:
        """Of values up to 1: onnxruntime takes a rational function."""
        return ULP

    def torch(self, bottoms: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """By torch's own."""
        return (torch.tanh(bottoms[0]),)

    def onnx(self, emit: Emitter, bottoms: Sequence[str], weights: Sequence[str]) -> tuple[str, ...]:
        """Tanh."""
        return (emit("Tanh", [bottoms[0]]),)


@dataclass(frozen=True)
class BNLL(Layer):
    """Caffe's BNLL (bnll_layer.cpp), binomial normal log likelihood: log(1 + exp(x)), without overflow."""

    pointwise: ClassVar[bool] = True

    def torch(self, bottoms: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """By logaddexp: torch's softplus becomes linear too early for float64."""
        return (torch.logaddexp(bottoms[0], torch.zeros_like(bottoms[0])),)

    def onnx(self, emit: Emitter, bottoms: Sequence[str], weights: Sequence[str]) -> tuple[str, ...]:
        """Softplus."""
        return (emit("Softplus", [bottoms[0]]),)


@dataclass(frozen=True)
class Swish(Layer):
    """Caffe's Swish (swish_layer.cpp): x * sigmoid(beta * x)."""

    beta: float = 1.0

    pointwise: ClassVar[bool] = True
    message: ClassVar[str] = "swish_param"

    def resolution(self, x: Tensor) -> Tensor | float:
        """That of the sigmoid, multiplied as it is."""
        return ULP * x.abs()

    def torch(self, bottoms: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """As written above."""
        return (bottoms[0] * torch.sigmoid(self.beta * bottoms[0]),)

    def onnx(self, emit: Emitter, bottoms: Sequence[str], weights: Sequence[str]) -> tuple[str, ...]:
        """Mul, Sigmoid, Mul: Swish is an operator from opset 24 on only."""
        x = bottoms[0]
        return (emit("Mul", [x, emit("Sigmoid", [scaled(emit, x, self.beta)])]),)


@dataclass(frozen=True)
class Clip(Layer):
    """Caffe's Clip (clip_layer.cpp): max(min, min(x, max)), by comparisons that make `min` of NaN.

    In that order: where `min` is above `max`, everything becomes `min`.
    """

    min: float
    max: float

    pointwise: ClassVar[bool] = True
    message: ClassVar[str] = "clip_param"

    def caution(self) -> str:
        """Limits that are not in order."""
        if self.min <= self.max:
            return ""
        return (
            f"clip_param has min {self.min:g} above max {self.max:g}: as in Caffe every value becomes {self.min:g}. Is "
            "that meant? Layers"
        )

    def torch(self, bottoms: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The upper limit first."""
        x = torch.clamp(torch.clamp(bottoms[0], max=self.max), min=self.min)
        return (x if self.sound else torch.where(torch.isnan(x), self.min, x),)

    def onnx(self, emit: Emitter, bottoms: Sequence[str], weights: Sequence[str]) -> tuple[str, ...]:
        """Clip, twice where the order counts; then IsNaN and Where, where there may be NaN."""
        x, low, high = bottoms[0], scalar(emit, self.min), scalar(emit, self.max)
        y = emit("Clip", [emit("Clip", [x, "", high]), low]) if self.min > self.max else emit("Clip", [x, low, high])
        return (y if self.sound else emit("Where", [emit("IsNaN", [x]), low, y]),)


@dataclass(frozen=True)
class Threshold(Layer):
    """Caffe's Threshold (threshold_layer.cpp): 1 where x > threshold, else 0."""

    threshold: float = 0.0

    message: ClassVar[str] = "threshold_param"

    def jumps(self) -> tuple[int, ...]:
        """At the threshold."""
        return (0,)

    def torch(self, bottoms: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """By comparison."""
        return ((bottoms[0] > self.threshold).to(bottoms[0].dtype),)

    def onnx(self, emit: Emitter, bottoms: Sequence[str], weights: Sequence[str]) -> tuple[str, ...]:
        """Greater and Cast."""
        above = emit("Greater", [bottoms[0], scalar(emit, self.threshold)])
        return (emit("Cast", [above], to=TensorProto.FLOAT),)
