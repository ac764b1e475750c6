"""Faults that converters have, put into a graph: what the check must catch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from senet_convert.converter.graph.graph import Graph
from senet_convert.converter.layers.base import Emitter
from senet_convert.converter.layers.combine import Axpy
from senet_convert.converter.layers.convolution import Convolution, InnerProduct
from senet_convert.converter.layers.normalise import BatchNorm
from senet_convert.converter.layers.pooling import Pooling

from .random_nets import FACTOR

Random = np.random.Generator
Array = NDArray[np.float32]


class PadLeftOut(Pooling):
    """An average that is divided by the cells of the map in each window: its padding is left out."""

    def torch(self, bottoms: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The right average, without the share of the padding."""
        share = super().torch([torch.ones_like(bottoms[0])], weights)[0]
        return (super().torch(bottoms, weights)[0] / share,)

    def onnx(self, emit: Emitter, bottoms: Sequence[str], weights: Sequence[str]) -> tuple[str, ...]:
        """The same in ONNX."""
        ones = torch.ones(1, 1, *emit.shape(bottoms[0])[2:])
        share = emit.constant(super().torch([ones], [])[0].numpy())
        return (emit("Div", [super().onnx(emit, bottoms, weights)[0], share]),)


def _nodes_of(graph: Graph, *kinds: type) -> list[int]:
    return [i for i, node in enumerate(graph.nodes) if type(node.layer) in kinds]


def _with_node(graph: Graph, i: int, **changes: object) -> Graph:
    nodes = list(graph.nodes)
    nodes[i] = replace(nodes[i], **changes)  # type: ignore[arg-type]
    return replace(graph, nodes=tuple(nodes))


def _with_array(graph: Graph, key: str, change: Callable[[Array], Array]) -> Graph:
    arrays = {**graph.accounts.arrays, key: change(np.array(graph.accounts.arrays[key]))}
    return replace(graph, accounts=replace(graph.accounts, arrays=arrays))


def axpy_swapped(graph: Graph, random: Random) -> Graph | None:
    """a·y + x in place of a·x + y."""
    found = [i for i in _nodes_of(graph, Axpy) if graph.nodes[i].inputs[1] != graph.nodes[i].inputs[2]]
    if not found:
        return None
    i = int(random.choice(found))
    a, x, y = graph.nodes[i].inputs
    return _with_node(graph, i, inputs=(a, y, x))


def _pooling(graph: Graph, random: Random, wanted: Callable[[Pooling], bool]) -> int | None:
    layers = {i: graph.nodes[i].layer for i in _nodes_of(graph, Pooling)}
    found = [i for i, layer in layers.items() if isinstance(layer, Pooling) and wanted(layer)]
    return int(random.choice(found)) if found else None


def floor_for_ceil(graph: Graph, random: Random) -> Graph | None:
    """A pooling rounds down."""
    i = _pooling(graph, random, lambda layer: not layer.global_pooling)
    if i is None:
        return None
    return _with_node(graph, i, layer=replace(graph.nodes[i].layer, round_mode="FLOOR"))  # type: ignore[call-arg]


def pad_not_counted(graph: Graph, random: Random) -> Graph | None:
    """The padding of an average is left out of its divisor."""
    i = _pooling(graph, random, lambda layer: layer.pool == "AVE" and bool(layer.pad))
    if i is None:
        return None
    return _with_node(graph, i, layer=PadLeftOut(**vars(graph.nodes[i].layer)))


def eps(graph: Graph, random: Random) -> Graph | None:
    """1e-3 in place of 1e-5."""
    found = _nodes_of(graph, BatchNorm)
    if not found:
        return None
    i = int(random.choice(found))
    return _with_node(graph, i, layer=replace(graph.nodes[i].layer, eps=1e-3))  # type: ignore[call-arg]


def factor_ignored(graph: Graph, random: Random) -> Graph | None:
    """BatchNorm's statistics as the file has them."""
    found = _nodes_of(graph, BatchNorm)
    if not found:
        return None
    changed = graph
    for key in graph.nodes[int(random.choice(found))].weights:
        changed = _with_array(changed, key, lambda array: array * np.float32(FACTOR))
    return changed


def _weight(graph: Graph, random: Random) -> str | None:
    found = [graph.nodes[i].weights[0] for i in _nodes_of(graph, Convolution, InnerProduct)]
    return str(random.choice(found)) if found else None


def weight_off(graph: Graph, random: Random) -> Graph | None:
    """One weight, of the larger half, by a thousandth."""
    key = _weight(graph, random)

    def change(array: Array) -> Array:
        flat = array.reshape(-1)
        large = np.flatnonzero(np.abs(flat) >= np.median(np.abs(flat)))
        flat[random.choice(large)] *= np.float32(1.001)
        return array

    return _with_array(graph, key, change) if key else None


def channels_swapped(graph: Graph, random: Random) -> Graph | None:
    """Two outputs of a layer exchanged."""
    key = _weight(graph, random)
    if key is None or len(graph.accounts.arrays[key]) < 2:
        return None
    a, b = random.choice(len(graph.accounts.arrays[key]), 2, replace=False)
    order = np.arange(len(graph.accounts.arrays[key]))
    order[[a, b]] = order[[b, a]]
    return _with_array(graph, key, lambda array: array[order])


def rgb(graph: Graph, _: Random) -> Graph | None:
    """The first convolution's inputs the other way round."""
    first = next((graph.nodes[i] for i in _nodes_of(graph, Convolution) if "data" in graph.nodes[i].inputs), None)
    return _with_array(graph, first.weights[0], lambda array: array[:, ::-1].copy()) if first else None


def bias_missing(graph: Graph, random: Random) -> Graph | None:
    """A layer without its bias."""
    nodes = [graph.nodes[i] for i in _nodes_of(graph, Convolution, InnerProduct)]
    found = [node.weights[1] for node in nodes if len(node.weights) > 1]
    return _with_array(graph, str(random.choice(found)), np.zeros_like) if found else None


def groups_reversed(graph: Graph, random: Random) -> Graph | None:
    """The groups of a convolution in another order."""
    nodes = [graph.nodes[i] for i in _nodes_of(graph, Convolution) if graph.nodes[i].layer.group > 1]  # type: ignore[attr-defined]
    if not nodes:
        return None
    node = nodes[int(random.integers(len(nodes)))]
    group = node.layer.group  # type: ignore[attr-defined]
    return _with_array(graph, node.weights[0], lambda array: np.concatenate(np.split(array, group)[::-1]))


def gate_bias_off(graph: Graph, random: Random) -> Graph | None:
    """One bias, wherever, by a hundredth of itself."""
    nodes = [graph.nodes[i] for i in _nodes_of(graph, Convolution, InnerProduct)]
    found = [node.weights[1] for node in nodes if len(node.weights) > 1]
    if not found:
        return None
    key = str(random.choice(found))
    i = int(random.integers(len(graph.accounts.arrays[key])))

    def change(array: Array) -> Array:
        array[i] *= np.float32(1.01)
        return array

    return _with_array(graph, key, change)


FAULTS: tuple[Callable[[Graph, Random], Graph | None], ...] = (
    axpy_swapped,
    floor_for_ceil,
    pad_not_counted,
    eps,
    factor_ignored,
    weight_off,
    channels_swapped,
    rgb,
    bias_missing,
    gate_bias_off,
    groups_reversed,
)
