"""What the SE networks are made of: convolutions, pools and the squeeze-and-excitation module.

Hu, Shen, Albanie, Sun, Wu: Squeeze-and-Excitation Networks, 2018. `Conv` and `Pool` describe a layer in a configuration
and build it; a `Size` is one number for both axes, or (height, width).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from torch import Tensor, nn

Size = int | tuple[int, int]

EPS = float(np.float32(1e-5))  # Caffe's default; a float32, so a little less than 1e-5
DROPOUT = 0.2  # SENet-154's rate


@dataclass(frozen=True)
class Conv:
    """A convolution with `width` output channels."""

    width: int
    kernel: Size
    stride: Size = 1
    padding: Size = 0
    groups: int = 1

    def build(self, channels: int) -> nn.Conv2d:
        """(N, channels, H, W) -> (N, width, H', W'), without bias: a batch normalisation follows."""
        return nn.Conv2d(channels, self.width, self.kernel, self.stride, self.padding, groups=self.groups, bias=False)


@dataclass(frozen=True)
class Pool:
    """A pool; `ceil` rounds the size of a max pool up. Padding counts in an average."""

    kind: Literal["max", "avg"]
    kernel: Size | None  # None: the average over the whole map
    stride: Size = 1
    padding: Size = 0
    ceil: bool = False

    def build(self) -> nn.Module:
        """(N, C, H, W) -> (N, C, H', W')."""
        if self.kernel is None:
            return nn.AdaptiveAvgPool2d(1)
        if self.kind == "max":
            return nn.MaxPool2d(self.kernel, self.stride, self.padding, ceil_mode=self.ceil)
        return nn.AvgPool2d(self.kernel, self.stride, self.padding, count_include_pad=True)


GLOBAL_POOL = Pool("avg", None)
STEM_POOL = Pool("max", 3, stride=2, ceil=True)


class ConvNorm(nn.Sequential):
    """Convolution, batch normalisation, ReLU: `conv`, `bn`, `relu`."""

    def __init__(self, channels: int, conv: Conv, eps: float) -> None:
        norm = nn.BatchNorm2d(conv.width, eps=eps)
        super().__init__(OrderedDict(conv=conv.build(channels), bn=norm, relu=nn.ReLU()))


class SEModule(nn.Module):
    """Squeeze to one value per channel, excite by two 1x1 convolutions, scale every channel by its gate in (0, 1)."""

    def __init__(self, channels: int, squeeze: int) -> None:
        super().__init__()
        self.avg_pool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(channels, squeeze, kernel_size=1)
        self.relu = nn.ReLU()
        self.fc2 = nn.Conv2d(squeeze, channels, kernel_size=1)
        self.sigmoid = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        squeezed = self.relu(self.fc1(self.avg_pool(x)))
        gate: Tensor = self.sigmoid(self.fc2(squeezed))
        return gate * x


def features(width: int, pooled: Size) -> int:
    """Inputs of the classifier: every channel of the pooled map."""
    height, breadth = (pooled, pooled) if isinstance(pooled, int) else pooled
    return width * height * breadth


def initialise(modules: Iterable[nn.Module]) -> None:
    """He's initialisation of convolutions, for training from scratch; on the meta device there is nothing to draw."""
    for module in modules:
        if isinstance(module, nn.Conv2d) and not module.weight.is_meta:
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
