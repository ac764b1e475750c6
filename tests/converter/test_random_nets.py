"""Random valid networks: every engine agrees within the check's budget, and layers with their literal models."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch
from hypothesis import HealthCheck, given, settings

from senet_convert.converter.check.compare import Subject, compare
from senet_convert.converter.export.onnx import all_blobs, export
from senet_convert.converter.graph.graph import Graph
from senet_convert.converter.runner import GraphModule, lower, to_tensors
from tests.nets import write

from .layers.running import close
from .random_nets import Net, nets

EXAMPLES = 60  # the same ones each time; for a longer hunt raise it by hand and drop derandomize


def hold_against_models(net: Net, graph: Graph, runner: GraphModule, inputs: dict[str, np.ndarray]) -> None:
    """Each layer that has a model, on the values that it really got."""
    with torch.no_grad():
        values = {name: v.numpy() for name, v in runner.steps(*to_tensors(graph, inputs, torch.float64))}
    for node in graph.nodes:
        model = net.models.get(node.name)
        if model is not None and node.type != "View":
            weights = [graph.accounts.arrays[key].astype(np.float64) for key in node.weights]
            expected = model([values[name] for name in node.inputs], weights)
            close(values[node.outputs[0]], expected, 1e-9, f"{node.name} ({node.type})")


@settings(max_examples=EXAMPLES, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(nets())
def test_random_networks(net: Net) -> None:
    with tempfile.TemporaryDirectory() as folder:
        graph = write(Path(folder), net.text).graph()
        assert {blob: graph.shapes[graph.blobs[blob]] for blob in net.shapes if blob in graph.blobs} == {
            blob: shape for blob, shape in net.shapes.items() if blob in graph.blobs
        }
        runner = lower(graph)
        model = export(graph, outputs=all_blobs(graph))
        model.check()
        path = Path(folder) / "all.onnx"
        model.write(path)
        shape = graph.shapes["data"]
        inputs = {"data": np.random.default_rng(0).normal(0, 1, shape).astype(np.float32)}
        hold_against_models(net, graph, runner, inputs)
        if graph.nodes:
            check = compare(Subject(graph, runner, None, runner, path, path), inputs, "random values")
            assert check.passed, check.faults
