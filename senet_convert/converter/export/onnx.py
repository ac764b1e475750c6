"""The graph as an ONNX model, made from the graph itself, so that it is a witness of its own beside the PyTorch net.

Values bear Caffe's blob names, nodes Caffe's layer names. The file is written tensor by tensor: weights go from the
arrays to the disk without a copy of the model in memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, StringStringEntryProto, TensorProto, ValueInfoProto, helper

from ...errors import ConvertError
from ...files import write_in_pieces
from ...proto.wire import head
from ...version import __version__
from ..graph.graph import Graph, Node
from ..layers.base import Shape

Array = NDArray[Any]

OPSETS = range(13, onnx.defs.onnx_opset_version() + 1)
DEFAULT_OPSET = 17
MIN_IR_VERSION = 8  # what opset 17 came with; onnx's own default is newer than onnxruntime accepts
SINGLE_FILE_LIMIT = 2**31 - 1 - (1 << 20)  # protobuf's 2 GiB, less room for the definitions
DATA_SUFFIX = ".data"  # of the file beside a larger model that holds its weights
ALIGNMENT = 4096  # of tensors in the data file, so that a runtime can map them
_CONSTANT_LIMIT = 4096  # bytes; the checker infers shapes from small initializers only

_MODEL_GRAPH, _GRAPH_INITIALIZER, _TENSOR_RAW_DATA = 7, 5, 9  # field numbers of onnx.proto


@dataclass(frozen=True)
class OnnxModel:
    """A model ready to be written: definitions without initializers, and the arrays that become initializers."""

    definition: ModelProto
    initializers: Mapping[str, Array]

    @property
    def nbytes(self) -> int:
        """Bytes of all weights."""
        return sum(array.nbytes for array in self.initializers.values())

    def check(self) -> None:
        """onnx.checker with full shape inference. Raises ConvertError.

        Large weights stand in as typed inputs: their values play no part in it.
        """
        light = ModelProto()
        light.CopyFrom(self.definition)
        for name, array in self.initializers.items():
            if array.nbytes <= _CONSTANT_LIMIT:
                light.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
            else:
                light.graph.input.append(helper.make_tensor_value_info(name, _onnx_type(array), array.shape))
        try:
            onnx.checker.check_model(light, full_check=True)
        except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as fault:
            raise ConvertError(f"the exported ONNX model is not valid: {fault}") from fault

    def write(self, path: Path, single_file_limit: int = SINGLE_FILE_LIMIT) -> None:
        """Write the model to `path`; above the limit the weights go into a data file beside it."""
        if self.nbytes <= single_file_limit:
            with path.open("wb") as file:
                self._write_inline(file)
        else:
            with path.open("wb") as file, data_file(path).open("wb") as data:
                self._write_external(file, data, data_file(path).name)

    def _write_inline(self, file: BinaryIO) -> None:
        """A protobuf message is the sequence of its fields: each initializer is appended as one more."""
        parts: list[bytes | memoryview] = []
        for name, array in self.initializers.items():
            named = TensorProto(name=name, dims=array.shape, data_type=_onnx_type(array)).SerializeToString()
            raw = _bytes_of(array)
            tensor: list[bytes | memoryview] = [named, head(_TENSOR_RAW_DATA, raw.nbytes), raw]
            parts += [head(_GRAPH_INITIALIZER, sum(_size(part) for part in tensor)), *tensor]
        self._write_parts(file, parts)

    def _write_external(self, file: BinaryIO, data: BinaryIO, name_of_data: str) -> None:
        parts: list[bytes | memoryview] = []
        for name, array in self.initializers.items():
            tensor = TensorProto(name=name, dims=array.shape, data_type=_onnx_type(array))
            raw = _bytes_of(array)
            if array.nbytes <= _CONSTANT_LIMIT:
                tensor.raw_data = raw.tobytes()
            else:
                data.write(bytes(-data.tell() % ALIGNMENT))
                place = {"location": name_of_data, "offset": str(data.tell()), "length": str(raw.nbytes)}
                tensor.data_location = TensorProto.EXTERNAL
                tensor.external_data.extend(StringStringEntryProto(key=k, value=v) for k, v in place.items())
                write_in_pieces(data, raw)
            body = tensor.SerializeToString()
            parts += [head(_GRAPH_INITIALIZER, len(body)), body]
        self._write_parts(file, parts)

    def _write_parts(self, file: BinaryIO, initializers: Sequence[bytes | memoryview]) -> None:
        outer = ModelProto()
        outer.CopyFrom(self.definition)
        outer.ClearField("graph")
        graph = self.definition.graph.SerializeToString()
        size = len(graph) + sum(_size(part) for part in initializers)
        for part in [outer.SerializeToString(), head(_MODEL_GRAPH, size), graph, *initializers]:
            write_in_pieces(file, memoryview(part))


def data_file(path: Path) -> Path:
    """Where the weights of a model of more than 2 GiB lie."""
    return path.with_name(path.name + DATA_SUFFIX)


def _bytes_of(array: Array) -> memoryview:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def _size(part: bytes | memoryview) -> int:
    return part.nbytes if isinstance(part, memoryview) else len(part)


def _onnx_type(array: Array) -> int:
    return helper.np_dtype_to_tensor_dtype(array.dtype)


# ---- from the graph --------------------------------------------------------------------------------------------------


def export(
    graph: Graph,
    opset: int = DEFAULT_OPSET,
    outputs: Sequence[str] | None = None,
    metadata: Mapping[str, str] | None = None,
) -> OnnxModel:
    """The ONNX model that computes `outputs` (blob names; default: the network's own outputs).

    The batch axis is dynamic wherever the network leaves it free. Raises ConvertError for blobs that do not exist.
    """
    wanted = list(dict.fromkeys(graph.outputs if outputs is None else outputs))
    unknown = [name for name in wanted if name not in graph.blobs or name in graph.inputs]
    if unknown:
        raise ConvertError(f"no such blob: {', '.join(unknown)}. The network has: {', '.join(all_blobs(graph))}")
    emitter = _Emitter(graph, opset)
    for node in graph.needed_for([graph.blobs[name] for name in wanted]):
        emitter.add(node)
    for name in wanted:
        if graph.blobs[name] != name:  # a second name of a value: what Split or Dropout left
            emitter.nodes.append(helper.make_node("Identity", [graph.blobs[name]], [name], name=name))
    _make_names_unique(emitter.nodes)
    body = GraphProto(name=graph.name or "network", node=emitter.nodes)
    body.input.extend(_value(graph, name, name) for name in graph.inputs if name in emitter.read)
    body.output.extend(_value(graph, name, graph.blobs[name]) for name in wanted)
    imports = [helper.make_opsetid("", opset)]
    model = ModelProto(
        ir_version=max(MIN_IR_VERSION, helper.find_min_ir_version_for(imports)),
        producer_name="senet-convert",
        producer_version=__version__,
        opset_import=imports,
        graph=body,
    )
    helper.set_model_props(model, dict(metadata or {}))
    return OnnxModel(model, emitter.initializers)


def all_blobs(graph: Graph) -> list[str]:
    """Every blob of the network that is not an input, in Caffe's order."""
    return [blob for blob in graph.blobs if blob not in graph.inputs]


def _make_names_unique(nodes: Sequence[NodeProto]) -> None:
    """Layers without weights may share a name, or have none; runtimes want nodes with names of their own."""
    taken: set[str] = set()
    for node in nodes:
        name, number = node.name, 1
        while node.name in taken:
            number += 1
            node.name = f"{name}#{number}"
        taken.add(node.name)


def _value(graph: Graph, name: str, value: str) -> ValueInfoProto:
    shape, free = graph.shapes[value], graph.batched[value]
    dims: list[int | str | None] = list(free)
    first = graph.shapes[graph.inputs[0]]
    if dims and dims[0] is None and shape[0] == first[0]:
        dims[0] = "batch"
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, dims)


