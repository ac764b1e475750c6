from __future__ import annotations

import numpy as np
import pytest

from .running import One, Refusal, normal
from .test_convolution import Sizes, convolution

PARAM = "convolution_param { bias_term: false kernel_size: 3 pad: 1"


@pytest.mark.parametrize(
    ("rest", "outputs", "stride"),
    [("", 4, (1, 1)), ("stride: 2", 8, (2, 2)), ("group: 2", 4, (1, 1)), ("group: 3", 4, (1, 1))],
)
def test_every_channel_is_a_group_whatever_group_says(one: One, rest: str, outputs: int, stride: Sizes) -> None:
    x, weight = normal(2, 4, 7, 6), normal(outputs, 1, 3, 3, seed=1)
    found = one("ConvolutionDepthwise", f"{PARAM} num_output: {outputs} {rest} }}", x, blobs=[weight])
    expected = convolution(x, weight, stride, (1, 1), (1, 1), 4)
    found.check("y0", expected)
    (node,) = found.graph.nodes
    assert node.layer.macs([x.shape], [expected.shape]) == expected.size * 9


def test_with_bias_and_pads_for_each_side(one: One) -> None:
    x, weight, bias = normal(2, 3, 6, 5), normal(3, 1, 2, 2, seed=1), normal(3, seed=2)
    found = one(
        "ConvolutionDepthwise", "convolution_param { num_output: 3 kernel_size: 2 pad_t: 1 }", x, blobs=[weight, bias]
    )
    expected = convolution(x, weight, (1, 1), (1, 0), (1, 1), 3, (0, 0)) + bias.reshape(3, 1, 1)
    found.check("y0", expected)


def test_depthwise_convolution_names_its_groups(one: One) -> None:
    x, weight = normal(2, 4, 7, 6), normal(4, 1, 3, 3, seed=1)
    found = one("DepthwiseConvolution", f"{PARAM} num_output: 4 group: 4 }}", x, blobs=[weight])
    found.check("y0", convolution(x, weight, (1, 1), (1, 1), (1, 1), 4))


def test_what_no_depthwise_convolution_can_be(refusal: Refusal) -> None:
    message = refusal("DepthwiseConvolution", f"{PARAM} num_output: 4 }}", (1, 4, 5, 5))
    assert "group is 1, the bottom has 4 channels" in message
    assert "ConvolutionDepthwise" in message
    message = refusal("ConvolutionDepthwise", f"{PARAM} num_output: 6 }}", (1, 4, 5, 5))
    assert "num_output 6 is not divisible by the 4 channels" in message
    assert "num_output is 0" in refusal("ConvolutionDepthwise", f"{PARAM} num_output: 0 }}", (1, 4, 5, 5))


def test_the_weights_are_one_channel_each(one: One) -> None:
    found = one("ConvolutionDepthwise", f"{PARAM} num_output: 4 }}", np.zeros((1, 4, 5, 5)))
    assert found.graph.wanted[0].shapes == ((4, 1, 3, 3),)
