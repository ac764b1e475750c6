"""A network for a Caffe without the SENet authors' Axpy layer."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

from ...proto import LayerDef, NetDef
from ..graph.graph import Graph
from .definition import free_name

_COPY_TWO = MappingProxyType({"reshape_param": {"shape": {"dim": (0, 0)}}})  # (N, C, 1, 1) -> (N, C)
_FROM_FIRST = MappingProxyType({"scale_param": {"axis": 0}})
_SUM = MappingProxyType({"eltwise_param": {"operation": "SUM"}})


def stock(net: NetDef, graph: Graph) -> NetDef:
    """The definition with every Axpy as Scale and Eltwise; `graph` is its graph. Blobs keep names and numbers.

    Scale does not broadcast over axes of length 1: a gate (N, C, 1, 1) is reshaped to (N, C) first.
    """
    axpys = iter([node for node in graph.nodes if node.type == "Axpy"])
    blobs = {blob for layer in net.layers for blob in (*layer.tops, *layer.bottoms)}
    names = {layer.name for layer in net.layers}
    layers: list[LayerDef] = []
    for layer in net.layers:
        if layer.type != "Axpy":
            layers.append(layer)
            continue
        rank = len(graph.shapes[next(axpys).inputs[0]])
        layers += _scale_and_add(layer, rank, names, blobs)
    return replace(net, layers=tuple(layers))


def _scale_and_add(axpy: LayerDef, gate_rank: int, names: set[str], blobs: set[str]) -> list[LayerDef]:
    gate, x, y = axpy.bottoms
    found: list[LayerDef] = []
    if gate_rank != 2:
        flat = free_name(f"{axpy.name}/gate", blobs)
        found.append(LayerDef(free_name(f"{axpy.name}/gate", names), "Reshape", (gate,), (flat,), _COPY_TWO))
        gate = flat
    scaled = free_name(f"{axpy.name}/scale", blobs)
    found.append(LayerDef(free_name(f"{axpy.name}/scale", names), "Scale", (x, gate), (scaled,), _FROM_FIRST))
    return [*found, replace(axpy, type="Eltwise", bottoms=(scaled, y), params=_SUM)]
