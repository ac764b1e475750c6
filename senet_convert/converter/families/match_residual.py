"""Recognises SE-ResNet, SE-ResNeXt and SENet in a graph."""

from __future__ import annotations

from ..graph.graph import Graph, Node
from ..layers.activation import ReLU
from ..layers.combine import Axpy, Scale
from ..layers.normalise import BatchNorm
from .activations import Tap
from .blocks import Conv
from .matching import Match, Walk, ratios, require
from .residual import Block, ResidualConfig, SEResidualNet, Stage


def match_residual(net: type[SEResidualNet], graph: Graph) -> Match:
    """The graph as one of the family of `net`. Raises MatchError."""
    walk = Walk(graph)
    stem, x = _stem(walk)
    pool0, x = walk.pool(walk.reader(x), x, "pool0")
    require(pool0.kind == "max", "the stem's pool takes the average")
    stages, x = _stages(walk, x, net.strided)
    head = walk.head(x)
    config = ResidualConfig(
        stem=stem,
        stages=stages,
        pool0=pool0,
        avg_pool=head.avg_pool,
        pooled=head.pooled,
        num_classes=head.num_classes,
        in_channels=graph.shapes[graph.inputs[0]][1],
        dropout=head.dropout,
        eps=walk.finish(),
    )
    require(net.fits(config), f"not {net.family}")
    return Match(net.family, _summary(net.family, config), config, walk.names, walk.taps, head.logits)


def _summary(family: str, config: ResidualConfig) -> str:
    groups = {block.groups for block in config.blocks()}
    parts = [
        family,
        f"stages {'-'.join(str(len(blocks)) for blocks in config.stages)}",
        *([f"cardinality {' or '.join(map(str, sorted(groups)))}"] if groups != {1} else []),
        f"squeeze {ratios([(block.widths[2], block.squeeze) for block in config.blocks()])}",
        f"{config.num_classes} classes",
    ]
    return ", ".join(parts)


def _stem(walk: Walk) -> tuple[tuple[Conv, ...], str]:
    """Convolutions up to the pool: layer0."""
    x = walk.start()
    walk.taps[x] = Tap("layer0", entering=True)
    stem: list[Conv] = []
    while not stem or walk.reader(x).type == "Convolution":
        i = len(stem) + 1
        conv, x = walk.conv_norm(walk.reader(x), x, f"layer0.conv{i}", f"layer0.bn{i}")
        x = walk.relu(x, Tap(f"layer0.relu{i}"))
        require(conv.groups == 1, "the stem has groups")
        stem.append(conv)
    return tuple(stem), x


def _stages(walk: Walk, x: str, strided: int) -> tuple[tuple[Stage, ...], str]:
    """Bottlenecks up to the last pool. A projection on the shortcut begins a stage."""
    stages: list[list[Block]] = []
    while len(walk.readers[x]) > 1:
        main, projection = _paths(walk, x)
        if projection is not None or not stages:
            stages.append([])
        path = f"layer{len(stages)}.{len(stages[-1])}"
        block, x = _bottleneck(walk, x, main, projection, path, strided)
        stages[-1].append(block)
    require(bool(stages), "no bottleneck")
    return tuple(map(tuple, stages)), x


def _paths(walk: Walk, x: str) -> tuple[Node, Node | None]:
    """The first nodes of a bottleneck's branch and of its shortcut; None where the shortcut is the identity."""
    convs = [node for node in walk.readers[x] if node.type == "Convolution"]
    mains = [node for node in convs if _leads(walk, node, BatchNorm, Scale, ReLU)]
    require(len(walk.readers[x]) == 2 and len(mains) == 1, f"'{x}' does not branch into a bottleneck")
    projections = [node for node in convs if node is not mains[0]]
    return mains[0], projections[0] if projections else None


def _leads(walk: Walk, node: Node, *kinds: type) -> bool:
    """Whether layers of these types follow a node."""
    for kind in kinds:
        node = walk.reader(node.outputs[0])
        if type(node.layer) is not kind:
            return False
    return True


def _bottleneck(walk: Walk, x: str, main: Node, projection: Node | None, path: str, strided: int) -> tuple[Block, str]:
    conv1, y = walk.conv_norm(main, x, f"{path}.conv1", f"{path}.bn1")
    y = walk.relu(y, Tap(f"{path}.relu", 0))
    conv2, y = walk.conv_norm(walk.reader(y), y, f"{path}.conv2", f"{path}.bn2")
    y = walk.relu(y, Tap(f"{path}.relu", 1))
    conv3, y = walk.conv_norm(walk.reader(y), y, f"{path}.conv3", f"{path}.bn3")
    squeeze, gate = walk.gate(y, f"{path}.se_module")
    shortcut, down = x, None
    if projection is not None:
        down, shortcut = walk.conv_norm(projection, x, f"{path}.downsample.0", f"{path}.downsample.1")
    axpy = walk.reader(gate)
    walk.take(axpy, Axpy, gate, y, shortcut)
    total = walk.output(axpy, Tap(f"{path}.relu", 2, entering=True))
    out = walk.relu(total, Tap(f"{path}.relu", 2))
    block = Block(
        widths=(conv1.width, conv2.width, conv3.width),
        squeeze=squeeze,
        stride=conv1.stride if strided == 1 else conv2.stride,
        groups=conv2.groups,
        downsample=down.kernel if down is not None and isinstance(down.kernel, int) else None,
    )
    described = (*block.convs(strided), block.projection())
    require((conv1, conv2, conv3, down) == described, f"'{out}' is another kind of bottleneck")
    require(block.downsample in (None, 1, 3), f"the projection before '{out}' has another kernel")
    require(down is not None or block.stride == 1, f"'{out}' strides without a projection")
    return block, out
