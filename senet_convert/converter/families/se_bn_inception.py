"""SE-BN-Inception: Inception with batch normalisation (Ioffe, Szegedy 2015), each block's output scaled by a gate."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_lowercase
from typing import ClassVar

import torch
from torch import Tensor, nn

from .blocks import EPS, GLOBAL_POOL, STEM_POOL, Conv, ConvNorm, Pool, SEModule, Size, features, initialise

Unit = Conv | Pool  # a Conv stands for convolution, batch normalisation and ReLU
Branch = tuple[Unit, ...]


@dataclass(frozen=True)
class InceptionBlock:
    """Branches over one map, joined along the channels; `squeeze` channels inside the gate."""

    branches: tuple[Branch, ...]
    squeeze: int

    @property
    def strides(self) -> bool:
        """Whether the block's map is smaller than its input."""
        return any(unit.stride not in (1, (1, 1)) for branch in self.branches for unit in branch)

    def width(self, channels: int) -> int:
        """Output channels, from `channels` of input."""
        return sum(width_after(branch, channels) for branch in self.branches)


@dataclass(frozen=True)
class SEBNInceptionConfig:
    """An SE-BN-Inception. `pooled` is the size of the map that `avg_pool` leaves for the classifier."""

    stem: tuple[Unit, ...]
    blocks: tuple[InceptionBlock, ...]
    avg_pool: Pool = GLOBAL_POOL
    pooled: Size = 1
    num_classes: int = 1000
    in_channels: int = 3
    dropout: float = 0.0
    eps: float = EPS


def width_after(units: Sequence[Unit], channels: int) -> int:
    """Channels after these units: those of the last convolution; pools keep them."""
    return next((unit.width for unit in reversed(units) if isinstance(unit, Conv)), channels)


def block_name(earlier: Sequence[InceptionBlock]) -> str:
    """'inception_4b' for the block that follows these: a stage from 3 on for each size of map, a letter within it."""
    ends = [i for i, block in enumerate(earlier, 1) if block.strides]
    index = len(earlier) - (ends[-1] if ends else 0)
    letter = ascii_lowercase[index] if index < len(ascii_lowercase) else str(index + 1)
    return f"inception_{3 + len(ends)}{letter}"


def _sequence(units: Sequence[Unit], channels: int, eps: float) -> nn.Sequential:
    modules = nn.Sequential()
    for i, unit in enumerate(units):
        width = width_after(units[:i], channels)
        modules.append(ConvNorm(width, unit, eps) if isinstance(unit, Conv) else unit.build())
    return modules


class SEInceptionBlock(nn.Module):
    """gate * concat(branches(x)); the gate is computed from the joined branches."""

    def __init__(self, channels: int, block: InceptionBlock, eps: float) -> None:
        super().__init__()
        self.branches = nn.ModuleList(_sequence(branch, channels, eps) for branch in block.branches)
        self.se_module = SEModule(block.width(channels), block.squeeze)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) -> (N, C, H', W')."""
        joined = torch.cat([branch(x) for branch in self.branches], dim=1)
        gated: Tensor = self.se_module(joined)
        return gated


class SEBNInception(nn.Module):
    """SE-BN-Inception: `stem`, `blocks.inception_3a` and so on, `last_linear`."""

    family: ClassVar[str] = "SE-BN-Inception"

    def __init__(self, config: SEBNInceptionConfig) -> None:
        super().__init__()
        self.config = config
        self.stem = _sequence(config.stem, config.in_channels, config.eps)
        channels = width_after(config.stem, config.in_channels)
        blocks: OrderedDict[str, nn.Module] = OrderedDict()
        for i, block in enumerate(config.blocks):
            blocks[block_name(config.blocks[:i])] = SEInceptionBlock(channels, block, config.eps)
            channels = block.width(channels)
        self.blocks = nn.Sequential(blocks)
        self.avg_pool = config.avg_pool.build()
        self.dropout = nn.Dropout(config.dropout)
        self.last_linear = nn.Linear(features(channels, config.pooled), config.num_classes)
        initialise(self.modules())

    def forward_features(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> the last block's map (N, C, H', W')."""
        last: Tensor = self.blocks(self.stem(x))
        return last

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> logits (N, num_classes)."""
        x = self.avg_pool(self.forward_features(x)).flatten(1)
        logits: Tensor = self.last_linear(self.dropout(x))
        return logits


# Widths of the released network by block: 1x1; 3x3 with its reduction; double 3x3 with its reduction; the projection
# after the pool. None: no such branch or projection, in blocks that stride.
BLOCKS: tuple[tuple[int | None, tuple[int, int], tuple[int, int], int | None], ...] = (
    (64, (64, 64), (64, 96), 32),
    (64, (64, 96), (64, 96), 64),
    (None, (128, 160), (64, 96), None),
    (224, (64, 96), (96, 128), 128),
    (192, (96, 128), (96, 128), 128),
    (160, (128, 160), (128, 160), 128),
    (96, (128, 192), (160, 192), 128),
    (None, (128, 192), (192, 256), None),
    (352, (192, 320), (160, 224), 128),
    (352, (192, 320), (192, 224), 128),
)


def se_bn_inception(num_classes: int = 1000, in_channels: int = 3) -> SEBNInception:
    """SE-BN-Inception as released, untrained: squeeze 1/16; the last block pools by maximum, the others by average."""
    stem = (Conv(64, 7, 2, 3), STEM_POOL, Conv(64, 1), Conv(192, 3, 1, 1), STEM_POOL)
    blocks: list[InceptionBlock] = []
    channels = 192
    for i, (point, single, double, projection) in enumerate(BLOCKS):
        pool = Pool("avg", 3, 1, 1) if i + 1 < len(BLOCKS) else Pool("max", 3, 1, 1, ceil=True)
        branches = _branches(point, single, double, projection, pool)
        width = sum(width_after(branch, channels) for branch in branches)
        blocks.append(InceptionBlock(branches, width // 16))
        channels = width
    return SEBNInception(SEBNInceptionConfig(stem, tuple(blocks), num_classes=num_classes, in_channels=in_channels))


def _branches(
    point: int | None, single: tuple[int, int], double: tuple[int, int], projection: int | None, pool: Pool
) -> tuple[Branch, ...]:
    stride = 2 if point is None else 1
    threes: tuple[Branch, ...] = (
        (Conv(single[0], 1), Conv(single[1], 3, stride, 1)),
        (Conv(double[0], 1), Conv(double[1], 3, 1, 1), Conv(double[1], 3, stride, 1)),
    )
    if point is None or projection is None:
        return (*threes, (STEM_POOL,))
    return ((Conv(point, 1),), *threes, (pool, Conv(projection, 1)))
