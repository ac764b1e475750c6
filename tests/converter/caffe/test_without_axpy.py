from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from senet_convert.converter import runner
from senet_convert.converter.caffe.definition import inference
from senet_convert.converter.caffe.without_axpy import stock
from senet_convert.converter.graph.build import build
from senet_convert.converter.graph.draft import Options
from senet_convert.converter.graph.graph import Graph
from senet_convert.proto import NetDef, read_caffemodel, read_prototxt
from tests.nets import INPUT, SE_NET, definition, write
from tests.paths import GOLDEN

WITH_AXPY = ("se_resnet", "se_resnext", "senet154_style", "combine_arith")


def run(graph: Graph) -> Mapping[str, torch.Tensor]:
    """Every blob that remains, in float64."""
    random = np.random.RandomState(3)
    inputs = {name: random.standard_normal(graph.shapes[name]) for name in graph.inputs}
    with torch.no_grad():
        found = dict(runner.lower(graph).steps(*runner.to_tensors(graph, inputs, torch.float64)))
    return {blob: found[value] for blob, value in graph.blobs.items()}


def same_numbers(net: NetDef, weights: NetDef) -> tuple[NetDef, Graph]:
    graph = build(net, weights)
    made = stock(net, graph)
    changed = build(made, weights)
    assert changed.outputs == graph.outputs
    after = run(changed)
    for blob, before in run(graph).items():
        torch.testing.assert_close(after[blob], before, rtol=0, atol=0, equal_nan=True)
    return made, changed


@pytest.mark.parametrize("case", WITH_AXPY)
def test_every_blob_keeps_its_numbers(case: str) -> None:
    folder = GOLDEN / case
    net = inference(read_prototxt(folder / "deploy.prototxt"), Options())
    made, _ = same_numbers(net, read_caffemodel(folder / "net.caffemodel"))
    axpys = [layer.name for layer in net.layers if layer.type == "Axpy"]
    assert axpys
    assert not [layer for layer in made.layers if layer.type == "Axpy"]
    assert {layer.type for layer in made.layers if layer.name in axpys} == {"Eltwise"}


def test_the_layers_that_are_written(tmp_path: Path) -> None:
    files = write(tmp_path)
    net = definition(tmp_path, SE_NET)
    made, _ = same_numbers(net, read_caffemodel(files.caffemodel))
    found = [(layer.name, layer.type, layer.bottoms, layer.tops, dict(layer.params)) for layer in made.layers[8:11]]
    assert found == [
        ("axpy/gate", "Reshape", ("down",), ("axpy/gate",), {"reshape_param": {"shape": {"dim": (0, 0)}}}),
        ("axpy/scale", "Scale", ("conv", "axpy/gate"), ("axpy/scale",), {"scale_param": {"axis": 0}}),
        ("axpy", "Eltwise", ("axpy/scale", "conv"), ("sum",), {"eltwise_param": {"operation": "SUM"}}),
    ]


def test_a_flat_gate_needs_no_reshape_and_taken_names_are_left_alone(tmp_path: Path) -> None:
    text = INPUT + (
        'layer { name: "axpy/scale" type: "Pooling" bottom: "data" top: "axpy/gate"\n'
        "pooling_param { pool: AVE global_pooling: true } }\n"
        'layer { name: "flat" type: "Flatten" bottom: "axpy/gate" top: "flat" }\n'
        'layer { name: "axpy" type: "Axpy" bottom: "flat" bottom: "data" bottom: "data" top: "axpy/scale" }\n'
        'layer { name: "more" type: "Axpy" bottom: "axpy/gate" bottom: "data" bottom: "axpy/scale" top: "end" }\n'
    )
    net = definition(tmp_path, text)
    made, _ = same_numbers(net, NetDef("", "", ()))
    assert [(layer.name, layer.type, layer.tops) for layer in made.layers[3:]] == [
        ("axpy/scale_2", "Scale", ("axpy/scale_2",)),
        ("axpy", "Eltwise", ("axpy/scale",)),
        ("more/gate", "Reshape", ("more/gate",)),
        ("more/scale", "Scale", ("more/scale",)),
        ("more", "Eltwise", ("end",)),
    ]
