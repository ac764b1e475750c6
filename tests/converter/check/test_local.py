"""Blobs of few values, held against what the layer makes of each engine's own bottoms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from senet_convert.converter.check.tolerance import ONNX, judged
from senet_convert.converter.graph.build import build
from senet_convert.converter.graph.graph import Graph
from senet_convert.converter.runner import lower, to_tensors
from senet_convert.proto import Blob, LayerDef, NetDef
from tests.nets import definition

NET = """
input: "data" input_shape { dim: 2 dim: 8 dim: 6 dim: 6 }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param { num_output: 8 kernel_size: 3 } }
layer { name: "fc" type: "InnerProduct" bottom: "conv" top: "fc" inner_product_param { num_output: 2 } }
"""


def graph(folder: Path) -> Graph:
    """Two outputs that nearly cancel, so that their budget is wide."""
    random = np.random.default_rng(0)
    net = definition(folder, NET)
    wanted = {want.name: want.shapes for want in build(net, None).wanted}
    arrays = {
        name: [random.normal(0, 1, shape).astype(np.float32) for shape in shapes] for name, shapes in wanted.items()
    }
    arrays["fc"][0][:, 1::2] = -arrays["fc"][0][:, ::2]
    layers = tuple(
        LayerDef(name, "", blobs=tuple(Blob(array.shape, array.reshape(-1)) for array in blobs))
        for name, blobs in arrays.items()
    )
    return build(net, NetDef("", "weights", layers))


def run(built: Graph, tensors: list[torch.Tensor]) -> dict[str, np.ndarray]:
    return {value: top.detach().numpy() for value, top in lower(built).steps(*tensors)}


def faults(built: Graph, values: dict[str, np.ndarray], tensors: list[torch.Tensor]) -> list[str]:
    found = judged(lower(built), tensors, {ONNX: values}, built.outputs, ())
    return [fault for item in found.values() for fault in item.faults.values()]


@pytest.fixture
def built(tmp_path: Path) -> Graph:
    return graph(tmp_path)


@pytest.fixture
def tensors(built: Graph) -> list[torch.Tensor]:
    data = np.random.default_rng(1).normal(100, 1, (2, 8, 6, 6)).astype(np.float32)
    return list(to_tensors(built, {"data": data}, torch.float32))


def test_an_honest_engine_passes(built: Graph, tensors: list[torch.Tensor]) -> None:
    assert faults(built, run(built, tensors), tensors) == []


def test_a_small_fault_of_the_last_layer_does_not_hide_behind_its_bottoms(
    built: Graph, tensors: list[torch.Tensor]
) -> None:
    values = run(built, tensors)
    check = judged(lower(built), tensors, {}, (), ())["fc"].check
    assert check.budget > 1e-4, "what its bottoms' errors may make of it is wide"
    wrong = dict(values, fc=values["fc"] + np.float32(0.5 * check.budget * check.scale))
    (fault,) = faults(built, wrong, tensors)
    assert "layer 'fc': onnxruntime is off by" in fault
    assert "from what the layer makes of its own bottoms" in fault


def test_errors_of_the_bottoms_are_no_faults_of_the_layer(built: Graph, tensors: list[torch.Tensor]) -> None:
    """They are judged where they come from."""
    values = run(built, tensors)
    budget = judged(lower(built), tensors, {}, (), ())["conv"].check
    values["conv"] = values["conv"] + np.float32(0.5 * budget.budget * budget.scale)
    weight, bias = (torch.from_numpy(built.accounts.arrays[key]) for key in built.accounts.keys["fc"])
    values["fc"] = (torch.from_numpy(values["conv"]).flatten(1) @ weight.T + bias).numpy()
    assert faults(built, values, tensors) == []
