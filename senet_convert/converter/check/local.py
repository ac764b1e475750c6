"""The local error: what a layer itself is off by, whatever came down to it.

A budget holds what errors from above may become, and behind a steep layer or a sum that cancels that is far more than
what plain float32 happens to be off by: a fault of the layers below may hide in it. Where a budget is `WIDE`, what lies
between an engine's own values is therefore judged as a network of its own: its inputs are the engine's values, and
float32's error is what this network makes of them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import torch
from numpy.typing import NDArray

from ..graph.graph import Graph, Node
from ..runner import GraphModule, lower
from .runs import jumping
from .tolerance import FACTOR, FLOOR, GENERIC, BlobCheck, Judged, Local, judged

Array = NDArray[Any]

WIDE = 2.0  # times the budget that plain float32 alone would give: what no other run has widened is no place to hide
GIVEN = "given "  # in front of an engine's value where it is an input


def judged_locally(
    runner: GraphModule, engine: str, values: Mapping[str, Array], found: Mapping[str, Judged]
) -> dict[str, Judged]:
    """What `found` says of wide budgets, with the local error of an engine.

    `values` are the engine's, by value of the graph, and the network's inputs. Those that are not judged themselves are
    taken from nobody: they may be what is wrong.
    """
    given = {value for value in values if value in found or value in runner.graph.inputs}
    wide = [value for value, item in found.items() if _wide(item.check) and engine not in item.faults]
    graph = part(runner.graph, given, [value for value in wide if value in given])
    if not graph.nodes:
        return {}
    tensors = [torch.from_numpy(values[name.removeprefix(GIVEN)]).float() for name in graph.inputs]
    again = judged(lower(graph), tensors, {engine: values}, (), only=graph.blobs.values())
    return {value: _with_local(found[value], engine, item) for value, item in again.items()}


def _wide(blob: BlobCheck) -> bool:
    return blob.budget > WIDE * max(FLOOR, FACTOR * blob.errors[GENERIC])


def _with_local(item: Judged, engine: str, alone: Judged) -> Judged:
    local = Local(alone.check.errors[engine], alone.check.budget)
    return replace(item, check=replace(item.check, local={**item.check.local, engine: local}))


def part(graph: Graph, given: Collection[str], wanted: Collection[str]) -> Graph:
    """The nodes that compute the `wanted` values from those `given` next above; its blobs are the wanted values.

    Left out is what would follow a decision that is not among the given values: either side may be right (`ties`).
    """
    needed, nodes = set(wanted), list[Node]()
    for node in reversed(graph.nodes):
        if needed.intersection(node.outputs):
            nodes.insert(0, node)
            needed.update(name for name in node.inputs if name not in given)
    decided = set(jumping(graph))
    for node in nodes:
        if any(name in decided for name in node.inputs if name not in given):
            decided.update(node.outputs)
    kept = frozenset(wanted) - decided
    if len(kept) < len(wanted):
        return part(graph, given, kept)
    renamed = {name: GIVEN + name for node in nodes for name in node.inputs if name in given}
    keys = {key for node in nodes for key in node.weights}
    return replace(
        graph,
        inputs=tuple(renamed.values()),
        nodes=tuple(replace(node, inputs=tuple(renamed.get(name, name) for name in node.inputs)) for node in nodes),
        shapes={**graph.shapes, **{new: graph.shapes[name] for name, new in renamed.items()}},
        batched={**graph.batched, **{new: graph.batched[name] for name, new in renamed.items()}},
        blobs={blob: value for blob, value in graph.blobs.items() if value in kept},
        accounts=replace(
            graph.accounts, arrays={key: array for key, array in graph.accounts.arrays.items() if key in keys}
        ),
    )
