"""Layers that decide: ArgMax, Threshold, places of a maximum, detections.

Their tops jump: where two values are as good as equal, or one lies at a limit, float32's error decides, and an engine
that decides otherwise than exact arithmetic is not wrong. So where an engine differs at such a top, or behind it, the
top is judged from the engine's own bottoms: what the layer gives for them in float64 must be what the engine has. It
then takes the truth's place, for that engine, at this top and in all that is computed from it. The bottoms themselves
are judged as all blobs are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper
from torch import Tensor

from ...deploy.runtime.session import Session
from ..graph.graph import Graph
from ..runner import GraphModule
from .runs import jumping

Array = NDArray[Any]

EQUAL = 2e-6  # of the largest value: from equal bottoms, what a layer gives differs by its own rounding only


class Side:
    """The truth on one engine's side. `values` are the engine's, by value of the graph, the network's inputs too."""

    def __init__(self, runner: GraphModule, engine: str, values: Mapping[str, Array]) -> None:
        self.ties: list[str] = []  # in words, where the engine decides otherwise than exact arithmetic, and may
        self._runner = runner
        self._engine = engine
        self._values = values
        self._jumps = jumping(runner.graph)

    def decide(self, value: str, exact: Tensor) -> Tensor:
        """What counts as true at a value that jumps: `exact`, or what the engine's own bottoms give."""
        own = self._values.get(value)
        node, i = self._jumps[value]
        if own is None or _equal(own, exact.numpy()) or any(name not in self._values for name in node.inputs):
            return exact
        bottoms = [torch.from_numpy(self._values[name]).double() for name in node.inputs]
        weights = self._runner.weights_of(node, torch.float64)
        for layer in node.layer.nearby():
            found = layer.torch(bottoms, weights)[i]
            if _equal(own, found.numpy()):
                self.ties.append(
                    f"layer '{node.name}' ({node.type}): {self._engine} decides otherwise than exact arithmetic, by "
                    "bottoms that differ within their budgets; it is judged from these"
                )
                return found
        return exact


def _equal(one: Array, other: Array) -> bool:
    if one.shape != other.shape:
        return False
    scale = np.abs(other[np.isfinite(other)]).max(initial=0.0)
    return bool(np.allclose(one, other, rtol=0, atol=EQUAL * scale, equal_nan=True))


def needed(graph: Graph) -> list[str]:
    """The values that a side is taken by: those that jump, with the bottoms of their layers."""
    jumps = jumping(graph)
    values = dict.fromkeys(value for node, _ in jumps.values() for value in node.inputs) | dict.fromkeys(jumps)
    return [value for value in values if value not in graph.inputs]


def run_onnx(path: Path, graph: Graph, feeds: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
    """The outputs of an ONNX file by name, several runs as those of one batch."""
    session = Session(path, arena=False)
    runs = [session.run(feed) for feed in feeds]
    return {name: _joined(graph, graph.blobs.get(name, name), [run[name] for run in runs]) for name in runs[0]}


def by_value(graph: Graph, outputs: Mapping[str, Array]) -> dict[str, Array]:
    """Outputs by value of the graph."""
    return {graph.blobs.get(name, name): array for name, array in outputs.items()}


def _joined(graph: Graph, value: str, parts: Sequence[Array]) -> Array:
    if len(parts) == 1:
        return parts[0]
    layers = [node.layer for node in graph.nodes if value in node.outputs]
    if layers and layers[0].open_axes:
        return layers[0].joined(parts)
    return np.concatenate(parts) if graph.batched[value][:1] == (None,) else parts[0]


def exposed(
    path: Path, graph: Graph, feeds: Sequence[Mapping[str, Array]], outputs: Mapping[str, Array]
) -> dict[str, Array]:
    """What `Side` needs to know of an ONNX file that gives `outputs`, by value of the graph.

    Values that are no outputs of it are made outputs of a copy; where the copy computes other outputs, it tells nothing
    about the file.
    """
    model = onnx.load(str(path), load_external_data=False)
    given = {graph.blobs.get(item.name, item.name) for item in model.graph.output}
    made = {name for node in model.graph.node for name in node.output}
    hidden = [value for value in needed(graph) if value not in given and value in made]
    if not hidden:
        return dict(outputs)
    model.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in hidden)
    copy = path.with_name(f"exposed-{path.name}")
    try:
        copy.write_bytes(model.SerializeToString())
        values = by_value(graph, run_onnx(copy, graph, feeds))
    finally:
        copy.unlink(missing_ok=True)
    same = all(np.array_equal(values[value], outputs[value], equal_nan=True) for value in outputs if value in values)
    return {**values, **outputs} if same else dict(outputs)
