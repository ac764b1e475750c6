"""BatchNorm and Softmax: the layers that normalise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from .base import Array, Emitter, Layer, LayerFault, Shape, axis_of

EPS = float(np.float32(1e-5))


@dataclass(frozen=True)
class BatchNorm(Layer):
    """Caffe's BatchNorm (batch_norm_layer.cpp): (x - mean) / sqrt(variance + eps), nothing learned.

    The file holds sums: blobs 0 and 1 are to be multiplied by 1 / blob 2, or by 0 when blob 2 is 0.
    In the TEST phase `use_global_stats` is true unless the file says otherwise.
    """

    use_global_stats: bool = True
    moving_average_fraction: float = 0.999  # of training
    eps: float = EPS

    message: ClassVar[str] = "batch_norm_param"
    weight_names: ClassVar[tuple[str, ...]] = ("mean", "variance")
    statistics: ClassVar[frozenset[str]] = frozenset({"mean", "variance"})

    def validate(self) -> None:
        """Refuse statistics of the batch: what such a net answers for an image depends on the images beside it."""
        if not self.use_global_stats:
            raise LayerFault(
                "use_global_stats: false normalises by the statistics of each batch, so that an image's result depends "
                "on the images beside it. Set it to true in the prototxt to use the trained statistics"
            )

    def weights(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        """(C,), (C,), (1,): mean, variance and the factor that both are to be divided by."""
        channels = bottoms[0][1] if len(bottoms[0]) > 1 else 1
        return ((channels,), (channels,), (1,))

    def prepare(self, blobs: Sequence[Array]) -> tuple[Array, ...]:
        """Mean and variance in float32, multiplied as Caffe does."""
        factor = np.float32(blobs[2][0])
        scale = np.float32(0) if factor == 0 else np.float32(1) / factor
        return blobs[0] * scale, blobs[1] * scale

    def torch(self, bottoms: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """In Caffe's order: subtract, then divide by the root."""
        x = bottoms[0]
        shape = (-1,) + (1,) * (x.ndim - 2)
        mean, variance = (weight.reshape(shape) for weight in weights)
        return ((x - mean) / torch.sqrt(variance + self.eps),)

    def onnx(self, emit: Emitter, bottoms: Sequence[str], weights: Sequence[str]) -> tuple[str, ...]:
        """BatchNormalization with scale 1 and shift 0."""
        channels = emit.shape(weights[0])[0]
        one = emit.constant(np.ones(channels, np.float32))
        zero = emit.constant(np.zeros(channels, np.float32))
        return (emit("BatchNormalization", [bottoms[0], one, zero, *weights], epsilon=self.eps),)


@dataclass(frozen=True)
class Softmax(Layer):
    """Caffe's Softmax (softmax_layer.cpp): the maximum is subtracted first, so it never overflows."""

    axis: int = 1

    message: ClassVar[str] = "softmax_param"

    def shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        """As the bottom."""
        axis_of(self.axis, len(bottoms[0]))
        return (bottoms[0],)

    def torch(self, bottoms: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """By torch's own softmax."""
        return (torch.softmax(bottoms[0], self.axis),)

    def onnx(self, emit: Emitter, bottoms: Sequence[str], weights: Sequence[str]) -> tuple[str, ...]:
        """Softmax."""
        return (emit("Softmax", [bottoms[0]], axis=axis_of(self.axis, len(emit.shape(bottoms[0])))),)
