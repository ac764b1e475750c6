"""Layers that normalise and that only forks of Caffe have: BN, Normalize, L2Norm, NormL2."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from .base import Array, Emitter, Layer, LayerFault, Shape, int64, reduced, scalar, times
from .normalise import EPS

TINY = float(np.float32(1e-10))
NORM_EPS = float(np.float32(1e-7))  # NormL2's


@dataclass(frozen=True)
class _Learned(Layer):
    """What BN and CuDNNBatchNorm share: (x - mean) / sqrt(variance + eps) * scale + shift, from four blobs.

    The file holds the statistics themselves, not sums as BatchNorm's.
    """

    eps: float = EPS

    weight_names: ClassVar[tuple[str, ...]] = ("scale", "shift", "mean", "variance")
    statistics: ClassVar[frozenset[str]] = frozenset({"mean", "variance"})

    def shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        """As the bottom."""
        if len(bottoms[0]) < 2:
            raise LayerFault(f"the bottom has shape {times(bottoms[0])}; its type needs at least two axes (N, C)")
        return (bottoms[0],)

    def weights(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        """(1, C, 1, 1) each: scale, shift, mean, variance."""
        return ((1, bottoms[0][1], 1, 1),) * 4

    def prepare(self, blobs: Sequence[Array]) -> tuple[Array, ...]:
        """(C,) each."""
        return tuple(blob.reshape(-1) for blob in blobs)

    def torch(self, bottoms: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Subtract, divide, multiply, add; without statistics only the last two."""
        x = bottoms[0]
        scale, shift, *statistics = (weight.reshape(-1, *(1,) * (x.ndim - 2)) for weight in weights)
        if statistics:
            mean, variance = statistics
            x = (x - mean) / torch.sqrt(variance + self.eps)
        return (x * scale + shift,)

    def onnx(self, emit: Emitter, bottoms: Sequence[str], weights: Sequence[str]) -> tuple[str, ...]:
        """BatchNormalization, or Mul and Add."""
        x = bottoms[0]
        if len(weights) == 4:
            return (emit("BatchNormalization", [x, *weights], epsilon=self.eps),)
        space = len(emit.shape(x)) - 2
        if space:
            axes = emit.constant(int64(*range(1, space + 1)))
            weights = [emit("Unsqueeze", [weight, axes]) for weight in weights]
        scale, shift = weights
        return (emit("Add", [emit("Mul", [x, scale]), shift]),)


