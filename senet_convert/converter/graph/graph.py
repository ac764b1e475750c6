"""The network as a graph of values: what every later step works on.

Caffe's blobs are memory that layers may overwrite in place; here each writing gives a new value. A value bears its
blob's name when it is what the blob holds at the end, and 'blob@layer' when a later layer overwrites it. Layers that do
nothing at inference (Split, Dropout) leave no node. Splits, reshapes and the like share memory in Caffe: when a layer
overwrites such memory in place, `View` nodes bring the other blobs up to date, so that the numbers are Caffe's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..layers.base import Shape, times
from .draft import Dropped
from .node import Node
from .weights import Accounts, Wanted

__all__ = ["Graph", "Node", "describe"]


@dataclass(frozen=True)
class Graph:
    """A network at inference. `nodes` stand in the order in which Caffe runs them.

    shapes   of every value, for the batch size that the file declares
    batched  of every value with None for axes that grow with the batch (none where the network fixes the batch size),
             and for those whose length only the data tell
    blobs    Caffe's blobs, in its order, with the value that each holds at the end
    wanted   the layers that need weights, with the shapes that they need
    dropouts the values that a Dropout layer passes on, with its ratio: nothing at inference, but of use for fine-tuning
    """

    name: str
    source: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    shapes: Mapping[str, Shape]
    batched: Mapping[str, tuple[int | None, ...]]
    blobs: Mapping[str, str]
    wanted: tuple[Wanted, ...]
    accounts: Accounts
    dropped: tuple[Dropped, ...]
    warnings: tuple[str, ...]
    dropouts: Mapping[str, float] = field(default_factory=dict)

    @property
    def readers(self) -> dict[str, list[Node]]:
        """The nodes that read each value."""
        found: dict[str, list[Node]] = {name: [] for name in self.shapes}
        for node in self.nodes:
            for value in dict.fromkeys(node.inputs):
                found[value].append(node)
        return found

    def needed_for(self, values: Sequence[str]) -> tuple[Node, ...]:
        """The nodes that these values depend on, in order."""
        wanted, kept = set(values), []
        for node in reversed(self.nodes):
            if wanted.intersection(node.outputs):
                kept.append(node)
                wanted.update(node.inputs)
        return tuple(reversed(kept))


def describe(graph: Graph) -> str:
    """'data 1x3x224x224 -> prob 1x1000', for messages."""
    ins = ", ".join(f"{name} {times(graph.shapes[name])}" for name in graph.inputs)
    outs = ", ".join(f"{name} {times(graph.shapes[graph.blobs[name]])}" for name in graph.outputs)
    return f"{ins} -> {outs}"
