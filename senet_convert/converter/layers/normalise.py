"""BatchNorm, LRN, MVN and Softmax: the layers that normalise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from .base import Array, Emitter, Layer, LayerFault, Shape, axis_of, int64, reduced, scalar, scaled, times

EPS = float(np.float32(1e-5))
OF_THE_BATCH = (
    "use_global_stats: false normalises by the statistics of each batch, so that an image's result depends on the "
    "images beside it. Set it to true in the prototxt to use the trained statistics"
)


@dataclass(frozen=True)
class BatchNorm(Layer):
    """Caffe's BatchNorm (batch_norm_layer.cpp): (x - mean) / sqrt(variance + eps), nothing learned.

    The file holds sums: blobs 0 and 1 are to be multiplied by 1 / blob 2, or by 0 when blob 2 is 0.
    In the TEST phase `use_global_stats` is true unless the file says otherwise.

    With `scale_bias` it is NVIDIA's (batch_norm_layer.cpp of its fork): (x - mean) / sqrt(variance + eps) * scale +
    bias, from five blobs: mean, variance, a correction that inference does not use, scale and bias. Nothing is divided
    by the correction, `eps` is at least 1e-5, and the TEST phase uses the statistics in any case. A filler for scale or
    bias switches `scale_bias` on.
    """

    use_global_stats: bool = True
    moving_average_fraction: float = 0.999  # of training
    eps: float = EPS
    scale_bias: bool = False

    message: ClassVar[str] = "batch_norm_param"
    ignored: ClassVar[frozenset[str]] = Layer.ignored | {"scale_filler"}
    weight_names: ClassVar[tuple[str, ...]] = ("mean", "variance", "scale", "bias")
    statistics: ClassVar[frozenset[str]] = frozenset({"mean", "variance"})

    @classmethod
    def parse(cls, params: Mapping[str, Any], tops: int = 1) -> Self:
        """A filler says that there is something to fill."""
        given = params.get(cls.message, {})
        if "scale_filler" in given or "bias_filler" in given:
            params = {**params, cls.message: {**given, "scale_bias": True}}
        return super().parse(params, tops)

    def validate(self) -> None:
        """Refuse statistics of the batch: what such a net answers for an image depends on the images beside it."""
        if not self.use_global_stats and not self.scale_bias:
            raise LayerFault(OF_THE_BATCH)

    def shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        """As the bottom, whose second axis holds the channels."""
        if len(bottoms[0]) < 2:
            raise LayerFault(f"the bottom has shape {times(bottoms[0])}; BatchNorm needs two axes (N, C, ...) or more")
        return (bottoms[0],)

    def weights(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        """(C,), (C,), (1,): mean, variance and the factor that both are to be divided by; then scale and bias."""
        channels = bottoms[0][1]
        return ((channels,), (channels,), (1,), *((channels,),) * (2 * self.scale_bias))

    def names(self, count: int) -> tuple[str, ...]:
        """Blob 2 is no array of its own."""
        return self.weight_names[: 4 if self.scale_bias else 2]

    def is_learned(self, number: int, count: int) -> bool:
        """Those behind the factor."""
        return number > 2

    def alike(self, have: Shape, need: Shape) -> bool:
        """NVIDIA's fork saves 1xCx1x1, and C."""
        return self.scale_bias and tuple(n for n in have if n != 1) == tuple(n for n in need if n != 1)

    def cause(self, have: Sequence[Shape]) -> str:
        """NVIDIA's blobs under a prototxt that does not say so."""
        if not self.scale_bias and len(have) == 5:
            return (
                ". They were saved by NVIDIA Caffe, whose BatchNorm scales and shifts as well (mean, variance, "
                "correction, scale, bias): write scale_bias: true into batch_norm_param, and take out a Scale layer "
                "behind it that the original prototxt does not have"
            )
        if not self.scale_bias and len(have) == 3 and all(len(shape) == 4 for shape in have[:2]):
            return (
                ". They were saved by NVIDIA Caffe, which divides by no third blob: save mean and variance with the "
                "shape C, and a third blob of 1"
            )
        return ""

    def doubt(self, blobs: Sequence[Array]) -> str:
        """A factor of 0: nothing has been summed up yet."""
        if blobs[2][0] != 0 or self.scale_bias:
            return ""
        return (
            "blob 2, which mean and variance are divided by, is 0: Caffe takes both as 0 then. Was it saved before any "
            "training? Layers"
        )

    def prepare(self, blobs: Sequence[Array]) -> tuple[Array, ...]:
        """Mean and variance in float32, multiplied as Caffe does; NVIDIA's as they are."""
        if self.scale_bias:
            return (*blobs[:2], *blobs[3:])
        factor = np.float32(blobs[2][0])
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite has its own warning
            scale = np.float32(0) if factor == 0 else np.float32(1) / factor
            return blobs[0] * scale, blobs[1] * scale

    def to_blobs(self, arrays: Sequence[Array]) -> tuple[Array, ...]:
        """Mean and variance as they are, to be divided by a factor of 1."""
        return (*arrays[:2], np.ones(1, "<f4"), *arrays[2:])

    @property
    def _eps(self) -> float:
        return max(self.eps, EPS) if self.scale_bias else self.eps

    def torch(self, bottoms: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """In Caffe's order: subtract, then divide by the root."""
        x = bottoms[0]
        shape = (-1,) + (1,) * (x.ndim - 2)
        mean, variance, *learned = (weight.reshape(shape) for weight in weights)
        y = (x - mean) / torch.sqrt(variance + self._eps)
        return (y * learned[0] + learned[1] if learned else y,)

    def onnx(self, emit: Emitter, bottoms: Sequence[str], weights: Sequence[str]) -> tuple[str, ...]:
        """BatchNormalization, with scale 1 and shift 0 where none is learned."""
        if self.scale_bias:
            mean, variance, scale, bias = weights
            return (emit("BatchNormalization", [bottoms[0], scale, bias, mean, variance], epsilon=self._eps),)
        channels = emit.shape(weights[0])[0]
        one = emit.constant(np.ones(channels, np.float32))
        zero = emit.constant(np.zeros(channels, np.float32))
        return (emit("BatchNormalization", [bottoms[0], one, zero, *weights], epsilon=self.eps),)


@dataclass(frozen=True)
class Softmax(Layer):
    """Caffe's Softmax (softmax_layer.cpp): the maximum is subtracted first, so it never overflows."""

    axis: int = 1

    message: ClassVar[str] = "softmax_param"
    keeps_class_order: ClassVar[bool] = True

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


@dataclass(frozen=True)
class LRN(Layer):
    """Caffe's LRN (lrn_layer.cpp), local response normalisation.

    ACROSS_CHANNELS: x * (k + alpha / n * S) ^ -beta, S the sum of x^2 over the n channels around x.
    WITHIN_CHANNEL: x * (1 + alpha * A) ^ -beta, A the mean of x^2 over the n x n cells around x, where cells outside
    the map count as 0; k is passed over. Caffe makes S from that of the channel before, adding and subtracting: what is
    NaN or infinite leaves NaN in all channels behind it. Across channels it cannot work in place: it would overwrite
    what it still has to multiply with.
    """

    local_size: int = 5
    alpha: float = 1.0
    beta: float = 0.75
    norm_region: str = "ACROSS_CHANNELS"
    k: float = 1.0

    message: ClassVar[str] = "lrn_param"

    @classmethod
    def works_in_place(cls, params: Mapping[str, Any]) -> bool:
        """Within a channel the last step is a product, value by value."""
        return bool(params.get(cls.message, {}).get("norm_region") == "WITHIN_CHANNEL")

    def validate(self) -> None:
        """Windows have a middle."""
        if self.local_size % 2 == 0:
            raise LayerFault(f"local_size is {self.local_size}; it must be odd")

    def shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        """As the bottom."""
        if len(bottoms[0]) != 4:
            raise LayerFault(f"the bottom has shape {times(bottoms[0])}; LRN needs four axes (N, C, H, W)")
        return (bottoms[0],)

    @property
    def _k(self) -> float:
        return self.k if self.norm_region == "ACROSS_CHANNELS" else 1.0

    def torch(self, bottoms: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Both by average pooling of the squares; padding counts."""
        x = bottoms[0]
        across = self.norm_region == "ACROSS_CHANNELS"
        n, p = self.local_size, (self.local_size - 1) // 2
        squares = (x * x).flatten(2).unsqueeze(1) if across else x * x  # channels as rows
        mean = F.avg_pool2d(squares, (n, 1 if across else n), 1, (p, 0 if across else p)).reshape(x.shape)
        if across and not self.sound and p + 1 < x.shape[1]:
            mean = mean + F.pad(torch.cumsum(0 * (x * x), 1), (0, 0, 0, 0, p + 1, -p - 1))
        return (x * (self._k + self.alpha * mean) ** -self.beta,)

    def onnx(self, emit: Emitter, bottoms: Sequence[str], weights: Sequence[str]) -> tuple[str, ...]:
        """Mul, AveragePool, Mul, Add, Pow, Mul. ONNX's LRN would do across channels, but onnxruntime's adds and
        subtracts along the channels, and what is left of large values hides the small ones.
        """
        x = bottoms[0]
        _, channels, height, width = emit.shape(x)
        n, p = self.local_size, (self.local_size - 1) // 2
        mean = squares = emit("Mul", [x, x])
        if self.norm_region == "ACROSS_CHANNELS":  # channels as rows
            mean = emit("Reshape", [mean, emit.constant(int64(-1, 1, channels, height * width))])
            mean = emit("AveragePool", [mean], kernel_shape=[n, 1], pads=[p, 0, p, 0], count_include_pad=1)
            mean = emit("Reshape", [mean, emit.constant(int64(-1, channels, height, width))])
            if not self.sound and p + 1 < channels:
                nothing = emit("Mul", [squares, scalar(emit, 0)])
                passed = emit("CumSum", [nothing, emit.constant(np.asarray(1, np.int64))])
                shift = emit.constant(int64(0, p + 1, 0, 0, 0, -p - 1, 0, 0))
                mean = emit("Add", [mean, emit("Pad", [passed, shift])])
        else:
            mean = emit("AveragePool", [mean], kernel_shape=[n, n], pads=[p] * 4, count_include_pad=1)
        base = emit("Add", [scaled(emit, mean, self.alpha), scalar(emit, self._k)])
        return (emit("Mul", [x, emit("Pow", [base, scalar(emit, -self.beta)])]),)


@dataclass(frozen=True)
class MVN(Layer):
    """Caffe's MVN (mvn_layer.cpp), mean-variance normalisation: (x - mean) / (deviation + eps), per image and channel.

    `across_channels` takes both over whole images; without `normalize_variance` only the mean is subtracted. The top
    always has four axes, in place too: those that the bottom lacks have length 1.
    """

    normalize_variance: bool = True
    across_channels: bool = False
    eps: float = float(np.float32(1e-9))

    message: ClassVar[str] = "mvn_param"

    def shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        """(N, C, H, W), whatever the bottom has of them."""
        rank = len(bottoms[0])
        if rank > 4:
            raise LayerFault(f"the bottom has shape {times(bottoms[0])}; MVN takes at most four axes")
        return ((*bottoms[0], *(1,) * (4 - rank)),)

    @property
    def _axes(self) -> list[int]:
        """The axes that are averaged over."""
        return [1, 2, 3] if self.across_channels else [2, 3]

    def torch(self, bottoms: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """In Caffe's order."""
        x = bottoms[0].reshape(*bottoms[0].shape, *(1,) * (4 - bottoms[0].ndim))
        axes = self._axes
        y = x - x.mean(axes, keepdim=True)
        if not self.normalize_variance:
            return (y,)
        return (y / (torch.sqrt((y * y).mean(axes, keepdim=True)) + self.eps),)

    def onnx(self, emit: Emitter, bottoms: Sequence[str], weights: Sequence[str]) -> tuple[str, ...]:
        """Unsqueeze, ReduceMean, Sub; then Mul, ReduceMean, Sqrt, Add, Div."""
        x, axes = bottoms[0], self._axes
        rank = len(emit.shape(x))
        if rank < 4:
            x = emit("Unsqueeze", [x, emit.constant(int64(*range(rank, 4)))])
        y = emit("Sub", [x, reduced(emit, "ReduceMean", x, axes)])
        if not self.normalize_variance:
            return (y,)
        deviation = emit("Sqrt", [reduced(emit, "ReduceMean", emit("Mul", [y, y]), axes)])
        return (emit("Div", [y, emit("Add", [deviation, scalar(emit, self.eps)])]),)
