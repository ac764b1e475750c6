"""A network at another input size: poolings that cover their whole map do so at every size."""

from __future__ import annotations

from dataclasses import replace

from ...errors import ConvertError
from ...proto import LayerDef, NetDef
from ..layers.base import times
from ..layers.pooling import Pooling
from .build import build
from .draft import Options
from .graph import Graph, Node

GLOBAL = {"pooling_param": {"pool": "AVE", "global_pooling": True}}


def resized(net: NetDef, options: Options, size: int) -> tuple[NetDef, Options, tuple[str, ...]]:
    """`net` for pictures of `size` x `size`, the options that go with it, and what was changed, in words.

    AVE poolings whose fixed kernel covers the whole map become global. Raises ConvertError where the network has no
    image input, or its last AVE pooling is neither such a one nor global.
    """
    plain = build(net, None, options)
    shape = plain.shapes[plain.inputs[0]]
    if len(plain.inputs) != 1 or len(shape) != 4:
        raise ConvertError(f"{net.source}: --size is for a network with one input (N, C, H, W)")
    poolings = [node for node in plain.nodes if isinstance(node.layer, Pooling) and node.layer.pool == "AVE"]
    covering = [node for node in poolings if _covers(plain, node)]
    last = poolings[-1] if poolings else None
    if last is None or not (last in covering or getattr(last.layer, "global_pooling", False)):
        raise ConvertError(f"{net.source}: --size {size}: {_reason(plain, last)}")
    changed = {(node.name, node.outputs[0].partition("@")[0]) for node in covering}
    layers = tuple(_made_global(layer, changed) for layer in net.layers)
    given = {**options.input_shapes, plain.inputs[0]: (*shape[:2], size, size)}
    notes = tuple(
        f"--size {size}: layer '{node.name}' covered its whole map of {times(plain.shapes[node.inputs[0]][2:])}; it is "
        "made global, to cover the new one too"
        for node in covering
    )
    return replace(net, layers=layers), replace(options, input_shapes=given), notes


def _covers(plain: Graph, node: Node) -> bool:
    """Is it one fixed window, without padding, over a map of more than one cell?"""
    layer, space = node.layer, plain.shapes[node.inputs[0]][2:]
    if not isinstance(layer, Pooling) or layer.global_pooling or set(space) == {1}:
        return False
    return all(side.out == 1 and side.pad == 0 and side.kernel >= side.size for side in layer.windows((1, 1, *space)))


def _made_global(layer: LayerDef, changed: set[tuple[str, str]]) -> LayerDef:
    if layer.type == "Pooling" and (layer.name, *layer.tops[:1]) in changed:
        return replace(layer, params=GLOBAL)
    return layer


def _reason(plain: Graph, last: Node | None) -> str:
    if last is None:
        return "the network has no AVE pooling that could cover a map of another size; it works at its own size only"
    maps = " to ".join(times(plain.shapes[value][2:]) for value in (last.inputs[0], last.outputs[0]))
    return (
        f"the last AVE pooling, layer '{last.name}', goes from {maps} and does not cover its whole map, so it cannot "
        "be made global; the network works at its own size only"
    )
