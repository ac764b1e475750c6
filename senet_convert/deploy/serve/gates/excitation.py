"""Squeeze-and-excitation blocks in an ONNX graph, found by what they compute and never by a name.

A block is `x * gate(f(pool(x)))` (Hu, Shen and Sun, 2018): a map is multiplied by one factor for each of its channels,
the factor ends in a function between 0 and 1, and it depends on nothing but global poolings of that very map.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper, shape_inference

from ....errors import ConvertError

GATES = ("Sigmoid", "HardSigmoid")
UNCHANGED = ("Identity", "Dropout", "Cast", "QuantizeLinear", "DequantizeLinear")  # the same values, as far as we care
RESHAPED = ("Reshape", "Unsqueeze", "Squeeze", "Flatten", "Expand")
GLOBAL_POOLS = ("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
POOLS = ("AveragePool", "MaxPool", "LpPool")  # global ones where the window covers the map
REDUCTIONS = ("ReduceMean", "ReduceMax")  # global poolings where they go over both axes of the map

_SPATIAL = ({2, 3}, {-1, -2})
_LARGE = 4096  # bytes of an initializer that cannot be a shape
_FAR = 64  # nodes between gate and pooling, more than any excitation has

Shape = tuple[int | None, ...]


@dataclass(frozen=True)
class Block:
    """One block: `gate` is the value that holds the factors, (N, channels) or (N, channels, 1, 1).

    `size` is height and width of the map, where the graph tells; `channels` likewise.
    """

    name: str
    gate: str
    channels: int | None
    size: tuple[int, int] | None


def blocks(file: Path) -> tuple[Block, ...]:
    """The blocks of an ONNX file in the order of the graph. Raises ConvertError when it cannot be read."""
    return find(read(file))


def read(file: Path) -> onnx.ModelProto:
    """The graph; weights that lie in a file beside it stay there. Raises ConvertError."""
    try:
        return onnx.load(str(file), load_external_data=False)
    except Exception as fault:  # protobuf's decoder and the file system raise unrelated classes
        raise ConvertError(f"{file}: cannot be read as an ONNX file: {fault}") from fault


def find(model: onnx.ModelProto) -> tuple[Block, ...]:
    """The blocks of a model in the order of its graph."""
    return tuple(_Graph(model).blocks())


def with_gates(model: onnx.ModelProto, found: tuple[Block, ...]) -> bytes:
    """The same model, which also gives the blocks' factors; serialized. `model` itself is changed."""
    there = {value.name for value in model.graph.output}
    for name in dict.fromkeys(block.gate for block in found):
        if name not in there:
            model.graph.output.append(helper.make_empty_tensor_value_info(name))
    return model.SerializeToString()


class _Graph:
    def __init__(self, model: onnx.ModelProto) -> None:
        self.nodes = list(model.graph.node)
        self.made = {name: node for node in self.nodes for name in node.output if name}
        self.fed = {value.name for value in model.graph.input} - {item.name for item in model.graph.initializer}
        self.constants = _constants(model)
        self.shapes = _shapes(model)

    def blocks(self) -> Iterator[Block]:
        for node in self.nodes:
            if node.op_type != "Mul":
                continue
            for factor, mapped in (node.input, reversed(node.input)):
                gate = self.back(factor, UNCHANGED + RESHAPED)
                producer = self.made.get(gate)
                if producer is None or producer.op_type not in GATES:
                    continue
                if self.squeezes(producer.input[0], self.back(mapped, UNCHANGED)):
                    yield self.block(node, gate, mapped)
                    break

    def block(self, node: onnx.NodeProto, gate: str, mapped: str) -> Block:
        shape = self.shapes.get(mapped) or self.shapes.get(node.output[0]) or ()
        channels, *size = shape[1:] if len(shape) == 4 else (None, None)
        known = (size[0], size[1]) if len(size) == 2 and size[0] and size[1] else None
        name = (node.name or node.output[0]).partition(":")[0]  # our export writes LAYER:Mul for a part of a layer
        return Block(name, gate, channels, known)

    def back(self, name: str, through: tuple[str, ...]) -> str:
        """The value from which `name` is made by nothing but operators of the kinds `through`."""
        while (node := self.made.get(name)) is not None and node.op_type in through:
            name = node.input[0]
        return name

    def squeezes(self, name: str, source: str) -> bool:
        """Is `name` computed from constants and global poolings of `source`, and from nothing else?"""
        waiting, seen, pooled = [name], {name}, False
        while waiting and len(seen) < _FAR:
            node = self.made.get(one := waiting.pop())
            if one == source or one in self.fed:
                return False
            if node is None or node.op_type in ("Constant", "Shape"):
                continue
            if self.is_global_pool(node) and self.back(node.input[0], UNCHANGED) == source:
                pooled = True
                continue
            waiting += [item for item in node.input if item and item not in seen]
            seen.update(node.input)
        return pooled and not waiting

    def is_global_pool(self, node: onnx.NodeProto) -> bool:
        if node.op_type in GLOBAL_POOLS:
            return True
        if node.op_type in REDUCTIONS:
            return self.axes(node) in _SPATIAL
        return node.op_type in POOLS and self.shapes.get(node.output[0], ())[2:] == (1, 1)

    def axes(self, node: onnx.NodeProto) -> set[int]:
        for attribute in node.attribute:
            if attribute.name == "axes":
                return set(attribute.ints)
        given = self.constants.get(node.input[1]) if len(node.input) > 1 else None
        return set() if given is None else {int(axis) for axis in given.flatten()}


def _constants(model: onnx.ModelProto) -> Mapping[str, np.ndarray]:
    """The small ones, among which the axes are."""
    tensors = {item.name: item for item in model.graph.initializer if item.ByteSize() < _LARGE}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
            tensors[node.output[0]] = node.attribute[0].t
    return {
        name: numpy_helper.to_array(tensor)
        for name, tensor in tensors.items()
        if tensor.data_location != onnx.TensorProto.EXTERNAL
    }


def _shapes(model: onnx.ModelProto) -> dict[str, Shape]:
    """What ONNX's shape inference finds, without the weights being copied for it; None where a size is free."""
    light = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    graph, source = light.graph, model.graph
    graph.name = source.name
    graph.node.extend(source.node)
    graph.input.extend(source.input)
    graph.output.extend(source.output)
    graph.value_info.extend(source.value_info)
    named = {value.name for value in source.input}
    for item in source.initializer:
        if item.ByteSize() < _LARGE:
            graph.initializer.append(item)
        elif item.name not in named:
            graph.input.append(helper.make_tensor_value_info(item.name, item.data_type, item.dims))
    try:
        inferred = shape_inference.infer_shapes(light, data_prop=True).graph
    except shape_inference.InferenceError:  # sizes are for display; a block is one without them
        inferred = source
    return {
        value.name: tuple(dim.dim_value or None for dim in value.type.tensor_type.shape.dim)
        for value in (*inferred.input, *inferred.value_info, *inferred.output)
        if value.type.tensor_type.HasField("shape")
    }
