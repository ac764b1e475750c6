"""What SE-ResNet, SE-ResNeXt and SENet share: stages of residual bottlenecks with a gate on the residual branch.

The parameters are named as in timm's `senet.py`: layer0 (the stem), layer1 to layerN, last_linear.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor, nn

from .blocks import EPS, GLOBAL_POOL, STEM_POOL, Conv, Pool, SEModule, Size, features, initialise


@dataclass(frozen=True)
class Block:
    """A bottleneck: 1x1, 3x3 and 1x1 convolutions of these `widths`, and the gate's `squeeze` channels.

    downsample  kernel (1 or 3) of the projection on the shortcut; None: the shortcut is the identity
    """

    widths: tuple[int, int, int]
    squeeze: int
    stride: Size = 1
    groups: int = 1
    downsample: int | None = None

    def convs(self, strided: int) -> tuple[Conv, Conv, Conv]:
        """The three convolutions when the stride sits on number `strided`."""
        reduce, spatial, expand = self.widths
        return (
            Conv(reduce, 1, self.stride if strided == 1 else 1),
            Conv(spatial, 3, self.stride if strided == 2 else 1, 1, self.groups),
            Conv(expand, 1),
        )

    def projection(self) -> Conv | None:
        """The convolution on the shortcut."""
        if self.downsample is None:
            return None
        return Conv(self.widths[2], self.downsample, self.stride, self.downsample // 2)


Stage = tuple[Block, ...]


def stage(first: Block, blocks: int) -> Stage:
    """`blocks` bottlenecks of the same widths, of which only the first strides and projects its shortcut."""
    return (first, *(replace(first, stride=1, downsample=None),) * (blocks - 1))


@dataclass(frozen=True)
class ResidualConfig:
    """A residual SE network. `pooled` is the size of the map that `avg_pool` leaves for the classifier."""

    stem: tuple[Conv, ...]
    stages: tuple[Stage, ...]
    pool0: Pool = STEM_POOL
    avg_pool: Pool = GLOBAL_POOL
    pooled: Size = 1
    num_classes: int = 1000
    in_channels: int = 3
    dropout: float = 0.0
    eps: float = EPS

    def blocks(self) -> Iterator[Block]:
        """All bottlenecks, in order."""
        for blocks in self.stages:
            yield from blocks


class Bottleneck(nn.Module):
    """relu(gate * branch(x) + shortcut(x)); the gate is computed from the branch."""

    def __init__(self, channels: int, block: Block, strided: int, eps: float) -> None:
        super().__init__()
        first, second, third = block.convs(strided)
        self.conv1 = first.build(channels)
        self.bn1 = nn.BatchNorm2d(first.width, eps=eps)
        self.conv2 = second.build(first.width)
        self.bn2 = nn.BatchNorm2d(second.width, eps=eps)
        self.conv3 = third.build(second.width)
        self.bn3 = nn.BatchNorm2d(third.width, eps=eps)
        self.relu = nn.ReLU()
        self.se_module = SEModule(third.width, block.squeeze)
        projection = block.projection()
        if projection is None and (block.stride != 1 or channels != third.width):
            raise ValueError(f"{channels} channels in, {third.width} out, stride {block.stride}: downsample is needed")
        self.downsample: nn.Sequential | None = None
        if projection is not None:
            norm = nn.BatchNorm2d(projection.width, eps=eps)
            self.downsample = nn.Sequential(projection.build(channels), norm)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) -> (N, widths[2], H / stride, W / stride)."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.se_module(self.bn3(self.conv3(y)))
        shortcut = x if self.downsample is None else self.downsample(x)
        out: Tensor = self.relu(y + shortcut)
        return out


class SEResidualNet(nn.Module):
    """The base of the residual families. They differ in which convolution strides and in what `fits` them."""

    family: ClassVar[str]
    strided: ClassVar[int]  # the convolution of a bottleneck that has its stride: 1 or 2

    def __init__(self, config: ResidualConfig) -> None:
        super().__init__()
        if not self.fits(config):
            raise ValueError(f"the configuration is not one of {self.family}: see {type(self).__name__}.fits")
        self.config = config
        self.layer0 = nn.Sequential()
        channels = config.in_channels
        for i, conv in enumerate(config.stem, 1):
            self.layer0.add_module(f"conv{i}", conv.build(channels))
            self.layer0.add_module(f"bn{i}", nn.BatchNorm2d(conv.width, eps=config.eps))
            self.layer0.add_module(f"relu{i}", nn.ReLU())
            channels = conv.width
        self.pool0 = config.pool0.build()
        for i, blocks in enumerate(config.stages, 1):
            layer = nn.Sequential()
            for block in blocks:
                layer.append(Bottleneck(channels, block, self.strided, config.eps))
                channels = block.widths[2]
            self.add_module(f"layer{i}", layer)
        self.avg_pool = config.avg_pool.build()
        self.dropout = nn.Dropout(config.dropout)
        self.last_linear = nn.Linear(features(channels, config.pooled), config.num_classes)
        initialise(self.modules())

    @staticmethod
    def fits(config: ResidualConfig) -> bool:
        """Whether a configuration is one of this family."""
        raise NotImplementedError

    def forward_features(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> the last stage's map (N, C, H', W')."""
        x = self.pool0(self.layer0(x))
        for i in range(1, len(self.config.stages) + 1):
            x = self.get_submodule(f"layer{i}")(x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> logits (N, num_classes)."""
        x = self.avg_pool(self.forward_features(x)).flatten(1)
        logits: Tensor = self.last_linear(self.dropout(x))
        return logits
