"""Pooling with Caffe's own arithmetic of sizes and divisors (pooling_layer.cpp)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from onnx import TensorProto
from torch import Tensor

from .base import Array, Emitter, Layer, LayerFault, Shape, int64, scalar, times

LOWEST = float(np.finfo(np.float32).min)  # -FLT_MAX: where Caffe's maximum starts, and stays in an empty window


def floored(x: Tensor) -> Tensor:
    """NaN and -inf as -FLT_MAX: Caffe's maximum starts there, and takes what compares as larger only."""
    return torch.where(x > LOWEST, x, LOWEST)


def emit_floored(emit: Emitter, x: str) -> str:
    """The same in ONNX."""
    lowest = scalar(emit, LOWEST)
    return emit("Where", [emit("Greater", [x, lowest]), x, lowest])


@dataclass(frozen=True)
class Windows:
    """The windows along one axis: they start at i * stride - pad, for i in range(out); `after` is the pad behind."""

    size: int
    kernel: int
    stride: int
    pad: int
    after: int
    out: int

    @property
    def end(self) -> int:
        """How far the last window reaches beyond the map (negative: not to its end)."""
        return (self.out - 1) * self.stride - self.pad + self.kernel - self.size

    @property
    def empty(self) -> bool:
        """Whether the last window lies wholly outside the map."""
        return (self.out - 1) * self.stride - self.pad >= self.size

    def lengths(self, padding: bool = True) -> list[int]:
        """Cells of each window, clipped to the padded map: padding counts, what the rounding adds does not. Without
        `padding`, clipped to the map.
        """
        starts = [i * self.stride - self.pad for i in range(self.out)]
        if not padding:
            return [min(start + self.kernel, self.size) - max(start, 0) for start in starts]
        return [min(start + self.kernel, self.size + self.after) - start for start in starts]


