"""Parameter: a learned blob as a top."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor

from .base import Emitter, Layer, LayerFault, Shape, times


@dataclass(frozen=True)
class Parameter(Layer):
    """Caffe's Parameter (parameter_layer.hpp): no bottom; the top is the learned blob, of the given shape."""

    shape: Mapping[str, Any] = field(default_factory=dict)

    message: ClassVar[str] = "parameter_param"
    takes: ClassVar[tuple[int, int | None]] = (0, 0)
    weight_names: ClassVar[tuple[str, ...]] = ("value",)

    def shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        """As given."""
        shape = tuple(self.shape.get("dim", ()))
        if any(dim < 1 for dim in shape):
            raise LayerFault(f"shape {times(shape)}; all dimensions must be at least 1")
        return (shape,)

    def weights(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        """As the top."""
        return self.shapes(bottoms)

    def torch(self, bottoms: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """A copy: the blob itself would ask for gradients where the run has none."""
        return (weights[0].clone(),)

    def onnx(self, emit: Emitter, bottoms: Sequence[str], weights: Sequence[str]) -> tuple[str, ...]:
        """The initializer itself."""
        return (weights[0],)
