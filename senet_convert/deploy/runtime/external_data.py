"""Weights outside a model's file lie in its folder: nothing else of the machine is read because a model says so.

onnxruntime sees to it from 1.27.0 on; 1.24 reads whatever file the values of a sparse initializer name, and memory at
the address that they name. Some of its builds (onnxruntime-openvino) are older: there it is seen to here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

import onnx
from onnx import AttributeProto, GraphProto, NodeProto, TensorProto

from ...errors import ConvertError

CONFINED_FROM = (1, 27)  # onnxruntime's version


def require_confined(path: Path, model: bytes | None, version: str) -> None:
    """Raise ConvertError where `path`, or `model` in its place, names weights that are not in its folder.

    Under an onnxruntime of `version` that sees to it, nothing is done: parsing a large model takes as long as loading.
    """
    if tuple(int(part) for part in version.split(".")[:2]) >= CONFINED_FROM:
        return
    try:
        proto = onnx.load_from_string(model) if model is not None else onnx.load(str(path), load_external_data=False)
    except Exception as fault:  # protobuf's, of several bases
        raise ConvertError(f"{path}: cannot be read as ONNX: {fault}") from fault
    folder = path.parent.resolve()
    for tensor in _tensors(proto):
        for item in tensor.external_data:
            if item.key == "location" and not (folder / item.value).resolve().is_relative_to(folder):
                raise ConvertError(
                    f"{path}: the weights '{tensor.name}' are to be read from '{item.value}', which is not in the "
                    "model's folder; a model from elsewhere must not read other files. Put the file beside the model"
                )
            if item.key == "location" and item.value.startswith("*/_ORT_"):
                raise ConvertError(f"{path}: the weights '{tensor.name}' are to be read from memory, not from a file")


def _tensors(model: onnx.ModelProto) -> Iterator[TensorProto]:
    yield from _of_graph(model.graph)
    for training in model.training_info:
        yield from chain(_of_graph(training.initialization), _of_graph(training.algorithm))
    for function in model.functions:
        yield from _of_nodes(function.node)
        yield from chain.from_iterable(_of_attribute(one) for one in function.attribute_proto)


def _of_graph(graph: GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _of_nodes(graph.node)


def _of_nodes(nodes: Iterable[NodeProto]) -> Iterator[TensorProto]:
    for node in nodes:
        for attribute in node.attribute:
            yield from _of_attribute(attribute)


def _of_attribute(attribute: AttributeProto) -> Iterator[TensorProto]:
    yield from (attribute.t, *attribute.tensors)
    for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
        yield from (sparse.values, sparse.indices)
    for graph in ((attribute.g,) if attribute.HasField("g") else ()) + tuple(attribute.graphs):
        yield from _of_graph(graph)
