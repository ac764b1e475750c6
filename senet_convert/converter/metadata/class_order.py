"""Makes a network number the ILSVRC2012 classes in another order, by permuting the classifier itself.

The numbers stay what they are, bit for bit; they only change places. A network that is used beside others then needs no
translation of class numbers behind it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...deploy.labels.classes import ORDERS, Classes, renumbering
from ...errors import ConvertError
from ..graph.graph import Graph, Node


def speak(graph: Graph, classes: Classes, order: str) -> tuple[Graph, Classes]:
    """The graph with its classifiers permuted to `order`, and its classes; both as they are where that is their order.

    Raises ConvertError: the classes are not known, or an output does not come straight from a classifier.
    """
    if classes.order == order:
        return graph, classes
    if classes.order not in ORDERS.values():
        raise ConvertError(
            "--class-order: nothing tells which ILSVRC2012 class each output stands for now; say it with --labels "
            "devkit or --labels sorted"
        )
    table = np.array(renumbering(order, classes.order))  # new number -> old number
    arrays = dict(graph.accounts.arrays)
    permuted: list[str] = []
    for output in graph.outputs:
        node = _classifier(graph, graph.blobs[output], output)
        if node.name not in permuted:
            permuted.append(node.name)
            for key in node.weights:
                arrays[key] = _permuted(node, arrays[key], table)
    note = f"the classes of {', '.join(permuted)} are put in the order '{order}'; the caffemodel has '{classes.order}'"
    accounts = replace(graph.accounts, arrays=arrays)
    labels = tuple(classes.labels[old] for old in table)
    wnids = tuple(classes.wnids[old] for old in table)
    return replace(graph, accounts=accounts, warnings=(*graph.warnings, note)), Classes(labels, wnids, order)


def _classifier(graph: Graph, value: str, output: str) -> Node:
    """The layer whose rows are the classes of an output. Nothing but that output may depend on it."""
    producers = {made: node for node in graph.nodes for made in node.outputs}
    while (node := producers.get(value)) is not None and node.layer.keeps_class_order and _keeps_classes(graph, node):
        value = node.inputs[0]
        readers = {reader.name for reader in graph.readers[value]}
        if len(readers) > 1:
            raise ConvertError(
                f"--class-order: the classes at '{value}' are read by several layers ({', '.join(sorted(readers))}); "
                "their order cannot be changed"
            )
    if node is None or _class_axis(graph, node) is None or len(node.outputs) > 1 or _shared(graph, node):
        kind = f"layer '{node.name}' ({node.type})" if node else "an input"
        raise ConvertError(f"--class-order: the output '{output}' comes from {kind}, not straight from a classifier")
    return node


def _keeps_classes(graph: Graph, node: Node) -> bool:
    """Is axis 1 the same before and after, with nothing but ones behind it?"""
    shapes = [graph.shapes[node.inputs[0]], graph.shapes[node.outputs[0]]]
    return all(len(shape) > 1 and shape[1] == shapes[0][1] and set(shape[2:]) <= {1} for shape in shapes)


def _class_axis(graph: Graph, node: Node) -> int | None:
    """The axis of the classes in the node's first weight; None where it is no classifier."""
    return node.layer.class_axis(graph.accounts.arrays[node.weights[0]].shape) if node.weights else None


def _shared(graph: Graph, node: Node) -> bool:
    """Does another layer use its weights?"""
    others = {key for other in graph.nodes if other is not node for key in other.weights}
    mine = [graph.accounts.arrays[key] for key in node.weights]
    theirs = [graph.accounts.arrays[key] for key in others]
    return any(np.may_share_memory(a, b) for a in mine for b in theirs)


def _permuted(node: Node, array: NDArray[Any], table: NDArray[Any]) -> NDArray[Any]:
    axis = node.layer.class_axis(array.shape) or 0
    if array.shape[axis] != len(table):
        raise ConvertError(f"--class-order: layer '{node.name}' has {array.shape[axis]} outputs, not {len(table)}")
    return np.ascontiguousarray(np.take(array, table, axis))
