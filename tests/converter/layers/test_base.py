from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from senet_convert.converter.layers import LAYERS
from senet_convert.converter.layers.base import Layer
from senet_convert.converter.layers.convolution import Convolution, InnerProduct
from senet_convert.converter.layers.deconvolution import Deconvolution
from senet_convert.converter.layers.depthwise import DepthwiseConvolution
from senet_convert.converter.layers.normalise import BatchNorm
from senet_convert.converter.runner import lower

from .running import Refusal, layer, network, normal


def test_layers_bear_caffes_names() -> None:
    assert all(name == kind.__name__ and issubclass(kind, Layer) for name, kind in LAYERS.items())
    assert list(LAYERS) == sorted(LAYERS)
    assert all(kind.__doc__ for kind in LAYERS.values())


def test_a_parameter_of_a_fork_is_refused(refusal: Refusal) -> None:
    message = refusal("Power", "power_param { powr: 2 }", (2, 3))
    assert "powr" in message


DIFFERENTIABLE = {
    "AbsVal": "",
    "BNLL": "",
    "Convolution": "convolution_param { num_output: 2 kernel_size: 2 }",
    "Deconvolution": "convolution_param { num_output: 2 kernel_size: 2 }",
    "ELU": "",
    "Exp": "",
    "Flatten": "",
    "Im2col": "convolution_param { kernel_size: 2 }",
    "InnerProduct": "inner_product_param { num_output: 3 }",
    "LRN": "",
    "MVN": "",
    "PReLU": "",
    "Pooling": "pooling_param { pool: AVE kernel_size: 2 stride: 2 }",
    "Power": "power_param { power: 2 shift: 1 }",
    "Reduction": "reduction_param { operation: SUMSQ axis: 1 }",
    "SPP": "spp_param { pyramid_height: 2 }",
    "Scale": "scale_param { bias_term: true }",
    "Softmax": "",
    "Swish": "",
    "TanH": "",
    "Tile": "tile_param { tiles: 2 }",
}


@pytest.mark.parametrize("kind", DIFFERENTIABLE)
def test_torch_forms_have_gradients(tmp_path: Path, kind: str) -> None:
    x = normal(2, 3, 4, 4)
    runner = lower(network(tmp_path, layer(kind, DIFFERENTIABLE[kind]), {"x0": x}, {})).double()
    bottom = torch.from_numpy(x.astype(np.float64)).requires_grad_()
    assert torch.autograd.gradcheck(runner, (bottom,), eps=1e-6, atol=1e-5)


def test_arrays_become_blobs_again() -> None:
    """What BatchNorm computes with stands in the file undivided, beside a factor of 1."""
    blobs = (np.array([3, 5], "<f4"), np.array([2, 4], "<f4"), np.array([2], "<f4"))
    arrays = BatchNorm().prepare(blobs)
    again = BatchNorm().to_blobs(arrays)
    assert [list(blob) for blob in again] == [[1.5, 2.5], [1, 2], [1]]
    assert [list(array) for array in BatchNorm().prepare(again)] == [[1.5, 2.5], [1, 2]]


def test_arrays_of_nvidias_batch_norm_become_blobs_again() -> None:
    """The correction, which nothing computes with, is a 1."""
    blobs = [np.array([number, number], "<f4") for number in range(5)]
    again = BatchNorm(scale_bias=True).to_blobs(BatchNorm(scale_bias=True).prepare(blobs))
    assert [list(blob) for blob in again] == [[0, 0], [1, 1], [1], [3, 3], [4, 4]]


def test_classifiers_say_where_the_classes_stand() -> None:
    assert InnerProduct(num_output=3).class_axis((3, 7)) == 0
    assert InnerProduct(num_output=3, transpose=True).class_axis((7, 3)) == 1
    assert InnerProduct(num_output=3, transpose=True).outputs((7, 4)) == 4
    assert Convolution(num_output=4, kernel_size=(1,)).outputs((5, 7, 1, 1)) == 5
    assert Convolution(num_output=4, kernel_size=(1,), group=2).class_axis((4, 7, 1, 1)) is None
    assert DepthwiseConvolution(num_output=4, kernel_size=(1,)).class_axis((4, 1, 1, 1)) is None
    assert Deconvolution(num_output=4, kernel_size=(1,)).class_axis((4, 4, 1, 1)) is None
