"""Convolution and InnerProduct: the layers that multiply matrices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from typing import ClassVar

import numpy as np
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from .base import Array, Emitter, Layer, LayerFault, Shape, axis_of, int64, times


@dataclass(frozen=True)
class Convolution(Layer):
    """Caffe's Convolution (conv_layer.cpp, base_conv_layer.cpp), N-d, with groups; bottoms share the weights.

    The output size is (H + 2p - (d(k - 1) + 1)) / s + 1 in C++ integers, which round towards zero. `pad_t` and so on,
    of a fork, pad each side of two spatial axes by itself; their sum stands for 2p then.
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
        if min(kernel) < 1 or min(stride) < 1 or min(dilation) < 1:
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
            if rank != 2 or (default is None and (h is None or w is None)):
                raise LayerFault(f"{name}_h and {name}_w need each other and two spatial axes; here are {rank}")
            return (h if h is not None else default or 0, w if w is not None else default or 0)
        if not values and default is not None:
            return (default,) * rank
        if len(values) == 1:
            return values * rank
        if len(values) != rank:
            raise LayerFault(f"{len(values)} values of {name} for {rank} spatial axes")
        return tuple(values)

    def shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        """(N, C, spatial...) -> (N, num_output, spatial...)."""
        for other in bottoms[1:]:
            if other != bottoms[0]:
                raise LayerFault(f"bottoms that share weights need one shape: {times(bottoms[0])} and {times(other)}")
        return tuple(self._shape(bottom) for bottom in bottoms)

    def _shape(self, bottom: Shape) -> Shape:
        axis = axis_of(self.axis, len(bottom))
        channels, space = bottom[axis], bottom[axis + 1 :]
        if channels % self.group:
            raise LayerFault(f"{channels} input channels are not divisible by group {self.group}")
        if not space:
            raise LayerFault(f"a bottom of shape {times(bottom)} has no spatial axes after axis {axis}")
        kernel, stride, pad, dilation = self.spatial(len(space))
        out = self.out(space, kernel, stride, pad, dilation)
        if min(out) < 1:
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

    def torch(self, bottoms: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """By torch's own convolution."""
        rank = weights[0].ndim - 2
        convolve = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[rank]
        _, stride, pad, dilation = self.spatial(rank)
        bias = weights[1] if self.bias_term else None
        tops = []
        for x in bottoms:
            over = self.overhang(tuple(x.shape[-rank:]))
            even = (0,) * rank if self.one_sided else pad  # torch pads both sides alike; the rest is done before
            if any(over) or self.one_sided:
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
        kernel, stride, pad, dilation = self.spatial(len(space))
        ends = [p + extra for p, extra in zip(self.after(pad), self.overhang(space), strict=True)]
        attributes = {"kernel_shape": list(kernel), "strides": list(stride), "dilations": list(dilation)}
        poison = None if emit.finite(weights[0]) else self._poison(emit.array(weights[0]))
        tops = []
        for x in bottoms:
            flat = self.as_images(emit, x, bottom)
            y = emit("Conv", [flat, *weights], pads=[*pad, *ends], group=self.group, **attributes)
            if poison is not None:
                y = emit("Add", [y, emit.constant(poison)])
            tops.append(self.as_images(emit, y, self._shape(bottom), back=True))
        return tuple(tops)

    def as_images(self, emit: Emitter, value: str, shape: Shape, back: bool = False) -> str:
        """What stands before the channels as one axis, as ONNX wants it; `back`: as the axes of `shape` again."""
        axis = axis_of(self.axis, len(shape))
        if axis == 1:
            return value
        leading = (-1, *shape[1:axis]) if axis else ()
        return emit("Reshape", [value, emit.constant(int64(*(leading if back else (-1,)), *shape[axis:]))])

    @staticmethod
    def _poison(weight: Array) -> Array | None:
        """NaN for the channels whose weights hold one: Caffe multiplies it by padding too, where runtimes skip that."""
        channels = np.isnan(weight.reshape(len(weight), -1)).any(axis=1)
        if not channels.any():
            return None
        return np.where(channels, np.float32(np.nan), np.float32(0)).reshape(-1, *(1,) * (weight.ndim - 2))

    def macs(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        """Output values times the weights that each of them meets."""
        weight = self.weights(bottoms)[0]
        return sum(prod(top) for top in tops) * prod(weight[1:])


@dataclass(frozen=True)
class InnerProduct(Layer):
    """Caffe's InnerProduct (inner_product_layer.cpp): everything from `axis` on is one vector of K values."""

    num_output: int
    bias_term: bool = True
    axis: int = 1
    transpose: bool = False

    message: ClassVar[str] = "inner_product_param"
    in_place: ClassVar[bool] = False
    weight_names: ClassVar[tuple[str, ...]] = ("weight", "bias")

    def shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        """(leading..., K) -> (leading..., num_output)."""
        axis = axis_of(self.axis, len(bottoms[0]))
        return ((*bottoms[0][:axis], self.num_output),)

    def weights(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        """(num_output, K), or (K, num_output) with `transpose`; and (num_output,)."""
        k = prod(bottoms[0][axis_of(self.axis, len(bottoms[0])) :])
        weight = (k, self.num_output) if self.transpose else (self.num_output, k)
        return (weight, (self.num_output,)) if self.bias_term else (weight,)

    def torch(self, bottoms: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """By torch's linear."""
        weight = weights[0].T if self.transpose else weights[0]
        flat = bottoms[0].flatten(axis_of(self.axis, bottoms[0].ndim))
        return (F.linear(flat, weight, weights[1] if self.bias_term else None),)

    def onnx(self, emit: Emitter, bottoms: Sequence[str], weights: Sequence[str]) -> tuple[str, ...]:
        """Flatten and Gemm where the vector begins at axis 1; Reshape, MatMul and Add elsewhere."""
        x = bottoms[0]
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
