"""Layers that work value by value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from .base import Emitter, Layer


@dataclass(frozen=True)
class ReLU(Layer):
    """Caffe's ReLU (relu_layer.cpp): max(x, 0) + negative_slope * min(x, 0)."""

    negative_slope: float = 0.0

    message: ClassVar[str] = "relu_param"

    def torch(self, bottoms: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """By torch's own."""
        x = bottoms[0]
        return (F.leaky_relu(x, self.negative_slope) if self.negative_slope else F.relu(x),)

    def onnx(self, emit: Emitter, bottoms: Sequence[str], weights: Sequence[str]) -> tuple[str, ...]:
        """Relu, or LeakyRelu."""
        if self.negative_slope:
            return (emit("LeakyRelu", [bottoms[0]], alpha=self.negative_slope),)
        return (emit("Relu", [bottoms[0]]),)


@dataclass(frozen=True)
class Sigmoid(Layer):
    """Caffe's Sigmoid (sigmoid_layer.cpp); it saturates, it does not overflow."""

    message: ClassVar[str] = "sigmoid_param"

    def torch(self, bottoms: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """By torch's own."""
        return (torch.sigmoid(bottoms[0]),)

    def onnx(self, emit: Emitter, bottoms: Sequence[str], weights: Sequence[str]) -> tuple[str, ...]:
        """Sigmoid."""
        return (emit("Sigmoid", [bottoms[0]]),)
