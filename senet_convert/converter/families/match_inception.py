"""Recognises SE-BN-Inception in a graph."""

from __future__ import annotations

from ..graph.graph import Graph, Node
from ..layers.combine import Concat, Scale
from ..layers.shape import Reshape
from .activations import Tap
from .matching import Match, Walk, ratios, require
from .se_bn_inception import InceptionBlock, SEBNInception, SEBNInceptionConfig, Unit, block_name


def match_inception(graph: Graph) -> Match:
    """The graph as an SE-BN-Inception. Raises MatchError."""
    walk = Walk(graph)
    stem, x = _stem(walk)
    blocks: list[InceptionBlock] = []
    squeezes: list[tuple[int, int]] = []
    while len(walk.readers[x]) > 1:
        block, x = _block(walk, x, f"blocks.{block_name(blocks)}")
        blocks.append(block)
        squeezes.append((graph.shapes[x][1], block.squeeze))
    require(bool(blocks), "no inception block")
    head = walk.head(x)
    config = SEBNInceptionConfig(
        stem=stem,
        blocks=tuple(blocks),
        avg_pool=head.avg_pool,
        pooled=head.pooled,
        num_classes=head.num_classes,
        in_channels=graph.shapes[graph.inputs[0]][1],
        dropout=head.dropout,
        eps=walk.finish(),
    )
    family = SEBNInception.family
    summary = f"{family}, {len(blocks)} blocks, squeeze {ratios(squeezes)}, {config.num_classes} classes"
    return Match(family, summary, config, walk.names, walk.taps, head.logits)


def _stem(walk: Walk) -> tuple[tuple[Unit, ...], str]:
    """Units up to where the paths part."""
    x = walk.start()
    walk.taps[x] = Tap("stem", entering=True)
    stem: list[Unit] = []
    while len(walk.readers[x]) == 1:
        unit, x = _unit(walk, walk.reader(x), x, f"stem.{len(stem)}")
        stem.append(unit)
    require(bool(stem), "no stem")
    return tuple(stem), x


def _unit(walk: Walk, node: Node, x: str, path: str) -> tuple[Unit, str]:
    """A pool, or a convolution with batch normalisation and ReLU."""
    if node.type == "Pooling":
        return walk.pool(node, x, path)
    conv, x = walk.conv_norm(node, x, f"{path}.conv", f"{path}.bn")
    return conv, walk.relu(x, Tap(f"{path}.relu"))


def _block(walk: Walk, x: str, path: str) -> tuple[InceptionBlock, str]:
    concat, starts = _meeting(walk, x)
    branches: list[tuple[Unit, ...]] = []
    for node in starts:
        value, units = x, list[Unit]()
        while node is not concat:
            unit, value = _unit(walk, node, value, f"{path}.branches.{len(branches)}.{len(units)}")
            units.append(unit)
            node = walk.reader(value)
        branches.append(tuple(units))
    layer = walk.take(concat, Concat, *concat.inputs)
    axis = layer.axis if layer.axis is not None else layer.concat_dim
    require(axis in (None, 1, -3), f"layer '{concat.name}' does not join channels")
    joined = walk.output(concat, Tap(f"{path}.se_module", entering=True))
    squeeze, gate = walk.gate(joined, f"{path}.se_module")
    return InceptionBlock(tuple(branches), squeeze), _scaled(walk, joined, gate, f"{path}.se_module")


def _meeting(walk: Walk, x: str) -> tuple[Node, list[Node]]:
    """The Concat where the paths from x meet, and each path's first node in the order of its bottoms."""
    starts: dict[str, Node] = {}
    meetings: dict[str, Node] = {}
    for start in walk.readers[x]:
        node, value = start, x
        while node.type != "Concat":
            value = node.outputs[0]
            node = walk.reader(value)
        starts[value] = start
        meetings[node.outputs[0]] = node
    require(len(meetings) == 1, f"the paths from '{x}' do not meet")
    concat = next(iter(meetings.values()))
    complete = len(concat.inputs) == len(starts) and starts.keys() == set(concat.inputs) and x not in starts
    require(complete, f"layer '{concat.name}' joins something else than the paths from '{x}'")
    return concat, [starts[value] for value in concat.inputs]


def _scaled(walk: Walk, joined: str, gate: str, path: str) -> str:
    """Caffe scales by a second bottom (N, C), which Reshape makes of the gate."""
    node = walk.reader(gate)
    walk.take(node, Reshape, gate)
    shape = walk.graph.shapes
    require(shape[node.outputs[0]] == shape[gate][:2], f"layer '{node.name}' does not flatten the gate")
    flat = walk.output(node, Tap(f"{path}.sigmoid", flat=True))
    scale = walk.reader(flat)
    layer = walk.take(scale, Scale, joined, flat)
    require(layer.axis in (0, -4) and not layer.bias_term, f"layer '{scale.name}' does not scale by the gate alone")
    return walk.output(scale, Tap(path))
