"""An ONNX model that takes pictures as they come: uint8, R G B or grey, (N, H, W, C).

Order of the channels, mean and scale become nodes in front of the network, with the arithmetic of `Preprocess`. They
are never folded into the first convolution: its zero padding follows the subtraction of the mean.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper

from ..deploy.preprocess import IMAGE, Preprocess
from ..errors import ConvertError
from . import pictures
from .graph import Graph
from .layers.base import times
from .onnx_export import OnnxModel

Array = NDArray[Any]


def preprocess_for(graph: Graph, found: Preprocess | None) -> Preprocess:
    """The preprocessing of a model that takes pictures. Raises ConvertError where it is not known, or does not fit."""
    if found is None:
        raise ConvertError("--input image: only for a network with one image input of 1 or 3 channels")
    shape = graph.shapes[graph.inputs[0]]
    if found.size != shape[2:]:
        raise ConvertError(f"--crop {times(found.size)}: with --input image it must be the input's {times(shape[2:])}")
    if not found.mean:
        raise ConvertError(
            "--input image: the files do not say which mean to subtract; give it with --mean, or --mean 0 for none"
        )
    if IMAGE in graph.blobs and graph.inputs[0] != IMAGE:
        raise ConvertError(f"--input image: the input would be called '{IMAGE}', and so is a blob of the network")
    return replace(found, input=IMAGE)


def take_images(model: OnnxModel, preprocess: Preprocess) -> OnnxModel:
    """The model with an input `image` in place of the network's own, which becomes the value that the nodes make."""
    definition = ModelProto()
    definition.CopyFrom(model.definition)
    graph = definition.graph
    name = graph.input[0].name
    inner = _renamed(graph.node, name) if name == IMAGE else name
    nodes, constants = _nodes(preprocess, inner)
    dims = graph.input[0].type.tensor_type.shape.dim
    batch = dims[0].dim_param or dims[0].dim_value
    graph.ClearField("input")
    shape = [batch, *preprocess.size, preprocess.channels]
    graph.input.append(helper.make_tensor_value_info(IMAGE, TensorProto.UINT8, shape))
    own = list(graph.node)
    graph.ClearField("node")
    graph.node.extend([*nodes, *own])
    definition.metadata_props.add(key="input", value=IMAGE)
    return OnnxModel(definition, {**model.initializers, **constants})


def samples(graph: Graph) -> dict[str, Array]:
    """Smooth pictures for the check, uint8 (N, H, W, C), as many as `pictures.inputs` would make."""
    (name,) = graph.inputs
    count, channels, height, width = pictures.inputs(graph)[name].shape
    return {name: np.stack([pictures.smooth(f"{name}/{i}", height, width, channels) for i in range(count)])}


def _renamed(nodes: Any, name: str) -> str:
    """Call the network's own input otherwise where it has the name of the new one."""
    inner = f"{name}:planes"
    for node in nodes:
        for i, value in enumerate(node.input):
            if value == name:
                node.input[i] = inner
    return inner


def _nodes(preprocess: Preprocess, result: str) -> tuple[list[NodeProto], dict[str, Array]]:
    """From `image` to `result`, and the constants that this needs."""
    nodes: list[NodeProto] = []
    constants: dict[str, Array] = {}
    value = IMAGE
    steps = list(_steps(preprocess))
    for i, (op, constant, attributes) in enumerate(steps):
        inputs = [value]
        if constant is not None:
            inputs.append(f"{IMAGE}:{op}:constant")
            constants[inputs[-1]] = constant
        value = result if i == len(steps) - 1 else f"{IMAGE}:{op}"
        nodes.append(helper.make_node(op, inputs, [value], name=f"{IMAGE}:{op}", **attributes))
    return nodes, constants


def _steps(preprocess: Preprocess) -> Iterator[tuple[str, Array | None, dict[str, Any]]]:
    yield "Cast", None, {"to": TensorProto.FLOAT}
    if preprocess.channels == 3 and preprocess.color == "bgr":
        yield "Gather", np.array([2, 1, 0], np.int64), {"axis": 3}
    yield "Sub", np.array(preprocess.mean, np.float32), {}
    if preprocess.scale != 1:
        yield "Mul", np.array([preprocess.scale], np.float32), {}
    yield "Transpose", None, {"perm": [0, 3, 1, 2]}
