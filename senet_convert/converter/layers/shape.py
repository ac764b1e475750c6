"""Layers that change the shape of a blob, not its values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, ClassVar

from torch import Tensor

from ...proto.netdef import MAX_AXES
from .base import Emitter, Layer, LayerFault, Shape, axis_of, int64, times


@dataclass(frozen=True)
class Reshape(Layer):
    """Caffe's Reshape (reshape_layer.cpp): replaces `num_axes` axes from `axis` on by `shape`; 0 copies, -1 infers."""

    shape: Mapping[str, Any] = field(default_factory=dict)
    axis: int = 0
    num_axes: int = -1

    message: ClassVar[str] = "reshape_param"
    moves_cells: ClassVar[bool] = True
    keeps_class_order: ClassVar[bool] = True
    in_place: ClassVar[bool] = False

    def shares(self, bottoms: int) -> bool:
        """The same memory in another shape."""
        return True

    @property
    def dims(self) -> Shape:
        """The wanted dimensions, with their 0 and -1."""
        return tuple(self.shape.get("dim", ()))

    def validate(self) -> None:
        """At most one -1, and nothing below it."""
        if len(self.dims) > MAX_AXES:
            raise LayerFault(f"a shape of {len(self.dims)} dimensions; Caffe has at most {MAX_AXES}")
        if self.dims.count(-1) > 1 or any(dim < -1 for dim in self.dims):
            raise LayerFault(f"shape {list(self.dims)}: one dimension may be -1, none smaller")

    def _range(self, rank: int) -> tuple[int, int]:
        start = self.axis if self.axis >= 0 else rank + self.axis + 1
        if not 0 <= start <= rank:
            raise LayerFault(f"axis {self.axis} is out of range for a blob of {rank} axes")
        end = rank if self.num_axes == -1 else start + self.num_axes
        if self.num_axes < -1 or end > rank:
            raise LayerFault(f"num_axes {self.num_axes} from axis {start} on goes beyond the {rank} axes of the bottom")
        return start, end

    def shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        """The same count of values in the new shape."""
        bottom = bottoms[0]
        start, end = self._range(len(bottom))
        dims = list(self.dims)
        for i, dim in enumerate(dims):
            if dim == 0:
                if start + i >= len(bottom):
                    raise LayerFault(f"dimension {i} is to be copied (0), but the bottom has shape {times(bottom)}")
                dims[i] = bottom[start + i]
        known = prod(bottom[:start]) * prod(dim for dim in dims if dim != -1) * prod(bottom[end:])
        total = prod(bottom)
        if -1 in dims:
            if known == 0 or total % known:
                raise LayerFault(
                    f"shape {list(self.dims)}: the {total} values of a {times(bottom)} bottom cannot be divided by "
                    f"{known}"
                )
            dims[dims.index(-1)] = total // known
        top = (*bottom[:start], *dims, *bottom[end:])
        if prod(top) != total:
            raise LayerFault(f"a {times(bottom)} bottom has {total} values, the wanted {times(top)} has {prod(top)}")
        return (top,)

    def torch(self, bottoms: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """By torch's reshape."""
        return (bottoms[0].reshape(self.shapes([tuple(bottoms[0].shape)])[0]),)

    def onnx(self, emit: Emitter, bottoms: Sequence[str], weights: Sequence[str]) -> tuple[str, ...]:
        """Reshape, with the batch axis copied or inferred wherever the definition allows it."""
        bottom = emit.shape(bottoms[0])
        start, end = self._range(len(bottom))
        top = list(self.shapes([bottom])[0])
        kept = start > 0 or self.dims[:1] == (0,) or (end == 0 and not self.dims)
        if kept:
            top[0] = 0  # ONNX copies the dimension, whatever the batch is
        elif self.dims and self.dims[0] == -1:
            top[0] = -1
        elif -1 in self.dims:
            top[start + self.dims.index(-1)] = -1
        return (emit("Reshape", [bottoms[0], emit.constant(int64(*top))]),)


@dataclass(frozen=True)
class Flatten(Layer):
    """Caffe's Flatten (flatten_layer.cpp): the axes from `axis` to `end_axis`, both included, become one."""

    axis: int = 1
    end_axis: int = -1

    message: ClassVar[str] = "flatten_param"
    keeps_class_order: ClassVar[bool] = True
    in_place: ClassVar[bool] = False

    def shares(self, bottoms: int) -> bool:
        """The same memory in another shape."""
        return True

    def _range(self, rank: int) -> tuple[int, int]:
        start, end = axis_of(self.axis, rank), axis_of(self.end_axis, rank, "end_axis") + 1
        if start > end:
            raise LayerFault(f"axis {self.axis} stands behind end_axis {self.end_axis} in a blob of {rank} axes")
        return start, end

    def shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        """(before..., count, behind...)."""
        bottom = bottoms[0]
        start, end = self._range(len(bottom))
        return ((*bottom[:start], prod(bottom[start:end]), *bottom[end:]),)

    def torch(self, bottoms: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """By torch's reshape."""
        return (bottoms[0].reshape(self.shapes([tuple(bottoms[0].shape)])[0]),)

    def onnx(self, emit: Emitter, bottoms: Sequence[str], weights: Sequence[str]) -> tuple[str, ...]:
        """Reshape: copies the axes before, infers the count."""
        bottom = emit.shape(bottoms[0])
        start, end = self._range(len(bottom))
        return (emit("Reshape", [bottoms[0], emit.constant(int64(*[0] * start, -1, *bottom[end:]))]),)


@dataclass(frozen=True)
class View(Layer):
    """Not a layer of Caffe: another blob in the same memory, brought up to date after an in-place layer changed it."""

    dims: Shape = ()

    def shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        """The values of the bottom in the alias's shape; only the batch axis may differ from what it was."""
        rest = prod(self.dims[1:])
        return ((prod(bottoms[0]) // rest, *self.dims[1:]) if self.dims else (),)

    def torch(self, bottoms: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """By torch's reshape."""
        return (bottoms[0].reshape(self.shapes([tuple(bottoms[0].shape)])[0]),)

    def onnx(self, emit: Emitter, bottoms: Sequence[str], weights: Sequence[str]) -> tuple[str, ...]:
        """Reshape with the first axis inferred."""
        dims = (-1, *self.dims[1:]) if self.dims else ()
        return (emit("Reshape", [bottoms[0], emit.constant(int64(*dims))]),)
