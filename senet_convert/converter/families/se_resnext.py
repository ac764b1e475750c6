"""SE-ResNeXt: bottlenecks whose 3x3 convolution is grouped, each with a gate on its residual branch."""

from __future__ import annotations

from typing import ClassVar

from .blocks import Conv
from .residual import Block, ResidualConfig, SEResidualNet, stage


class SEResNeXt(SEResidualNet):
    """SE-ResNeXt. The grouped 3x3 convolution of a bottleneck strides."""

    family: ClassVar[str] = "SE-ResNeXt"
    strided: ClassVar[int] = 2

    @staticmethod
    def fits(config: ResidualConfig) -> bool:
        """One convolution in the stem, groups in every bottleneck."""
        return len(config.stem) == 1 and all(block.groups > 1 for block in config.blocks())


def se_resnext50_32x4d(num_classes: int = 1000, in_channels: int = 3) -> SEResNeXt:
    """SE-ResNeXt-50 (32 x 4d), untrained."""
    return SEResNeXt(released((3, 4, 6, 3), num_classes, in_channels))


def se_resnext101_32x4d(num_classes: int = 1000, in_channels: int = 3) -> SEResNeXt:
    """SE-ResNeXt-101 (32 x 4d), untrained."""
    return SEResNeXt(released((3, 4, 23, 3), num_classes, in_channels))


def released(depths: tuple[int, ...], num_classes: int, in_channels: int) -> ResidualConfig:
    """The released networks, by blocks per stage: 32 groups of 4 channels in the first stage, doubled by each."""
    stages = []
    for i, depth in enumerate(depths):
        width = 32 * 4 * 2**i
        block = Block((width, width, 2 * width), width // 8, stride=2 if i else 1, groups=32, downsample=1)
        stages.append(stage(block, depth))
    return ResidualConfig((Conv(64, 7, 2, 3),), tuple(stages), num_classes=num_classes, in_channels=in_channels)
