"""Layers that look values up by whole numbers: Embed, BatchReindex."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from onnx import TensorProto
from torch import Tensor

from .base import Emitter, Layer, LayerFault, Shape, times


@dataclass(frozen=True)
class Embed(Layer):
    """Caffe's Embed (embed_layer.cpp): every value v of the bottom, cut to an integer, becomes row v of the weight."""

    num_output: int
    input_dim: int
    bias_term: bool = True

    message: ClassVar[str] = "embed_param"
    in_place: ClassVar[bool] = False
    weight_names: ClassVar[tuple[str, ...]] = ("weight", "bias")

    def validate(self) -> None:
        """Both sizes must be given."""
        if self.num_output < 1 or self.input_dim < 1:
            raise LayerFault(f"num_output is {self.num_output} and input_dim {self.input_dim}; both must be at least 1")

    def shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        """(...) -> (..., num_output)."""
        return ((*bottoms[0], self.num_output),)

    def index_limits(self, bottoms: Sequence[Shape]) -> Mapping[int, int]:
        """Rows of the weight."""
        return {0: self.input_dim}

    def weights(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        """(input_dim, num_output) and (num_output,)."""
        weight = (self.input_dim, self.num_output)
        return (weight, (self.num_output,)) if self.bias_term else (weight,)

    def torch(self, bottoms: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """By indexing."""
        y = weights[0][bottoms[0].long()]
        return (y + weights[1] if self.bias_term else y,)

    def onnx(self, emit: Emitter, bottoms: Sequence[str], weights: Sequence[str]) -> tuple[str, ...]:
        """Cast, Gather, Add."""
        y = emit("Gather", [weights[0], emit("Cast", [bottoms[0]], to=TensorProto.INT64)])
        return (emit("Add", [y, weights[1]]) if self.bias_term else y,)


@dataclass(frozen=True)
class BatchReindex(Layer):
    """Caffe's BatchReindex (batch_reindex_layer.cpp): image i of the top is image bottom1[i] of the first bottom."""

    takes: ClassVar[tuple[int, int | None]] = (2, 2)
    in_place: ClassVar[bool] = False

    def shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        """(N, ...) and (M,) -> (M, ...)."""
        x, order = bottoms
        if len(order) != 1 or not x:
            raise LayerFault(
                f"bottoms of shapes {times(x)} and {times(order)}; BatchReindex takes images and their numbers"
            )
        return ((*order, *x[1:]),)

    def index_limits(self, bottoms: Sequence[Shape]) -> Mapping[int, int]:
        """Images of the first bottom."""
        return {1: bottoms[0][0]}

    def torch(self, bottoms: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """By indexing."""
        return (bottoms[0][bottoms[1].long()],)

    def onnx(self, emit: Emitter, bottoms: Sequence[str], weights: Sequence[str]) -> tuple[str, ...]:
        """Cast and Gather."""
        return (emit("Gather", [bottoms[0], emit("Cast", [bottoms[1]], to=TensorProto.INT64)]),)
