"""Convolution and InnerProduct: the layers that multiply matrices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import ClassVar, Self

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from .base import Array, Emitter, Layer, LayerFault, Shape, axis_of, int64, reduced, scalar, times

NORM_EPS = float(np.float32(1e-6))  # what forks add to the square of a row's length
MOST_AXES = 3  # spatial ones that PyTorch convolves over


@dataclass(frozen=True)
class Convolution(Layer):
    """Caffe's Convolution (conv_layer.cpp, base_conv_layer.cpp), N-d, with groups; bottoms share the weights.

    The output size is (H + 2p - (d(k - 1) + 1)) / s + 1 in C++ integers, which round towards zero. `pad_t` and so on,
    of a fork, pad each side of two spatial axes by itself; their sum stands for 2p then. Without spatial axes each
    group is an inner product, whatever kernel, stride, pad and dilation say.
    """

    num_output: int
    bias_term: bool = True
    pad: tuple[int, ...] = ()
    kernel_size: tuple[int, ...] = ()
    group: int = 1
    stride: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    pad_h: int | None = None
    pad_w: int | None = None
    kernel_h: int | None = None
    kernel_w: int | None = None
    stride_h: int | None = None
    stride_w: int | None = None
    axis: int = 1
    force_nd_im2col: bool = field(default=False)  # another way to the same numbers
    pad_t: int = 0
    pad_b: int = 0
    pad_l: int = 0
    pad_r: int = 0

    message: ClassVar[str] = "convolution_param"
    takes: ClassVar[tuple[int, int | None]] = (1, None)
    gives: ClassVar[tuple[int, int | None]] = (1, None)
    in_place: ClassVar[bool] = False
    weight_names: ClassVar[tuple[str, ...]] = ("weight", "bias")

    def validate(self) -> None:
        """Raise LayerFault for zero sizes and for both spellings of one parameter."""
        if self.num_output < 1 or self.group < 1:
            raise LayerFault(f"num_output is {self.num_output} and group {self.group}; both must be at least 1")
        if self.num_output % self.group:
            raise LayerFault(f"num_output {self.num_output} is not divisible by group {self.group}")
        if self.one_sided and (self.pad or (self.pad_h, self.pad_w) != (None, None)):
            raise LayerFault("pads are given for each side and in another way too; give one of them")

    @property
    def one_sided(self) -> bool:
        """Whether pads are given for each side by itself."""
        return any((self.pad_t, self.pad_b, self.pad_l, self.pad_r))

    def after(self, pad: Shape) -> Shape:
        """The pads behind the map: as before it, unless given by themselves."""
        return (self.pad_b, self.pad_r) if self.one_sided else pad

    def spatial(self, rank: int) -> tuple[Shape, Shape, Shape, Shape]:
        """Kernel, stride, pad before the map and dilation for `rank` spatial axes."""
        if self.one_sided and rank != 2:
            raise LayerFault(f"pad_t, pad_b, pad_l and pad_r are for two spatial axes; here are {rank}")
        kernel = self._per_axis("kernel", self.kernel_size, self.kernel_h, self.kernel_w, rank, None)
        stride = self._per_axis("stride", self.stride, self.stride_h, self.stride_w, rank, 1)
        pad = self._per_axis("pad", self.pad, self.pad_h, self.pad_w, rank, 0)
        pad = (self.pad_t, self.pad_l) if self.one_sided else pad
        dilation = self._per_axis("dilation", self.dilation, None, None, rank, 1)
        if any(value < 1 for value in (*kernel, *stride, *dilation)):
            raise LayerFault(
                f"kernel {times(kernel)}, stride {times(stride)}, dilation {times(dilation)}: all must be at least 1"
            )
        return kernel, stride, pad, dilation

    def _per_axis(
        self, name: str, values: tuple[int, ...], h: int | None, w: int | None, rank: int, default: int | None
    ) -> Shape:
        if h is not None or w is not None:
            if values:
                raise LayerFault(f"{name} is given both as one value and as {name}_h, {name}_w")
            if rank != 2:
                raise LayerFault(f"{name}_h and {name}_w are for two spatial axes; here are {rank}")
            if default != 0 and (h is None or w is None):
                raise LayerFault(f"{name}_h and {name}_w need each other: Caffe takes 0 for the one that is not given")
            return (h or 0, w or 0)
        if not values and default is not None:
            return (default,) * rank
        if len(values) == 1:
            return values * rank
        if not values and rank:
            raise LayerFault("no kernel is given: kernel_size, or kernel_h and kernel_w")
        if len(values) != rank:
            raise LayerFault(f"{len(values)} values of {name} for {rank} spatial axes")
        return tuple(values)

    def shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        """(N, C, spatial...) -> (N, num_output, spatial...)."""
        for other in bottoms[1:]:
            if other != bottoms[0]:
                raise LayerFault(f"bottoms that share weights need one shape: {times(bottoms[0])} and {times(other)}")
        axes = len(bottoms[0]) - axis_of(self.axis, len(bottoms[0])) - 1
        if axes > MOST_AXES:
            raise LayerFault(
                f"a bottom of shape {times(bottoms[0])} has {axes} spatial axes; at most {MOST_AXES} can be converted"
            )
        return tuple(self._shape(bottom) for bottom in bottoms)

    def _shape(self, bottom: Shape) -> Shape:
        axis = axis_of(self.axis, len(bottom))
        channels, space = bottom[axis], bottom[axis + 1 :]
        if channels % self.group:
            raise LayerFault(f"{channels} input channels are not divisible by group {self.group}")
        kernel, stride, pad, dilation = self.spatial(len(space))
        out = self.out(space, kernel, stride, pad, dilation)
        if any(size < 1 for size in out):
            raise LayerFault(
                f"kernel {times(kernel)}, stride {times(stride)}, pad {times(pad)}, dilation {times(dilation)} on a "
                f"{times(space)} map leaves {times(out)}: the map is too small for the kernel"
            )
        return (*bottom[:axis], self.num_output, *out)

    def out(self, space: Shape, kernel: Shape, stride: Shape, pad: Shape, dilation: Shape) -> Shape:
        """Spatial output size; int() rounds towards zero, as C++ does."""
        return tuple(
            int((size + p + end - (d * (k - 1) + 1)) / s) + 1
            for size, k, s, p, end, d in zip(space, kernel, stride, pad, self.after(pad), dilation, strict=True)
        )

    def grid(self, bottom: Shape) -> tuple[tuple[float, float], tuple[float, float]]:
        """A window's middle cell is the top's."""
        h, w = ((1 / s, (p - d * (k - 1) / 2) / s) for k, s, p, d in zip(*self.spatial(len(bottom) - 2), strict=True))
        return h, w

    def weights(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        """(num_output, C / group, kernel...) and (num_output,)."""
        axis = axis_of(self.axis, len(bottoms[0]))
        kernel = self.spatial(len(bottoms[0]) - axis - 1)[0]
        weight = (self.num_output, bottoms[0][axis] // self.group, *kernel)
        return (weight, (self.num_output,)) if self.bias_term else (weight,)

    def overhang(self, space: Shape) -> Shape:
        """Zeros to add after the map on each axis, beyond the pads: only where the kernel reaches over both."""
        kernel, _, pad, dilation = self.spatial(len(space))
        return tuple(
            max(0, d * (k - 1) + 1 - size - p - end)
            for size, k, p, end, d in zip(space, kernel, pad, self.after(pad), dilation, strict=True)
        )

    @property
    def over_one_cell(self) -> Self:
        """Of a layer without spatial axes: the same over one axis of length 1, which is what engines know."""
        return replace(self, kernel_size=(1,), stride=(), pad=(), dilation=())

    def outputs(self, weight: Shape) -> int | None:
        """The first axis."""
        return weight[0]

    def class_axis(self, weight: Shape) -> int | None:
        """The first axis; in groups, rows are not free to move."""
        return 0 if self.group == 1 else None

    def torch(self, bottoms: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """By torch's own convolution."""
        rank = weights[0].ndim - 2
        if not rank:
            cells = self.over_one_cell.torch([x[..., None] for x in bottoms], [weights[0][..., None], *weights[1:]])
            return tuple(y[..., 0] for y in cells)
        convolve = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[rank]
        _, stride, pad, dilation = self.spatial(rank)
        bias = weights[1] if self.bias_term else None
        tops = []
        for x in bottoms:
            over = self.overhang(tuple(x.shape[-rank:]))
            before = self.one_sided or not self.sound  # torch pads both sides alike, and may skip what it pads
            even = (0,) * rank if before else pad
            if any(over) or before:
                ends = [(p - e, p_end + n - e) for p, p_end, e, n in zip(pad, self.after(pad), even, over, strict=True)]
                x = F.pad(x, [n for sides in reversed(ends) for n in sides])
            flat = x.reshape(-1, *x.shape[-rank - 1 :])
            y = convolve(flat, weights[0], bias, list(stride), list(even), list(dilation), self.group)
            tops.append(y.reshape(*x.shape[: -rank - 1], *y.shape[1:]))
        return tuple(tops)

    def onnx(self, emit: Emitter, bottoms: Sequence[str], weights: Sequence[str]) -> tuple[str, ...]:
        """Conv."""
        bottom = emit.shape(bottoms[0])
        space = bottom[axis_of(self.axis, len(bottom)) + 1 :]
        layer, operands = self._for_engine(emit, weights, len(space))
        kernel, stride, pad, dilation = layer.spatial(len(space) or 1)
        ends = [p + extra for p, extra in zip(self.after(pad), layer.overhang(space or (1,)), strict=True)]
        attributes = {"kernel_shape": list(kernel), "strides": list(stride), "dilations": list(dilation)}
        poison = None if self.sound or not space else self._poison(emit.array(weights[0]), space)
        tops = []
        for x in bottoms:
            flat = self.as_images(emit, x, bottom)
            y = emit("Conv", [flat, *operands], pads=[*pad, *ends], group=self.group, **attributes)
            if poison is not None:
                y = emit("Add", [y, emit.constant(poison)])
            tops.append(self.as_images(emit, y, self._shape(bottom), back=True))
        return tuple(tops)

    def _for_engine(self, emit: Emitter, weights: Sequence[str], axes: int) -> tuple[Self, Sequence[str]]:
        """The layer and its weights as ONNX wants them: with a spatial axis at least."""
        if axes:
            return self, weights
        return self.over_one_cell, [emit("Unsqueeze", [weights[0], emit.constant(int64(2))]), *weights[1:]]

    def as_images(self, emit: Emitter, value: str, shape: Shape, back: bool = False) -> str:
        """What stands before the channels as one axis, and behind them one cell where there is no spatial axis, as ONNX
        wants it; `back`: as the axes of `shape` again.
        """
        axis = axis_of(self.axis, len(shape))
        if axis == 1 and len(shape) > 2:
            return value
        leading = (-1, *shape[1:axis]) if axis else ()
        dims = (*leading, *shape[axis:]) if back else (-1, *shape[axis:], *(() if shape[axis + 1 :] else (1,)))
        return emit("Reshape", [value, emit.constant(int64(*dims))])

    def _poison(self, weight: Array, space: Shape) -> Array | None:
        """(num_output, spatial...) of the top, NaN where a weight that is not finite meets padding, else 0: Caffe
        multiplies the two, where runtimes skip padding. None where they never meet.
        """
        broken: Array = np.any(~np.isfinite(weight), axis=1)  # (num_output, kernel...)
        kernel, stride, pad, dilation = self.spatial(len(space))
        out = self.out(space, kernel, stride, pad, dilation)
        met = np.zeros((self.num_output, *out), bool)
        for cell in np.argwhere(broken.any(axis=0)):
            reached = [
                np.arange(o) * s - p + k * d for o, s, p, k, d in zip(out, stride, pad, cell, dilation, strict=True)
            ]
            inside = np.ix_(*((at >= 0) & (at < size) for at, size in zip(reached, space, strict=True)))
            outside = np.ones(out, bool)
            outside[inside] = False
            met |= np.multiply.outer(broken[(slice(None), *cell)], outside)
        return np.where(met, np.float32(np.nan), np.float32(0)) if met.any() else None

    def macs(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        """Output values times the weights that each of them meets."""
        weight = self.weights(bottoms)[0]
        return sum(prod(top) for top in tops) * prod(weight[1:])


@dataclass(frozen=True)
class InnerProduct(Layer):
    """Caffe's InnerProduct (inner_product_layer.cpp): everything from `axis` on is one vector of K values.

    With `normalize`, of forks for face recognition (ArcFace, NormFace), each row of the weight is divided by its length
    first: by sqrt(sum of squares + 1e-6).
    """

    num_output: int
    bias_term: bool = True
    axis: int = 1
    transpose: bool = False
    normalize: bool = False

    message: ClassVar[str] = "inner_product_param"
    in_place: ClassVar[bool] = False
    weight_names: ClassVar[tuple[str, ...]] = ("weight", "bias")

    def validate(self) -> None:
        """At least one output."""
        if self.num_output < 1:
            raise LayerFault(f"num_output is {self.num_output}; it must be at least 1")
        if self.normalize and self.transpose:
            raise LayerFault("normalize with transpose: the forks take rows of a weight that is stored in columns")

    def shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        """(leading..., K) -> (leading..., num_output)."""
        axis = axis_of(self.axis, len(bottoms[0]))
        return ((*bottoms[0][:axis], self.num_output),)

    def weights(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        """(num_output, K), or (K, num_output) with `transpose`; and (num_output,)."""
        k = prod(bottoms[0][axis_of(self.axis, len(bottoms[0])) :])
        weight = (k, self.num_output) if self.transpose else (self.num_output, k)
        return (weight, (self.num_output,)) if self.bias_term else (weight,)

    def outputs(self, weight: Shape) -> int | None:
        """The first axis, transposed the second."""
        return weight[1 if self.transpose else 0]

    def class_axis(self, weight: Shape) -> int | None:
        """The first axis, of a transposed matrix the second."""
        return 1 if self.transpose and len(weight) == 2 else 0

    def torch(self, bottoms: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """By torch's linear."""
        weight = weights[0].T if self.transpose else weights[0]
        if self.normalize:
            weight = weight / torch.sqrt((weight * weight).sum(1, keepdim=True) + NORM_EPS)
        flat = bottoms[0].flatten(axis_of(self.axis, bottoms[0].ndim))
        return (F.linear(flat, weight, weights[1] if self.bias_term else None),)

    def onnx(self, emit: Emitter, bottoms: Sequence[str], weights: Sequence[str]) -> tuple[str, ...]:
        """Flatten and Gemm where the vector begins at axis 1; Reshape, MatMul and Add elsewhere."""
        x = bottoms[0]
        if self.normalize:
            squares = reduced(emit, "ReduceSum", emit("Mul", [weights[0], weights[0]]), [1])
            length = emit("Sqrt", [emit("Add", [squares, scalar(emit, NORM_EPS)])])
            weights = [emit("Div", [weights[0], length]), *weights[1:]]
        axis = axis_of(self.axis, len(emit.shape(x)))
        if axis == 1:
            flat = emit("Flatten", [x], axis=1) if len(emit.shape(x)) != 2 else x
            return (emit("Gemm", [flat, *weights], transB=int(not self.transpose)),)
        k = prod(emit.shape(x)[axis:])
        flat = emit("Reshape", [x, emit.constant(int64(*[0] * axis, k))])
        weight = weights[0] if self.transpose else emit("Transpose", [weights[0]], perm=[1, 0])
        y = emit("MatMul", [flat, weight])
        return (emit("Add", [y, weights[1]]) if self.bias_term else y,)

    def macs(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        """Output values times K."""
        k = prod(bottoms[0][axis_of(self.axis, len(bottoms[0])) :])
        return prod(tops[0]) * k
