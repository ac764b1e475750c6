"""Deconvolution and Im2col: Convolution's way back, and the first half of its way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from .base import Array, Emitter, LayerFault, Shape, axis_of, int64, times
from .convolution import Convolution


@dataclass(frozen=True)
class _EvenlyPadded(Convolution):
    """What takes a convolution's parameters, but for the pads of each side, which are known of convolutions only."""

    def validate(self) -> None:
        """Pads for each side are known of convolutions only."""
        super().validate()
        if self.one_sided:
            raise LayerFault("pad_t, pad_b, pad_l and pad_r are for layers of type Convolution")

    def outputs(self, weight: Shape) -> int | None:
        """None: the number of outputs is not the first axis."""
        return None

    def class_axis(self, weight: Shape) -> int | None:
        """None: no classifier."""
        return None


@dataclass(frozen=True)
class Deconvolution(_EvenlyPadded):
    """Caffe's Deconvolution (deconv_layer.cpp): Convolution with forward and backward exchanged; same parameters.

    The output size is s(H - 1) + d(k - 1) + 1 - 2p.
    """

    def grid(self, bottom: Shape) -> tuple[tuple[float, float], tuple[float, float]]:
        """The middle of what a cell becomes."""
        h, w = ((float(s), d * (k - 1) / 2 - p) for k, s, p, d in zip(*self.spatial(len(bottom) - 2), strict=True))
        return h, w

    def out(self, space: Shape, kernel: Shape, stride: Shape, pad: Shape, dilation: Shape) -> Shape:
        """Spatial output size."""
        return tuple(
            s * (size - 1) + d * (k - 1) + 1 - 2 * p
            for size, k, s, p, d in zip(space, kernel, stride, pad, dilation, strict=True)
        )

    def weights(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        """(C, num_output / group, kernel...) and (num_output,)."""
        axis = axis_of(self.axis, len(bottoms[0]))
        kernel = self.spatial(len(bottoms[0]) - axis - 1)[0]
        weight = (bottoms[0][axis], self.num_output // self.group, *kernel)
        return (weight, (self.num_output,)) if self.bias_term else (weight,)

    def torch(self, bottoms: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """By torch's own transposed convolution."""
        rank = weights[0].ndim - 2
        if not rank:
            cells = self.over_one_cell.torch([x[..., None] for x in bottoms], [weights[0][..., None], *weights[1:]])
            return tuple(y[..., 0] for y in cells)
        convolve = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}[rank]
        _, stride, pad, dilation = (list(values) for values in self.spatial(rank))
        bias = weights[1] if self.bias_term else None
        tops = []
        for x in bottoms:
            flat = x.reshape(-1, *x.shape[-rank - 1 :])
            y = convolve(flat, weights[0], bias, stride, pad, [0] * rank, self.group, dilation)
            tops.append(y.reshape(*x.shape[: -rank - 1], *y.shape[1:]))
        return tuple(tops)

    def onnx(self, emit: Emitter, bottoms: Sequence[str], weights: Sequence[str]) -> tuple[str, ...]:
        """ConvTranspose."""
        bottom = emit.shape(bottoms[0])
        axes = len(bottom) - axis_of(self.axis, len(bottom)) - 1
        layer, operands = self._for_engine(emit, weights, axes)
        kernel, stride, pad, dilation = layer.spatial(axes or 1)
        attributes = {"kernel_shape": list(kernel), "strides": list(stride), "dilations": list(dilation)}
        tops = []
        for x in bottoms:
            flat = self.as_images(emit, x, bottom)
            y = emit("ConvTranspose", [flat, *operands], pads=[*pad, *pad], group=self.group, **attributes)
            tops.append(self.as_images(emit, y, self.shapes([bottom])[0], back=True))
        return tuple(tops)

    def macs(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        """Input values times the weights that each of them meets."""
        return sum(prod(bottom) for bottom in bottoms) * prod(self.weights(bottoms)[0][1:])


@dataclass(frozen=True)
class Im2col(_EvenlyPadded):
    """Caffe's Im2col (im2col_layer.cpp): the patches that a convolution would see, as channels.

    Channel c * k + i of the top holds cell i of the kernel's k cells over channel c. Moves values only.
    """

    num_output: int = 1  # of convolutions

    takes: ClassVar[tuple[int, int | None]] = (1, 1)
    gives: ClassVar[tuple[int, int | None]] = (1, 1)
    weight_names: ClassVar[tuple[str, ...]] = ()

    def shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        """(N, C, spatial...) -> (N, C * kernel, spatial...)."""
        axis = axis_of(self.axis, len(bottoms[0]))
        if axis == len(bottoms[0]) - 1:
            raise LayerFault(f"a bottom of shape {times(bottoms[0])} has no spatial axes after axis {axis}")
        top = self._shape(bottoms[0])
        kernel = self.spatial(len(top) - axis - 1)[0]
        return ((*top[:axis], bottoms[0][axis] * prod(kernel), *top[axis + 1 :]),)

    def weights(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        """None."""
        return ()

    def _plan(self, bottom: Shape) -> tuple[list[int], list[int], list[Array], list[int]]:
        """Zeros to add before and after each spatial axis; which cells to take (kernel, out); the axes' new order."""
        axis = axis_of(self.axis, len(bottom))
        kernel, stride, pad, dilation = self.spatial(len(bottom) - axis - 1)
        out = self._shape(bottom)[axis + 1 :]
        ends = [p + over for p, over in zip(pad, self.overhang(bottom[axis + 1 :]), strict=True)]
        cells = [
            np.arange(k)[:, None] * d + np.arange(o) * s
            for k, d, o, s in zip(kernel, dilation, out, stride, strict=True)
        ]
        first = axis + 1  # every spatial axis becomes two: the kernel's cells, and the output's
        split = range(len(kernel))
        order = [*range(first), *(first + 2 * i for i in split), *(first + 2 * i + 1 for i in split)]
        return list(pad), ends, cells, order

    def torch(self, bottoms: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Pad, take the cells of each axis, put the kernel's cells behind the channels."""
        x = bottoms[0]
        shape = tuple(x.shape)
        begins, ends, cells, order = self._plan(shape)
        x = F.pad(x, [n for pair in zip(reversed(begins), reversed(ends), strict=True) for n in pair])
        for i, taken in enumerate(cells):
            axis = len(order) - 2 * len(cells) + 2 * i
            x = x.index_select(axis, torch.from_numpy(taken.ravel()))
            x = x.reshape(*x.shape[:axis], *taken.shape, *x.shape[axis + 1 :])
        return (x.permute(order).reshape(self.shapes([shape])[0]),)

    def onnx(self, emit: Emitter, bottoms: Sequence[str], weights: Sequence[str]) -> tuple[str, ...]:
        """Pad, Gather along each axis, Transpose, Reshape."""
        shape = emit.shape(bottoms[0])
        begins, ends, cells, order = self._plan(shape)
        still = [0] * (len(shape) - len(cells))
        x = bottoms[0]
        if any(begins) or any(ends):
            x = emit("Pad", [x, emit.constant(int64(*still, *begins, *still, *ends))])
        for i, taken in enumerate(cells):
            x = emit("Gather", [x, emit.constant(taken.astype(np.int64))], axis=len(still) + 2 * i)
        top = self.shapes([shape])[0]
        columns = emit("Transpose", [x], perm=order)
        return (emit("Reshape", [columns, emit.constant(int64(-1, *top[1:]))]),)

    def macs(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        """None."""
        return 0
