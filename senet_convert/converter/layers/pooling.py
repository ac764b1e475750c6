"""Pooling with Caffe's own arithmetic of sizes and divisors (pooling_layer.cpp)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from .base import Emitter, Layer, LayerFault, Shape, int64, times

LOWEST = float(np.finfo(np.float32).min)  # -FLT_MAX: where Caffe's maximum starts, and stays in an empty window


@dataclass(frozen=True)
class Windows:
    """The windows along one axis: they start at i * stride - pad, for i in range(out)."""

    size: int
    kernel: int
    stride: int
    pad: int
    out: int

    @property
    def end(self) -> int:
        """How far the last window reaches beyond the map (negative: not to its end)."""
        return (self.out - 1) * self.stride - self.pad + self.kernel - self.size

    @property
    def empty(self) -> bool:
        """Whether the last window lies wholly outside the map."""
        return (self.out - 1) * self.stride - self.pad >= self.size

    def lengths(self) -> list[int]:
        """Cells of each window, clipped to size + pad: padding counts, what the rounding adds does not."""
        starts = [i * self.stride - self.pad for i in range(self.out)]
        return [min(start + self.kernel, self.size + self.pad) - start for start in starts]


@dataclass(frozen=True)
class Pooling(Layer):
    """MAX and AVE pooling over two spatial axes; Caffe rounds sizes up unless `round_mode` says FLOOR."""

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

    message: ClassVar[str] = "pooling_param"
    in_place: ClassVar[bool] = False

    def validate(self) -> None:
        """Caffe's own checks of what excludes what."""
        if self.pool not in ("MAX", "AVE"):
            raise LayerFault(f"pool: {self.pool} is for training; at inference there is MAX and AVE")
        sized = self.kernel_size is not None or self.kernel_h is not None or self.kernel_w is not None
        if self.global_pooling:
            if sized:
                raise LayerFault("global_pooling: true together with a kernel size; Caffe takes one of them")
            if any(p not in (None, 0) for p in (self.pad, self.pad_h, self.pad_w)) or any(
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
        for pad, kernel in zip(self._pair("pad"), self._pair("kernel"), strict=True):
            if pad >= kernel:
                raise LayerFault(f"pad {pad} with kernel {kernel}; Caffe wants the pad smaller than the kernel")

    def _pair(self, name: str, default: int = 0) -> tuple[int, int]:
        both = getattr(self, "kernel_size" if name == "kernel" else name)
        h, w = getattr(self, f"{name}_h"), getattr(self, f"{name}_w")
        base = default if both is None else both
        return (base if h is None else h, base if w is None else w)

    def windows(self, bottom: Shape) -> tuple[Windows, Windows]:
        """Windows along height and width of a (N, C, H, W) bottom. Raises LayerFault where none fits."""
        if len(bottom) != 4:
            raise LayerFault(f"the bottom has shape {times(bottom)}; pooling needs four axes (N, C, H, W)")
        space = bottom[2:]
        kernels = space if self.global_pooling else self._pair("kernel")
        found = []
        for size, kernel, stride, pad in zip(space, kernels, self._pair("stride", 1), self._pair("pad"), strict=True):
            span = size + 2 * pad - kernel
            out = (-(-span // stride) if self.round_mode == "CEIL" else span // stride) + 1
            if pad and (out - 1) * stride >= size + pad:
                out -= 1
            if out < 1:
                raise LayerFault(
                    f"kernel {times(kernels)}, pad {pad}, stride {stride} on a {times(space)} map leaves no output: the "
                    "map is too small for the kernel. Is the input smaller than the one the network was made for?"
                )
            found.append(Windows(size, kernel, stride, pad, out))
        return found[0], found[1]

    def shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        """(N, C, H, W) -> (N, C, H', W')."""
        h, w = self.windows(bottoms[0])
        return ((*bottoms[0][:2], h.out, w.out),)

    def torch(self, bottoms: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Pad (or crop) to just what the windows cover, then pool without padding; sums are divided as Caffe does."""
        x = bottoms[0]
        h, w = self.windows(tuple(x.shape))
        margins = [w.pad, w.end, h.pad, h.end]
        kernel, stride = (h.kernel, w.kernel), (h.stride, w.stride)
        if self.pool == "MAX":
            return (F.max_pool2d(F.pad(x, margins, value=LOWEST), kernel, stride),)
        sums = F.avg_pool2d(F.pad(x, margins), kernel, stride, divisor_override=1)
        return (sums / self.divisors(h, w).to(x.dtype),)

    def divisors(self, h: Windows, w: Windows) -> Tensor:
        """(H', W') cells of each window, float64; 0 where one begins just behind the map: Caffe's 0/0 is NaN there."""
        return torch.outer(*(torch.tensor(side.lengths(), dtype=torch.float64) for side in (h, w)))

    def onnx(self, emit: Emitter, bottoms: Sequence[str], weights: Sequence[str]) -> tuple[str, ...]:
        """Always in floor mode, with the pads that give Caffe's windows: ceil_mode differs between runtimes."""
        x = bottoms[0]
        if self.global_pooling:
            return (emit("GlobalMaxPool" if self.pool == "MAX" else "GlobalAveragePool", [x]),)
        h, w = self.windows(emit.shape(x))
        begins, ends = [h.pad, w.pad], [max(h.end, 0), max(w.end, 0)]
        shape = {"kernel_shape": [h.kernel, w.kernel], "strides": [h.stride, w.stride]}
        if h.empty or w.empty:
            return (self._with_empty_windows(emit, x, h, w, shape),)
        if self.pool == "MAX":
            return (emit("MaxPool", [x], pads=begins + ends, **shape),)
        if all(side.end <= side.pad for side in (h, w)):  # every divisor is the whole kernel
            return (emit("AveragePool", [x], pads=begins + ends, count_include_pad=1, **shape),)
        if any(begins):  # padding counts, so it becomes part of the map; what the rounding adds does not count
            x = emit("Pad", [x, emit.constant(int64(0, 0, *begins, 0, 0, *begins))])
            ends = [max(side.end - side.pad, 0) for side in (h, w)]
        return (emit("AveragePool", [x], pads=[0, 0, *ends], count_include_pad=0, **shape),)

    def _with_empty_windows(
        self, emit: Emitter, x: str, h: Windows, w: Windows, shape: dict[str, list[int]]
    ) -> str:
        """The last window of an axis lies outside the map: pool without it, then put Caffe's value there."""
        missing = int64(0, 0, 0, 0, 0, 0, int(h.empty), int(w.empty))
        pads = [0, 0, *(0 if side.empty else max(side.end, 0) for side in (h, w))]
        if self.pool == "MAX":
            inner = emit("MaxPool", [x], pads=pads, **shape)
            return emit("Pad", [inner, emit.constant(missing), emit.constant(np.asarray(LOWEST, np.float32))])
        inner = emit("Pad", [emit("AveragePool", [x], pads=pads, count_include_pad=0, **shape), emit.constant(missing)])
        with np.errstate(invalid="ignore"):
            outside = np.float32(0) / self.divisors(h, w).numpy().astype(np.float32)
        return emit("Add", [inner, emit.constant(outside)])