@dataclass(frozen=True)
class BN(_Learned):
    """Batch normalisation with what is learned in one layer (bn_layer.cpp), of two lines of forks.

    Without `bn_mode` (PSPNet's line): (x - mean) / sqrt(variance + eps) * scale + shift; blobs scale, shift, mean and
    variance. With `bn_mode: INFERENCE` (SegNet's): x * scale + shift, the statistics already in the two blobs.
    """

    bn_mode: str | None = None
    momentum: float = 0.9  # of training
    frozen: bool = False  # of training

    message: ClassVar[str] = "bn_param"
    ignored: ClassVar[frozenset[str]] = Layer.ignored | {"slope_filler", "scale_filler", "shift_filler"}
    note: ClassVar[str] = (
        "without bn_mode, four blobs are scale, shift, mean and variance (PSPNet's line of forks); with bn_mode: "
        "INFERENCE, two are scale and shift (SegNet's). SegNet's default is LEARN, the statistics of each batch"
    )

    def validate(self) -> None:
        """Refuse statistics of the batch, as BatchNorm does."""
        if self.bn_mode == "LEARN":
            raise LayerFault(
                "bn_mode: LEARN normalises by the statistics of each batch, so that an image's result depends on the "
                "images beside it. Compute the statistics into the blobs, and set INFERENCE"
            )

    def weights(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        """(1, C, 1, 1) each, two or four."""
        return super().weights(bottoms)[: 2 if self.bn_mode else 4]


@dataclass(frozen=True)
class CuDNNBatchNorm(_Learned):
    """The SENet authors' (GENet, cudnn_batch_norm_layer.cu): batch normalisation with scale and shift in one layer.

    Blobs are scale, shift, mean and variance. The TEST phase uses the statistics, whatever `frozen` says.
    """

    frozen: bool = False  # of training
    momentum: float = float(np.float32(0.999))  # of training

    message: ClassVar[str] = "cudnn_batch_norm_param"
    ignored: ClassVar[frozenset[str]] = Layer.ignored | {"scale_filler"}
    note: ClassVar[str] = (
        "four blobs are scale, shift, mean and variance, as in the SENet authors' GENet; other forks keep others, or "
        "another order"
    )

    @classmethod
    def parse(cls, params: Mapping[str, Any], tops: int = 1) -> Self:
        """Parameters of the other normalisation belong to another fork's layer."""
        if "batch_norm_param" in params:
            raise LayerFault(
                "its parameters stand in batch_norm_param; GENet's layer of this type has cudnn_batch_norm_param. Is "
                "it another fork's? If it computes the same from the same blobs, rename the message"
            )
        return super().parse(params, tops)


@dataclass(frozen=True)
class Normalize(Layer):
    """SSD's Normalize (normalize_layer.cpp): x / sqrt(sum of x^2 + eps) * scale, scale learned.

    The sum goes over the whole image, or with `across_spatial: false` over the channels of each cell; there is a scale
    for all, or with `channel_shared: false` one per channel. Without `norm_param` it is the layer of face recognition
    (caffe-windows): x / sqrt(sum of x^2) over the whole image, nothing learned.
    """

    across_spatial: bool = True
    channel_shared: bool = True
    eps: float = TINY
    learned: bool = True  # not a field of the prototxt: whether it has a norm_param

    message: ClassVar[str] = "norm_param"
    weight_names: ClassVar[tuple[str, ...]] = ("scale",)
    ignored: ClassVar[frozenset[str]] = Layer.ignored | {"scale_filler"}
    note: ClassVar[str] = (
        "with norm_param, SSD's layer with its learned scale; without, x / sqrt(sum of x^2) over each image, nothing "
        "learned (caffe-windows, face recognition)"
    )

    @classmethod
    def parse(cls, params: Mapping[str, Any], tops: int = 1) -> Self:
        """Whether `norm_param` is there says which layer it is."""
        layer = super().parse(params, tops)
        return layer if cls.message in params else replace(layer, eps=0.0, learned=False)

    def shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        """As the bottom."""
        if len(bottoms[0]) < 2:
            raise LayerFault(f"the bottom has shape {times(bottoms[0])}; Normalize needs at least two axes (N, C)")
        return (bottoms[0],)

    def weights(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        """(C,); a blob without axes where the channels share it."""
        if not self.learned:
            return ()
        return (() if self.channel_shared else (bottoms[0][1],),)

    def _axes(self, rank: int) -> list[int]:
        return list(range(1, rank)) if self.across_spatial else [1]

    def torch(self, bottoms: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Divide by the norm, then multiply."""
        x = bottoms[0]
        y = x / torch.sqrt((x * x).sum(self._axes(x.ndim), keepdim=True) + self.eps)
        if not self.learned:
            return (y,)
        return (y * (weights[0] if self.channel_shared else weights[0].reshape(-1, *(1,) * (x.ndim - 2))),)

    def onnx(self, emit: Emitter, bottoms: Sequence[str], weights: Sequence[str]) -> tuple[str, ...]:
        """Mul, ReduceSum, Add, Sqrt, Div, Mul."""
        x = bottoms[0]
        rank = len(emit.shape(x))
        squares = reduced(emit, "ReduceSum", emit("Mul", [x, x]), self._axes(rank))
        y = emit("Div", [x, emit("Sqrt", [emit("Add", [squares, scalar(emit, self.eps)]) if self.eps else squares])])
        if not self.learned:
            return (y,)
        scale = weights[0]
        if not self.channel_shared and rank > 2:
            scale = emit("Unsqueeze", [scale, emit.constant(int64(*range(1, rank - 1)))])
        return (emit("Mul", [y, scale]),)


@dataclass(frozen=True)
class L2Norm(Layer):
    """x / (sqrt(sum of x^2) + eps) over each image, nothing learned (l2_norm_layer.cpp of several forks).

    With `l2_length` (caffe-dev, l2norm_layer.cpp) over the channels of each cell, to vectors of length
    sqrt(l2_length); a cell of zeros stays.
    """

    eps: float = 0.0
    l2_length: float | None = None

    message: ClassVar[str] = "l2norm_param"
    note: ClassVar[str] = (
        "x / sqrt(sum of x^2) over each image, nothing learned, as most forks have it; with l2norm_param.l2_length "
        "over the channels of each cell. A fork that takes the channels of each cell without any field (Ultinous) "
        "differs on maps of more than one cell: for it, rename the type in the prototxt and give a class for it "
        "(--layers, docs/custom_layers.md)"
    )

    def validate(self) -> None:
        """One of both forms."""
        if self.l2_length is not None and self.eps:
            raise LayerFault("both eps and l2_length are given; no fork has both")
        if self.l2_length is not None and self.l2_length <= 0:
            raise LayerFault(f"l2_length is {self.l2_length:g}; it must be positive")

    def shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        """As the bottom."""
        if len(bottoms[0]) < 2:
            raise LayerFault(f"the bottom has shape {times(bottoms[0])}; L2Norm needs at least two axes (N, C)")
        return (bottoms[0],)

    def _axes(self, rank: int) -> list[int]:
        return list(range(1, rank)) if self.l2_length is None else [1]

    def torch(self, bottoms: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Divide by the norm."""
        x = bottoms[0]
        squares = (x * x).sum(self._axes(x.ndim), keepdim=True)
        if self.l2_length is None:
            return (x / (torch.sqrt(squares) + self.eps),)
        length = torch.sqrt(squares / self.l2_length)
        return (x / torch.where(squares == 0, torch.ones_like(length), length),)

    def onnx(self, emit: Emitter, bottoms: Sequence[str], weights: Sequence[str]) -> tuple[str, ...]:
        """Mul, ReduceSum, Sqrt, Div."""
        x = bottoms[0]
        squares = reduced(emit, "ReduceSum", emit("Mul", [x, x]), self._axes(len(emit.shape(x))))
        if self.l2_length is None:
            norm = emit("Sqrt", [squares])
            return (emit("Div", [x, emit("Add", [norm, scalar(emit, self.eps)]) if self.eps else norm]),)
        length = emit("Sqrt", [emit("Div", [squares, scalar(emit, self.l2_length)])])
        empty = emit("Equal", [squares, scalar(emit, 0)])
        return (emit("Div", [x, emit("Where", [empty, scalar(emit, 1), length])]),)


@dataclass(frozen=True)
class NormL2(Layer):
    """x / sqrt(sum of x^2 + 1e-7) over each image, nothing learned (normL2_layer.cpp)."""

    in_place: ClassVar[bool] = False
    note: ClassVar[str] = "x / sqrt(sum of x^2 + 1e-7) over each image, whatever its axes"

    def shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        """As the bottom, with four axes: those that it lacks have length 1."""
        rank = len(bottoms[0])
        if not 2 <= rank <= 4:
            raise LayerFault(f"the bottom has shape {times(bottoms[0])}; NormL2 takes two to four axes")
        return ((*bottoms[0], *(1,) * (4 - rank)),)

    def torch(self, bottoms: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Divide by the norm."""
        x = bottoms[0].reshape(*bottoms[0].shape, *(1,) * (4 - bottoms[0].ndim))
        return (x / torch.sqrt((x * x).sum([1, 2, 3], keepdim=True) + NORM_EPS),)

    def onnx(self, emit: Emitter, bottoms: Sequence[str], weights: Sequence[str]) -> tuple[str, ...]:
        """Unsqueeze, Mul, ReduceSum, Add, Sqrt, Div."""
        x = bottoms[0]
        rank = len(emit.shape(x))
        if rank < 4:
            x = emit("Unsqueeze", [x, emit.constant(int64(*range(rank, 4)))])
        squares = reduced(emit, "ReduceSum", emit("Mul", [x, x]), [1, 2, 3])
        return (emit("Div", [x, emit("Sqrt", [emit("Add", [squares, scalar(emit, NORM_EPS)])])]),)
