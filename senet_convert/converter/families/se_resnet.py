"""SE-ResNet: ResNet's bottlenecks, each with a gate on its residual branch."""

from __future__ import annotations

from typing import ClassVar

from .blocks import Conv
from .residual import Block, ResidualConfig, SEResidualNet, stage


class SEResNet(SEResidualNet):
    """SE-ResNet. As in the first ResNets, the first 1x1 convolution of a bottleneck strides."""

    family: ClassVar[str] = "SE-ResNet"
    strided: ClassVar[int] = 1

    @staticmethod
    def fits(config: ResidualConfig) -> bool:
        """One convolution in the stem, no groups."""
        return len(config.stem) == 1 and all(block.groups == 1 for block in config.blocks())


def se_resnet50(num_classes: int = 1000, in_channels: int = 3) -> SEResNet:
    """SE-ResNet-50, untrained."""
    return SEResNet(released((3, 4, 6, 3), num_classes, in_channels))


def se_resnet101(num_classes: int = 1000, in_channels: int = 3) -> SEResNet:
    """SE-ResNet-101, untrained."""
    return SEResNet(released((3, 4, 23, 3), num_classes, in_channels))


def se_resnet152(num_classes: int = 1000, in_channels: int = 3) -> SEResNet:
    """SE-ResNet-152, untrained."""
    return SEResNet(released((3, 8, 36, 3), num_classes, in_channels))


def released(depths: tuple[int, ...], num_classes: int, in_channels: int) -> ResidualConfig:
    """The released networks, by blocks per stage: 256 channels after the first stage, doubled by each; squeeze 1/16."""
    stages = []
    for i, depth in enumerate(depths):
        planes = 64 * 2**i
        widths = (planes, planes, 4 * planes)
        stages.append(stage(Block(widths, planes // 4, stride=2 if i else 1, downsample=1), depth))
    return ResidualConfig((Conv(64, 7, 2, 3),), tuple(stages), num_classes=num_classes, in_channels=in_channels)
