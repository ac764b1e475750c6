"""A definition and its blobs -> the graph, every fault told at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ...errors import GraphError, Problems, WeightsError, listed
from ...proto import NetDef
from ..layers import LayerFault
from ..layers.base import Shape
from ..layers.registry import merged
from . import passes
from .builder import Builder
from .draft import Options
from .fields import python_class
from .graph import Graph, Node
from .inputs import DATA
from .layer_types import IDENTITIES
from .weights import Accounts, assign


def build(net: NetDef, weights: NetDef | None, options: Options | None = None) -> Graph:
    """The graph of `net` with the blobs of `weights` (None: a graph without weights, to look at).

    Raises GraphError with every problem of the definition and every blob that does not fit; WeightsError where only
    blobs are at fault.
    """
    if net is weights and not any(layer.type for layer in net.layers):
        raise GraphError(
            f"{net.source}: it holds weights but no definitions of layers, as all HDF5 snapshots; "
            "give the network's prototxt with --prototxt"
        )
    problems = Problems(net.source)
    draft = passes.run(net, options or Options(), problems)
    reserved = {*IDENTITIES, *DATA, *passes.LOSSES, *passes.SINKS}
    types = {name for layer in draft.layers for name in (layer.type, python_class(layer)) if name}
    kinds = merged(types, draft.options.layers, reserved)
    builder = Builder(draft, problems, kinds)
    builder.run()
    _refuse_readers_of_open(builder, problems)
    kind = GraphError if problems else WeightsError
    accounts = Accounts()
    if weights is not None:
        accounts = assign(builder.wanted, builder.untold, weights, problems)
        _refuse_unwanted(builder, accounts, weights.source, problems)
    problems.raise_as(kind, builder.advice())
    return _graph(builder, accounts)


def _refuse_unwanted(found: Builder, accounts: Accounts, source: str, problems: Problems) -> None:
    """Blobs of which none lands are another network's. Caffe too refuses some for a layer that takes none: they mean
    that the layer is another one.
    """
    kinds = {node.name: node.type for node in found.nodes}
    if accounts.unused and not found.wanted and not problems and not kinds.keys() & set(accounts.unused):
        ask = ". Is it the prototxt of another network?" if source != found.draft.net.source else ""
        have = listed([name or "(one without a name)" for name in accounts.unused])
        problems.add(f"no layer that runs needs weights, but {source} holds some for {have}{ask}")
    for name in accounts.unused:
        if name in kinds:
            problems.add(
                f"layer '{name}' ({kinds[name]}): {source} holds blobs for it, but with these parameters its "
                "type has none; is it a fork's layer of the same name, which learns?"
            )


def _refuse_readers_of_open(found: Builder, problems: Problems) -> None:
    """Shapes of what is computed from a top of open length would be wrong."""
    opened = {value: node for node in found.nodes if node.layer.open_axes for value in node.outputs}
    for node in found.nodes:
        for source in {opened[value].name: opened[value] for value in node.inputs if value in opened}.values():
            problems.add(
                f"layer '{node.name}' ({node.type}) reads the top of layer '{source.name}' ({source.type}), whose "
                "length only the data tell; leave it out, and work on that output outside of the network"
            )


def _graph(found: Builder, accounts: Accounts) -> Graph:
    """Everything by its public name."""
    names = found.final_names()
    keys = accounts.keys or {
        want.name: tuple(f"{want.name}/{name}" for name in want.layer.names(len(want.shapes))) for want in found.wanted
    }
    shapes = {names[value]: shape for value, shape in found.shapes.items() if shape is not None}
    nodes = tuple(
        replace(
            node,
            inputs=tuple(names[value] for value in node.inputs),
            outputs=tuple(names[value] for value in node.outputs),
            weights=keys.get(node.name, ()) if node.layer.weight_names else (),
            layer=node.layer if accounts.sound else replace(node.layer, sound=False),
        )
        for node in found.nodes
    )
    inputs = tuple(item.blob for item in found.draft.inputs)
    # What shares a name with an input but was overwritten in place keeps its own value name.
    blobs = {blob: names[value] for blob, value in found.current.items() if blob not in inputs or names[value] == blob}
    outputs = tuple(blob if blob in blobs else names[found.current[blob]] for blob in found.unread)
    return Graph(
        name=found.draft.net.name,
        source=found.draft.net.source,
        inputs=inputs,
        outputs=outputs,
        nodes=nodes,
        shapes=shapes,
        batched=_opened(nodes, _batched(nodes, inputs, shapes)),
        blobs={**blobs, **{name: name for name in outputs if name not in blobs}},
        wanted=tuple(found.wanted),
        accounts=accounts,
        dropped=tuple(found.dropped),
        warnings=(*found.warnings, *accounts.warnings),
        dropouts={names[value]: ratio for value, ratio in found.dropouts.items()},
    )


def _batched(
    nodes: Sequence[Node], inputs: Sequence[str], shapes: Mapping[str, Shape]
) -> Mapping[str, tuple[int | None, ...]]:
    """Shapes with None where the first axis follows the batch; as they are where the network fixes its batch size.

    Found by trying: the shapes are inferred once more for a batch one larger. Where the batch ends up in another axis,
    the size counts as fixed: layers may take all axes but the first for constants.
    """
    fixed: dict[str, tuple[int | None, ...]] = dict(shapes)
    if not shapes.get(inputs[0]):
        return fixed
    size = shapes[inputs[0]][0]
    larger: dict[str, Shape] = {
        name: (size + 1, *shapes[name][1:]) if shapes[name] and shapes[name][0] == size else shapes[name]
        for name in inputs
    }
    try:
        for node in nodes:
            bottoms = [larger[value] for value in node.inputs]
            before = [shapes[value] for value in node.inputs]
            if node.layer.weights(bottoms) != node.layer.weights(before):
                return fixed
            larger.update(zip(node.outputs, node.layer.shapes(bottoms), strict=True))
    except LayerFault:
        return fixed
    if any(shape[1:] != larger[name][1:] for name, shape in shapes.items()):
        return fixed
    return {name: (None, *shape[1:]) if shape != larger[name] else shape for name, shape in shapes.items()}


def _opened(
    nodes: Sequence[Node], batched: Mapping[str, tuple[int | None, ...]]
) -> Mapping[str, tuple[int | None, ...]]:
    """With None too for the axes whose length only the data tell."""
    axes = {value: node.layer.open_axes for node in nodes for value in node.outputs if node.layer.open_axes}
    opened = {value: tuple(None if i in axes[value] else dim for i, dim in enumerate(batched[value])) for value in axes}
    return {**batched, **opened}
