"""PriorBox: SSD's default boxes, which depend on nothing but shapes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from .base import Array, Emitter, Layer, LayerFault, Shape, times

SAME = 1e-6  # aspect ratios that are nearer than this are one
DEFAULT_VARIANCE = float(np.float32(0.1))


@dataclass(frozen=True)
class PriorBox(Layer):
    """SSD's PriorBox (prior_box_layer.cpp): boxes around the centre of every cell of the first bottom.

    For each `min_size` s: a square of side s, with a `max_size` m one of sqrt(s * m), and for each `aspect_ratio` r
    other than 1 a box of s * sqrt(r) by s / sqrt(r), with `flip` also for 1 / r. Top (1, 2, cells * boxes * 4): xmin,
    ymin, xmax, ymax as parts of the image, and the variances. Sides are cut to whole pixels before they are used, as
    in the original. The image is the second bottom, where `img_size` or `img_h` and `img_w` do not give it.
    """

    min_size: tuple[float, ...]
    max_size: tuple[float, ...] = ()
    aspect_ratio: tuple[float, ...] = ()
    flip: bool = True
    clip: bool = False
    variance: tuple[float, ...] = ()
    img_size: int | None = None
    img_h: int | None = None
    img_w: int | None = None
    step: float | None = None
    step_h: float | None = None
    step_w: float | None = None
    offset: float = 0.5

    message: ClassVar[str] = "prior_box_param"
    takes: ClassVar[tuple[int, int | None]] = (2, 2)
    in_place: ClassVar[bool] = False
    note: ClassVar[str] = (
        "the original SSD's: min_size and max_size are cut to whole pixels (35.84 counts as 35), boxes of an aspect "
        "ratio have the area of min_size. For a fork that computes others, rename the type in the prototxt and give a "
        "class for it (--layers, docs/custom_layers.md)"
    )

    def validate(self) -> None:
        """Caffe's own checks."""
        if not self.min_size:
            raise LayerFault("prior_box_param lacks min_size, which has no default")
        if len(self.max_size) not in (0, len(self.min_size)):
            raise LayerFault(f"{len(self.max_size)} max_size for {len(self.min_size)} min_size; give as many, or none")
        if min(self.min_size) <= 0:
            raise LayerFault(f"min_size {min(self.min_size):g}; it must be positive")
        for low, high in zip(self.min_size, self.max_size, strict=False):
            if high <= low:
                raise LayerFault(f"max_size {high:g} is not above min_size {low:g}")
        if min(self.aspect_ratio, default=1) <= 0:
            raise LayerFault(f"aspect_ratio {min(self.aspect_ratio):g}; it must be positive")
        if len(self.variance) not in (0, 1, 4) or min(self.variance, default=1) <= 0:
            raise LayerFault(f"variance {list(self.variance)}; give one or four, all positive")
        _one_spelling("img_size", self.img_size, "img_h", self.img_h, "img_w", self.img_w)
        _one_spelling("step", self.step, "step_h", self.step_h, "step_w", self.step_w)

    def ratios(self) -> list[float]:
        """The aspect ratios as Caffe keeps them, in float32: 1 first, then each new one with its inverse."""
        found = [1.0]
        for ratio in self.aspect_ratio:
            if any(abs(ratio - other) < SAME for other in found):
                continue
            found.append(ratio)
            if self.flip:
                found.append(float(np.float32(1 / ratio)))
        return found

    def sizes(self) -> Array:
        """(boxes, 2) float32: width and height of each box of a cell, in pixels."""
        found: list[tuple[float, float]] = []
        for i, size in enumerate(self.min_size):
            side = int(size)
            found.append((side, side))
            if self.max_size:
                between = sqrt(side * int(self.max_size[i]))
                found.append((between, between))
            found += [(side * sqrt(r), side / sqrt(r)) for r in self.ratios() if abs(r - 1) >= SAME]
        return np.asarray(found, np.float32)

    def shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        """(1, 2, H * W * boxes * 4)."""
        if any(len(bottom) != 4 for bottom in bottoms):
            raise LayerFault(f"bottoms of shapes {' and '.join(map(times, bottoms))}; PriorBox takes (N, C, H, W)")
        height, width = bottoms[0][2:]
        return ((1, 2, height * width * len(self.sizes()) * 4),)

    def boxes(self, bottoms: Sequence[Shape]) -> Array:
        """The top, float32: Caffe takes centre and sides as float32, and computes with them in double."""
        shape = self.shapes(bottoms)[0]
        cells = bottoms[0][2:]
        image = (self.img_h or self.img_size or bottoms[1][2], self.img_w or self.img_size or bottoms[1][3])
        steps = (self.step_h or self.step, self.step_w or self.step)
        centres = []
        for count, side, step in zip(cells, image, steps, strict=True):
            pace = np.float32(step) if step else np.float32(side) / np.float32(count)
            centres.append((np.arange(count).astype(np.float32) + np.float32(self.offset)) * pace)
        y, x = np.meshgrid(*centres, indexing="ij")
        middle = np.stack([x, y], -1).astype(np.float64)[:, :, None]  # H, W, 1, 2
        half = self.sizes().astype(np.float64) / 2
        extent = np.asarray(image[::-1], np.float64)
        corners = np.concatenate([(middle - half) / extent, (middle + half) / extent], -1).astype(np.float32)
        if self.clip:
            corners = corners.clip(0, 1)
        variance = np.asarray(self.variance or (DEFAULT_VARIANCE,), np.float32)
        return np.stack([corners, np.broadcast_to(variance, corners.shape)]).reshape(shape)

    def torch(self, bottoms: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The float32 values, in the dtype of the bottoms: they are parameters of the network."""
        return (torch.from_numpy(self.boxes([tuple(x.shape) for x in bottoms])).to(bottoms[0].dtype),)

    def onnx(self, emit: Emitter, bottoms: Sequence[str], weights: Sequence[str]) -> tuple[str, ...]:
        """A constant."""
        return (emit.constant(self.boxes([emit.shape(bottom) for bottom in bottoms])),)


def _one_spelling(name: str, value: float | None, *sides: str | float | None) -> None:
    """Caffe takes one value, or one for each side, all above 0."""
    given = {key: side for key, side in zip(sides[::2], sides[1::2], strict=True) if side is not None}
    if value is not None and given:
        raise LayerFault(f"both {name} and {', '.join(map(str, given))} are given; Caffe takes one of them")
    if len(given) == 1:
        raise LayerFault(f"only {next(iter(given))} is given; give both {sides[0]} and {sides[2]}, or {name}")
    for key, side in {name: value, **given}.items():
        if side is not None and float(side) <= 0:
            raise LayerFault(f"{key} is {side}; it must be above 0")