@dataclass(frozen=True)
class Pooling(Layer):
    """MAX and AVE pooling over two spatial axes; Caffe rounds sizes up unless `round_mode` says FLOOR.

    Of forks are `ceil_mode`, which overrules `round_mode`, a pad for each side, such as `pad_t`, and the average over
    the cells of the map alone, AVE_EXC_PAD (Synopsys).
    A second top of MAX pooling says where in its plane each maximum stands, as h * W + w: the first of equal ones, and
    -1 for an empty window, and for one of NaN and -inf alone, see `floored`.
    """

    pool: str = "MAX"
    kernel_size: int | None = None
    stride: int | None = None
    pad: int | None = None
    kernel_h: int | None = None
    kernel_w: int | None = None
    stride_h: int | None = None
    stride_w: int | None = None
    pad_h: int | None = None
    pad_w: int | None = None
    global_pooling: bool = False
    round_mode: str = "CEIL"
    ceil_mode: bool | None = None
    pad_t: int = 0
    pad_b: int = 0
    pad_l: int = 0
    pad_r: int = 0

    message: ClassVar[str] = "pooling_param"
    gives: ClassVar[tuple[int, int | None]] = (1, 2)
    in_place: ClassVar[bool] = False

    def jumps(self) -> tuple[int, ...]:
        """The places, where the largest values of a window are nearly equal."""
        return (1,) if self.tops == 2 else ()

    def validate(self) -> None:
        """Caffe's own checks of what excludes what."""
        if self.pool not in ("MAX", "AVE", "AVE_EXC_PAD"):
            raise LayerFault(f"pool: {self.pool} is for training; at inference there is MAX and AVE")
        if self.tops == 2 and self.pool != "MAX":
            raise LayerFault(f"a second top tells where the maxima stand; pool: {self.pool} has one top only")
        self._refuse_two_spellings()
        sized = self.kernel_size is not None or self.kernel_h is not None or self.kernel_w is not None
        if self.global_pooling:
            if sized:
                raise LayerFault("global_pooling: true together with a kernel size; Caffe takes one of them")
            if any(p not in (None, 0) for p in (self.pad, self.pad_h, self.pad_w, *self._sides)) or any(
                s not in (None, 1) for s in (self.stride, self.stride_h, self.stride_w)
            ):
                raise LayerFault("global_pooling: true needs pad 0 and stride 1")
            return
        if not sized:
            raise LayerFault("neither kernel_size, kernel_h and kernel_w, nor global_pooling is given")
        if (self.kernel_h is None) != (self.kernel_w is None) or (self.kernel_size and self.kernel_h):
            raise LayerFault("the kernel is given by kernel_size, or by both kernel_h and kernel_w")
        for (size_h, size_w), what in ((self._pair("kernel"), "kernel"), (self._pair("stride", 1), "stride")):
            if min(size_h, size_w) < 1:
                raise LayerFault(f"{what} {size_h}x{size_w}; it must be at least 1")
        if any(self._sides) and (self.pad, self.pad_h, self.pad_w) != (None, None, None):
            raise LayerFault("pads are given for each side and in another way too; give one of them")
        for pads, kernel in zip(self._pads(), self._pair("kernel"), strict=True):
            if max(pads) >= kernel:
                raise LayerFault(f"pad {max(pads)} with kernel {kernel}; Caffe wants the pad smaller than the kernel")

    def _refuse_two_spellings(self) -> None:
        """Stride and pad are one value, or one for each axis: nothing tells which of two spellings is meant."""
        for name in ("stride", "pad"):
            sides = getattr(self, f"{name}_h"), getattr(self, f"{name}_w")
            if sides == (None, None):
                continue
            if getattr(self, name) is not None:
                raise LayerFault(f"{name} is given both as one value and as {name}_h, {name}_w; keep one of them")
            if None in sides:
                raise LayerFault(f"{name}_h and {name}_w need each other: give both, or {name} for both axes")

    def _pair(self, name: str, default: int = 0) -> tuple[int, int]:
        both = getattr(self, "kernel_size" if name == "kernel" else name)
        h, w = getattr(self, f"{name}_h"), getattr(self, f"{name}_w")
        base = default if both is None else both
        return (base if h is None else h, base if w is None else w)

    @property
    def rounds_up(self) -> bool:
        """Whether sizes are rounded up: a fork's `ceil_mode` overrules `round_mode`."""
        return self.round_mode == "CEIL" if self.ceil_mode is None else self.ceil_mode

    @property
    def _sides(self) -> tuple[int, int, int, int]:
        return self.pad_t, self.pad_b, self.pad_l, self.pad_r

    def _pads(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Before and after the map, along height and width."""
        if any(self._sides):
            return self._sides[:2], self._sides[2:]
        pad_h, pad_w = self._pair("pad")
        return (pad_h, pad_h), (pad_w, pad_w)

    def windows(self, bottom: Shape) -> tuple[Windows, Windows]:
        """Windows along height and width of a (N, C, H, W) bottom. Raises LayerFault where none fits."""
        if len(bottom) != 4:
            raise LayerFault(f"the bottom has shape {times(bottom)}; pooling needs four axes (N, C, H, W)")
        space = bottom[2:]
        kernels = space if self.global_pooling else self._pair("kernel")
        found = []
        pads = self._pads()
        padded = any(n for sides in pads for n in sides)  # Caffe drops a last window of either axis then
        for size, kernel, stride, (pad, after) in zip(space, kernels, self._pair("stride", 1), pads, strict=True):
            span = size + pad + after - kernel
            out = (-(-span // stride) if self.rounds_up else span // stride) + 1
            if padded and (out - 1) * stride >= size + pad:
                out -= 1
            if out < 1:
                said = f"{pad}" if pad == after else f"{pad} and {after}"
                raise LayerFault(
                    f"kernel {times(kernels)}, pad {said}, stride {stride} on a {times(space)} map leaves no output: "
                    "the map is too small for the kernel. Is the input smaller than the one the network was made for?"
                )
            found.append(Windows(size, kernel, stride, pad, after, out))
        return found[0], found[1]

    def grid(self, bottom: Shape) -> tuple[tuple[float, float], tuple[float, float]]:
        """A window's middle cell is the top's."""
        h, w = ((1 / side.stride, (side.pad - (side.kernel - 1) / 2) / side.stride) for side in self.windows(bottom))
        return h, w

    def shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        """(N, C, H, W) -> (N, C, H', W')."""
        h, w = self.windows(bottoms[0])
        return ((*bottoms[0][:2], h.out, w.out),) * self.tops

    def torch(self, bottoms: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Pad (or crop) to just what the windows cover, then pool without padding; sums are divided as Caffe does."""
        x = bottoms[0]
        if self.pool == "MAX" and not self.sound:
            x = floored(x)
        h, w = self.windows(tuple(x.shape))
        margins = [w.pad, w.end, h.pad, h.end]
        kernel, stride = (h.kernel, w.kernel), (h.stride, w.stride)
        if self.pool == "MAX":
            padded = F.pad(x, margins, value=LOWEST)
            if self.tops == 1:
                return (F.max_pool2d(padded, kernel, stride),)
            top, places = F.max_pool2d(padded, kernel, stride, return_indices=True)
            width = padded.shape[-1]
            row, column = places // width - h.pad, places % width - w.pad
            inside = (row >= 0) & (row < h.size) & (column >= 0) & (column < w.size)
            inside = inside if self.sound else inside & (top > LOWEST)
            return top, torch.where(inside, row * w.size + column, -1).to(x.dtype)
        sums = F.avg_pool2d(F.pad(x, margins), kernel, stride, divisor_override=1)
        return (sums / self.divisors(h, w).to(x.dtype),)

    def divisors(self, h: Windows, w: Windows) -> Tensor:
        """(H', W') cells of each window, float64; 0 where one begins just behind the map: Caffe's 0/0 is NaN there."""
        padding = self.pool == "AVE"
        return torch.outer(*(torch.tensor(side.lengths(padding), dtype=torch.float64) for side in (h, w)))

    def onnx(self, emit: Emitter, bottoms: Sequence[str], weights: Sequence[str]) -> tuple[str, ...]:
        """Always in floor mode, with the pads that give Caffe's windows: ceil_mode differs between runtimes."""
        x = bottoms[0]
        if self.pool == "MAX" and not self.sound:
            x = emit_floored(emit, x)
        if self.global_pooling and self.tops == 1:
            return (emit("GlobalMaxPool" if self.pool == "MAX" else "GlobalAveragePool", [x]),)
        h, w = self.windows(emit.shape(bottoms[0]))
        shape = {"kernel_shape": [h.kernel, w.kernel], "strides": [h.stride, w.stride]}
        if self.pool == "MAX":
            return self._max(emit, x, h, w, shape)
        return (self._average(emit, x, h, w, shape),)

    def _max(self, emit: Emitter, x: str, h: Windows, w: Windows, shape: dict[str, list[int]]) -> tuple[str, ...]:
        """MaxPool; where the last window of an axis lies outside the map, pool without it, then put -FLT_MAX there."""
        pads = [h.pad, w.pad, *(0 if side.empty else max(side.end, 0) for side in (h, w))]
        top, *places = emit.several("MaxPool", [x], self.tops, pads=pads, **shape)
        if places:  # ONNX counts through the whole blob, Caffe through each plane
            plane = emit("Mod", [places[0], emit.constant(int64(h.size * w.size))])
            places = [emit("Cast", [plane], to=TensorProto.FLOAT)]
            if not self.sound:
                found = emit("Greater", [top, scalar(emit, LOWEST)])
                places = [emit("Where", [found, places[0], scalar(emit, -1)])]
        if h.empty or w.empty:
            missing = emit.constant(_outside(h, w))
            top = emit("Pad", [top, missing, scalar(emit, LOWEST)])
            places = [emit("Pad", [place, missing, scalar(emit, -1)]) for place in places]
        return top, *places

    def _average(self, emit: Emitter, x: str, h: Windows, w: Windows, shape: dict[str, list[int]]) -> str:
        begins, after = [h.pad, w.pad], [h.after, w.after]
        ends = [0 if side.empty else max(side.end, 0) for side in (h, w)]
        if h.empty or w.empty:  # pool without the windows that lie outside the map, then put Caffe's value there
            inner = emit("AveragePool", [x], pads=[0, 0, *ends], count_include_pad=0, **shape)
            with np.errstate(invalid="ignore"):
                outside = np.float32(0) / self.divisors(h, w).numpy().astype(np.float32)
            return emit("Add", [emit("Pad", [inner, emit.constant(_outside(h, w))]), emit.constant(outside)])
        if self.pool == "AVE_EXC_PAD":
            return emit("AveragePool", [x], pads=begins + ends, count_include_pad=0, **shape)
        if all(side.end <= side.after for side in (h, w)):  # every divisor is the whole kernel
            return emit("AveragePool", [x], pads=begins + ends, count_include_pad=1, **shape)
        if any(begins + after):  # padding counts, so it becomes part of the map; what the rounding adds does not count
            x = emit("Pad", [x, emit.constant(int64(0, 0, *begins, 0, 0, *after))])
            ends = [max(side.end - side.after, 0) for side in (h, w)]
        return emit("AveragePool", [x], pads=[0, 0, *ends], count_include_pad=0, **shape)


def _outside(h: Windows, w: Windows) -> Array:
    """Pads that add the windows which lie outside the map."""
    return int64(0, 0, 0, 0, 0, 0, int(h.empty), int(w.empty))


@dataclass(frozen=True)
class SPP(Layer):
    """Caffe's SPP (spp_layer.cpp), spatial pyramid pooling: level i pools the map into 2^i x 2^i bins; all are joined.

    With a pyramid of one level Caffe gives the pooled map itself, (N, C, 1, 1).
    """

    pyramid_height: int
    pool: str = "MAX"

    message: ClassVar[str] = "spp_param"
    in_place: ClassVar[bool] = False

    def validate(self) -> None:
        """At least one level."""
        if self.pyramid_height < 1:
            raise LayerFault(f"pyramid_height is {self.pyramid_height}; it must be at least 1")

    def levels(self, bottom: Shape) -> list[Pooling]:
        """A pooling layer for each level. Raises LayerFault where the map is too small for the bins."""
        if len(bottom) != 4:
            raise LayerFault(f"the bottom has shape {times(bottom)}; SPP needs four axes (N, C, H, W)")
        found = []
        for bins in (2**i for i in range(self.pyramid_height)):
            kernels = [-(-size // bins) for size in bottom[2:]]
            pads = [(kernel * bins - size + 1) // 2 for kernel, size in zip(kernels, bottom[2:], strict=True)]
            sides = {
                f"{name}_{side}": value
                for name, values in (("kernel", kernels), ("stride", kernels), ("pad", pads))
                for side, value in zip("hw", values, strict=True)
            }
            level = Pooling(pool=self.pool, **sides, sound=self.sound)
            try:
                level.validate()
            except LayerFault as fault:
                raise LayerFault(f"{bins}x{bins} bins of a {times(bottom[2:])} map: {fault}") from fault
            found.append(level)
        return found

    def shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        """(N, C, H, W) -> (N, C * bins)."""
        pooled = [level.shapes(bottoms)[0] for level in self.levels(bottoms[0])]
        if len(pooled) == 1:
            return (pooled[0],)
        return ((bottoms[0][0], sum(prod(shape[1:]) for shape in pooled)),)

    def torch(self, bottoms: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Pool, flatten, join."""
        pooled = [level.torch(bottoms, [])[0] for level in self.levels(tuple(bottoms[0].shape))]
        return (torch.cat([x.flatten(1) for x in pooled], 1) if len(pooled) > 1 else pooled[0],)

    def onnx(self, emit: Emitter, bottoms: Sequence[str], weights: Sequence[str]) -> tuple[str, ...]:
        """Pooling, Flatten, Concat."""
        pooled = [level.onnx(emit, bottoms, [])[0] for level in self.levels(emit.shape(bottoms[0]))]
        if len(pooled) == 1:
            return (pooled[0],)
        return (emit("Concat", [emit("Flatten", [x], axis=1) for x in pooled], axis=1),)
