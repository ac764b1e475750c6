"""Runs any graph in PyTorch, value by value: the truth of the check in float64, and the net of unrecognised graphs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .graph.graph import Graph, Node


class GraphModule(nn.Module):
    """A graph as a torch module: `module(x)` gives the output, or a tuple where there are several.

    The weights are float32 parameters named '<layer>/<weight>' (dots, which torch forbids, become underscores). A run
    in another dtype casts each layer's weights as they are needed, so that it does not hold them twice.
    """

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.graph = graph
        self.weights = nn.ParameterDict()
        self._names = parameter_names(graph.accounts.arrays)
        learned = {
            key: name not in node.layer.statistics
            for node in graph.nodes
            for key, name in zip(node.weights, node.layer.names(len(node.weights)), strict=True)
        }
        for key, array in graph.accounts.arrays.items():
            self.weights[self._names[key]] = nn.Parameter(as_tensor(array), requires_grad=learned[key])

    @property
    def names(self) -> dict[str, str]:
        """Weight key of the graph -> name in the state_dict."""
        return state_names(self._names)

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Inputs in the graph's order, each of the shape that the graph says (any batch, where it is free).

        Raises TypeError for another number of them.
        """
        if len(inputs) != len(self.graph.inputs):
            wanted = ", ".join(self.graph.inputs)
            raise TypeError(f"the network takes {len(self.graph.inputs)} inputs ({wanted}), {len(inputs)} were given")
        outputs = {self.graph.blobs[name]: name for name in self.graph.outputs}
        found = {outputs[value]: tensor for value, tensor in self.steps(*inputs) if value in outputs}
        tops = tuple(found[outputs[self.graph.blobs[name]]] for name in self.graph.outputs)
        return tops[0] if len(tops) == 1 else tops

    def steps(
        self, *inputs: Tensor, adjust: Callable[[str, Tensor], Tensor] | None = None
    ) -> Iterator[tuple[str, Tensor]]:
        """Every value as it is computed, inputs first; each is let go when its last reader has run.

        `adjust` changes each result, a value and its tensor, before it is used: how the check asks what a rounding
        more would do.
        """
        live: dict[str, Tensor] = dict(zip(self.graph.inputs, inputs, strict=True))
        yield from list(live.items())
        last = {value: node for node in self.graph.nodes for value in node.inputs}
        for node in self.graph.nodes:
            bottoms = [live[value] for value in node.inputs]
            tops = node.layer.torch(bottoms, self.weights_of(node, inputs[0].dtype))
            for value in node.inputs:
                if last[value] is node:
                    live.pop(value, None)
            for value, top in zip(node.outputs, tops, strict=True):
                result = adjust(value, top) if adjust else top
                if value in last:
                    live[value] = result
                yield value, result

    def weights_of(self, node: Node, dtype: torch.dtype) -> list[Tensor]:
        """The weights of a node, in the dtype that it computes in."""
        return [self.weights[self._names[key]].to(dtype) for key in node.weights]


def parameter_names(keys: Iterable[str]) -> dict[str, str]:
    """Weight key -> name among the parameters of a GraphModule: without dots, and each once."""
    names: dict[str, str] = {}
    taken: set[str] = set()
    for key in keys:
        name = key.replace(".", "_")
        while name in taken:
            name += "_"
        taken.add(name)
        names[key] = name
    return names


def state_names(keys: Iterable[str]) -> dict[str, str]:
    """Weight key -> name in the state_dict of a GraphModule."""
    return {key: f"weights.{name}" for key, name in parameter_names(keys).items()}


def as_tensor(array: NDArray[Any]) -> Tensor:
    """A tensor over the same memory: weights are held once, whoever uses them."""
    return torch.from_numpy(np.require(array, requirements=["C", "W", "A"]))


def lower(graph: Graph) -> GraphModule:
    """The graph as a runnable module in evaluation mode."""
    return GraphModule(graph).eval()


def to_tensors(graph: Graph, arrays: Mapping[str, NDArray[Any]], dtype: torch.dtype) -> list[Tensor]:
    """Named inputs in the graph's order, in the wanted dtype."""
    return [torch.from_numpy(arrays[name]).to(dtype) for name in graph.inputs]
