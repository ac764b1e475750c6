"""SENet: the authors' entry to ILSVRC 2017, a widened SE-ResNeXt with a stem of three 3x3 convolutions."""

from __future__ import annotations

from typing import ClassVar

from .blocks import DROPOUT, Conv
from .residual import Block, ResidualConfig, SEResidualNet, stage


class SENet(SEResidualNet):
    """SENet. The grouped 3x3 convolution of a bottleneck strides; its 1x1 convolution is half as wide."""

    family: ClassVar[str] = "SENet"
    strided: ClassVar[int] = 2

    @staticmethod
    def fits(config: ResidualConfig) -> bool:
        """Three convolutions in the stem, groups in every bottleneck."""
        return len(config.stem) == 3 and all(block.groups > 1 for block in config.blocks())


def senet154(num_classes: int = 1000, in_channels: int = 3) -> SENet:
    """SENet-154, untrained. Its projections that stride are 3x3; its classifier has dropout."""
    stages = []
    for i, depth in enumerate((3, 8, 36, 3)):
        width = 256 * 2**i
        widths = (width // 2, width, width)
        block = Block(widths, width // 16, stride=2 if i else 1, groups=64, downsample=3 if i else 1)
        stages.append(stage(block, depth))
    stem = (Conv(64, 3, 2, 1), Conv(64, 3, 1, 1), Conv(128, 3, 1, 1))
    config = ResidualConfig(stem, tuple(stages), num_classes=num_classes, in_channels=in_channels, dropout=DROPOUT)
    return SENet(config)