class _Emitter:
    """What a layer's `onnx()` writes to; see layers.base.Emitter."""

    def __init__(self, graph: Graph, opset: int) -> None:
        self.opset = opset
        self.nodes: list[NodeProto] = []
        self.initializers: dict[str, Array] = {}
        self.read: set[str] = set()
        self._graph = graph
        self._layer = ""
        self._own: list[NodeProto] = []  # nodes of the current layer
        self._shapes: dict[str, Shape] = dict(graph.shapes)
        self._constants: dict[tuple[str, Shape, bytes], str] = {}
        self._names: set[str] = set(graph.shapes) | set(graph.blobs)

    def add(self, node: Node) -> None:
        self._layer, self._own = node.name or node.type, []
        for key in node.weights:
            self.initializers[key] = self._graph.accounts.arrays[key]
            self._shapes[key] = self.initializers[key].shape
        tops = node.layer.onnx(self, node.inputs, node.weights)
        self.read.update(node.inputs)
        self._name_outputs(dict(zip(tops, node.outputs, strict=True)))
        self.nodes += self._own

    def _name_outputs(self, names: Mapping[str, str]) -> None:
        """Give the layer's results their values' names; a result that is just an input passes through Identity."""
        made = {output for node in self._own for output in node.output}
        for top, name in names.items():
            if top not in made:
                self._own.append(helper.make_node("Identity", [top], [name], name=self._layer))
        for node in self._own:
            for side in (node.input, node.output):
                for i, value in enumerate(side):
                    if value in made and value in names:
                        side[i] = names[value]
        if self._own:
            self._own[-1].name = self._layer

    def __call__(self, op: str, inputs: Sequence[str], **attributes: object) -> str:
        return self.several(op, inputs, 1, **attributes)[0]

    def several(self, op: str, inputs: Sequence[str], count: int, **attributes: object) -> tuple[str, ...]:
        outputs = tuple(self._fresh(f"{self._layer}:{op}") for _ in range(count))
        node = helper.make_node(op, list(inputs), list(outputs), name=outputs[0], **attributes)  # type: ignore[arg-type]
        self._own.append(node)
        return outputs

    def constant(self, array: Array) -> str:
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            name = self._fresh(f"{self._layer}:constant")
            self._constants[key] = name
            self.initializers[name] = np.ascontiguousarray(array).reshape(array.shape)
            self._shapes[name] = array.shape
        name = self._constants[key]
        self.initializers.setdefault(name, array)
        return name

    def shape(self, value: str) -> Shape:
        return self._shapes[value]

    def array(self, weight: str) -> Array:
        return self.initializers[weight]

    def _fresh(self, name: str) -> str:
        unique, number = name, 1
        while unique in self._names:
            number += 1
            unique = f"{name}{number}"
        self._names.add(unique)
        return unique
