"""Recognising structure: a walk over a graph that accounts for every node and every weight, or raises MatchError.

Names of layers and files play no part. A parameter that the PyTorch module would not honour is a mismatch: what matches
computes what Caffe computes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from ..graph.graph import Graph, Node
from ..layers import Layer
from ..layers.activation import ReLU, Sigmoid
from ..layers.combine import Scale
from ..layers.convolution import Convolution, InnerProduct
from ..layers.normalise import BatchNorm, Softmax
from ..layers.pooling import Pooling
from .activations import Tap
from .blocks import GLOBAL_POOL, Conv, Pool, Size

# Caffe's names of weights -> those of torch's modules, where they differ
TORCH_NAMES = {"mean": "running_mean", "variance": "running_var"}

L = TypeVar("L", bound=Layer)


class MatchError(Exception):
    """The graph is not of the family at hand."""


@dataclass(frozen=True)
class Match:
    """A graph recognised as one of a family.

    config  what the family's module is built from
    names   key of a weight of the graph -> key in the module's state_dict; every key exactly once
    taps    value of the graph -> where it appears in a run of the module
    logits  the value that the module returns
    """

    family: str
    summary: str
    config: Any
    names: Mapping[str, str]
    taps: Mapping[str, Tap]
    logits: str


@dataclass(frozen=True)
class Head:
    """The end of a network: average pool, classifier, and a softmax or nothing."""

    avg_pool: Pool
    pooled: Size
    num_classes: int
    dropout: float
    logits: str


def require(holds: bool, what: str) -> None:
    """Raise MatchError unless it holds."""
    if not holds:
        raise MatchError(what)


def size(sides: tuple[int, ...]) -> Size:
    """One number where height and width agree."""
    height, width = sides
    return height if height == width else (height, width)


def ratios(pairs: list[tuple[int, int]]) -> str:
    """'1/16', or '1/4 to 1/8', for pairs of (channels, squeezed channels)."""
    found = sorted({channels / squeeze for channels, squeeze in pairs})
    return " to ".join(f"1/{ratio:.3g}" for ratio in dict.fromkeys((found[0], found[-1])))


class Walk:
    """One walk over a graph: what was visited, and where its weights and values lie in the module."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.readers = graph.readers
        self.visited: set[str] = set()
        self.names: dict[str, str] = {}
        self.taps: dict[str, Tap] = {}
        self.eps: set[float] = set()

    def start(self) -> str:
        """The input: there is one, of images."""
        require(len(self.graph.inputs) == 1, "several inputs")
        value = self.graph.inputs[0]
        require(len(self.graph.shapes[value]) == 4, "the input is not (N, C, H, W)")
        return value

    def reader(self, value: str) -> Node:
        """The only node that reads a value."""
        require(len(self.readers[value]) == 1, f"'{value}' has {len(self.readers[value])} readers, not 1")
        return self.readers[value][0]

    def take(self, node: Node, kind: type[L], *inputs: str) -> L:
        """The layer of a node that is of this type and reads just these values; the node is accounted for."""
        fits = type(node.layer) is kind and node.inputs == inputs and len(node.outputs) == 1
        require(fits and node.outputs[0] not in self.visited, f"layer '{node.name}' is not the {kind.__name__} wanted")
        self.visited.add(node.outputs[0])
        return cast(L, node.layer)

    def output(self, node: Node, tap: Tap) -> str:
        """The node's value, which lies at this tap."""
        self.taps[node.outputs[0]] = tap
        return node.outputs[0]

    def _weights(self, node: Node, path: str) -> None:
        for key, name in zip(node.weights, node.layer.names(len(node.weights)), strict=True):
            require(key not in self.names, f"layers share the weight '{key}'")
            self.names[key] = f"{path}.{TORCH_NAMES.get(name, name)}"

    # ---- layers ------------------------------------------------------------------------------------------------------

    def convolution(self, node: Node, x: str, path: str, bias: bool = False) -> tuple[Conv, str]:
        """A convolution of x; what it is, and its value."""
        layer = self.take(node, Convolution, x)
        kernel, stride, padding, dilation = layer.spatial(2)
        require(layer.bias_term == bias, f"layer '{node.name}' has bias_term {layer.bias_term}")
        require(layer.axis in (1, -3) and set(dilation) == {1}, f"layer '{node.name}' is dilated, or not over H and W")
        require(not layer.one_sided, f"layer '{node.name}' pads each side by itself")
        require(not any(layer.overhang(self.graph.shapes[x][2:])), f"the kernel of layer '{node.name}' exceeds its map")
        self._weights(node, path)
        conv = Conv(layer.num_output, size(kernel), size(stride), size(padding), layer.group)
        return conv, self.output(node, Tap(path))

    def norm(self, x: str, path: str) -> str:
        """BatchNorm and the Scale that Caffe needs for its learned half: one torch module."""
        statistics = self.reader(x)
        norm = self.take(statistics, BatchNorm, x)
        require(not norm.scale_bias, f"layer '{statistics.name}' scales by itself")
        self.eps.add(norm.eps)
        self._weights(statistics, path)
        normal = statistics.outputs[0]
        scale = self.reader(normal)
        layer = self.take(scale, Scale, normal)
        per_channel = layer.axis in (1, -3) and layer.num_axes == 1 and layer.bias_term
        require(per_channel, f"layer '{scale.name}' is not a scale and shift of channels")
        self._weights(scale, path)
        return self.output(scale, Tap(path))

    def conv_norm(self, node: Node, x: str, conv: str, norm: str) -> tuple[Conv, str]:
        """Convolution without bias, then batch normalisation."""
        found, value = self.convolution(node, x, conv)
        return found, self.norm(value, norm)

    def relu(self, x: str, tap: Tap) -> str:
        """A ReLU that is zero below zero."""
        node = self.reader(x)
        layer = self.take(node, ReLU, x)
        require(layer.negative_slope == 0 and not layer.relu6, f"layer '{node.name}' is leaky, or cut at 6")
        return self.output(node, tap)

    def pool(self, node: Node, x: str, path: str) -> tuple[Pool, str]:
        """A pool whose windows torch cuts as Caffe does; one window over the whole map is a global pool."""
        layer = self.take(node, Pooling, x)
        require(layer.pool in ("MAX", "AVE"), f"layer '{node.name}' averages without its padding")
        sides = layer.windows(self.graph.shapes[x])
        kernel, stride, padding = (
            size(tuple(getattr(side, name) for side in sides)) for name in ("kernel", "stride", "pad")
        )
        require(all(2 * side.pad <= side.kernel for side in sides), f"layer '{node.name}' pads too much")
        require(all(side.pad == side.after for side in sides), f"layer '{node.name}' pads each side by itself")
        if layer.pool == "MAX":
            require(not layer.global_pooling, f"layer '{node.name}' takes the global maximum")
            require(not any(side.empty for side in sides), f"layer '{node.name}' has an empty window")
            pool = Pool("max", kernel, stride, padding, ceil=layer.rounds_up)
        elif all(side.kernel == side.size and side.pad == 0 for side in sides):
            pool = GLOBAL_POOL
        else:
            whole = all(side.out == (side.size + 2 * side.pad - side.kernel) // side.stride + 1 for side in sides)
            require(whole, f"windows of layer '{node.name}' hang over the map")
            pool = Pool("avg", kernel, stride, padding)
        return pool, self.output(node, Tap(path))

    # ---- groups of layers --------------------------------------------------------------------------------------------

    def gate(self, x: str, path: str) -> tuple[int, str]:
        """Squeeze and excitation of x: how many channels it squeezes to, and the sigmoid's value (N, C, 1, 1)."""
        pools = [node for node in self.readers[x] if isinstance(node.layer, Pooling)]
        require(len(pools) == 1, f"'{x}' has no gate")
        pool, value = self.pool(pools[0], x, f"{path}.avg_pool")
        down, value = self.convolution(self.reader(value), value, f"{path}.fc1", bias=True)
        value = self.relu(value, Tap(f"{path}.relu"))
        up, value = self.convolution(self.reader(value), value, f"{path}.fc2", bias=True)
        wanted = (GLOBAL_POOL, Conv(down.width, 1), Conv(self.graph.shapes[x][1], 1))
        require((pool, down, up) == wanted, f"the gate of '{x}' is another")
        node = self.reader(value)
        self.take(node, Sigmoid, value)
        return down.width, self.output(node, Tap(f"{path}.sigmoid"))

    def head(self, x: str) -> Head:
        """Average pool, classifier with bias, softmax or nothing."""
        pool, value = self.pool(self.reader(x), x, "avg_pool")
        require(pool.kind == "avg", "the last pool takes the maximum")
        node = self.reader(value)
        layer = self.take(node, InnerProduct, value)
        require(not layer.normalize, f"layer '{node.name}' normalises its weight")
        plain = layer.axis in (1, -3) and layer.bias_term and not layer.transpose
        require(plain, f"layer '{node.name}' is not a linear layer with bias over (C, H, W)")
        self._weights(node, "last_linear")
        logits = self.output(node, Tap("last_linear"))
        if self.readers[logits]:
            softmax = self.reader(logits)
            require(self.take(softmax, Softmax, logits).axis in (1, -1), "the softmax is not over the classes")
        require(self.graph.dropouts.keys() <= {value}, "a Dropout stands elsewhere than before the classifier")
        dropout = round(self.graph.dropouts.get(value, 0.0), 6)  # the file holds a float32
        return Head(pool, size(self.graph.shapes[value][2:]), layer.num_output, dropout, logits)

    def finish(self) -> float:
        """Require that nothing of the graph is left; gives the eps of all batch normalisations."""
        left = [node.name for node in self.graph.nodes if not self.visited.issuperset(node.outputs)]
        require(not left, f"layers are left over: {', '.join(left)}")
        require(self.graph.accounts.arrays.keys() <= self.names.keys(), "weights are left over")
        require(len(self.eps) == 1, "batch normalisations have different eps")
        return self.eps.pop()
