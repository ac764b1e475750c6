"""Convolutions of forks in which every channel is a group of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from torch import Tensor

from .base import Emitter, LayerFault, Shape, axis_of
from .convolution import Convolution


@dataclass(frozen=True)
class ConvolutionDepthwise(Convolution):
    """Convolution with as many groups as the bottom has channels, whatever `group` says (conv_dw_layer.cpp)."""

    def validate(self) -> None:
        """Of Convolution's, but for `group`."""
        self._of_channels(1).validate()

    def _of_channels(self, channels: int) -> Convolution:
        """The Convolution that this is."""
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        return Convolution(**{**given, "group": channels})

    def _of(self, bottom: Shape) -> Convolution:
        channels = bottom[axis_of(self.axis, len(bottom))]
        if self.num_output % channels:
            raise LayerFault(f"num_output {self.num_output} is not divisible by the {channels} channels of the bottom")
        return self._of_channels(channels)

    def shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        """(N, C, spatial...) -> (N, num_output, spatial...)."""
        return self._of(bottoms[0]).shapes(bottoms)

    def weights(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        """(num_output, 1, kernel...) and (num_output,)."""
        return self._of(bottoms[0]).weights(bottoms)

    def class_axis(self, weight: Shape) -> int | None:
        """None: each output is of one channel, and no classifier's."""
        return None

    def torch(self, bottoms: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """As Convolution."""
        return self._of(tuple(bottoms[0].shape)).torch(bottoms, weights)

    def onnx(self, emit: Emitter, bottoms: Sequence[str], weights: Sequence[str]) -> tuple[str, ...]:
        """Conv."""
        return self._of(emit.shape(bottoms[0])).onnx(emit, bottoms, weights)

    def macs(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        """As Convolution."""
        return self._of(bottoms[0]).macs(bottoms, tops)


@dataclass(frozen=True)
class DepthwiseConvolution(Convolution):
    """Convolution whose `group` the prototxt sets to the number of channels (depthwise_conv_layer.cpp)."""

    def weights(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        """(num_output, 1, kernel...) and (num_output,)."""
        channels = bottoms[0][axis_of(self.axis, len(bottoms[0]))]
        if self.group != channels:
            raise LayerFault(
                f"group is {self.group}, the bottom has {channels} channels: a depthwise convolution has a group for "
                "each. Set group, or the type to ConvolutionDepthwise"
            )
        return super().weights(bottoms)

    def class_axis(self, weight: Shape) -> int | None:
        """None: each output is of one channel, and no classifier's."""
        return None
