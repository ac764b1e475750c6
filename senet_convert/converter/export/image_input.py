"""An ONNX model that takes pictures as they come: uint8, R G B or grey, (N, H, W, C), or single ones of any size.

Resize, crop, order of the channels, mean and scale become nodes in front of the network, with the arithmetic of
`Preprocess`. They are never folded into the first convolution: its zero padding follows the subtraction of the mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, ValueInfoProto, helper

from ...deploy.images.preprocess import IMAGE, Preprocess
from ...errors import ConvertError
from ..graph.graph import Graph
from ..layers.base import times
from .nodes import Front
from .onnx import OnnxModel
from .opencv_resize import resized_and_cropped

Array = NDArray[Any]


def preprocess_for(graph: Graph, found: Preprocess | None, any_size: bool = False) -> Preprocess:
    """The preprocessing of a model that takes pictures. Raises ConvertError where it is not known, or does not fit."""
    if found is None:
        raise ConvertError("--input image: only for a network with one image input of 1 or 3 channels")
    if not found.mean:
        raise ConvertError(
            "--input image: the files do not say which mean to subtract; give it with --mean, or --mean 0 for none"
        )
    if IMAGE in graph.blobs and graph.inputs[0] != IMAGE:
        raise ConvertError(f"--input image: the input would be called '{IMAGE}', and so is a blob of the network")
    if any_size:
        _require_single_pictures(graph, found)
    return replace(found, input=IMAGE, any_size=any_size)


def _require_single_pictures(graph: Graph, found: Preprocess) -> None:
    name = graph.inputs[0]
    shape, first = graph.shapes[name], graph.batched[name][0]
    if found.resample != "opencv":
        raise ConvertError(
            f"--input-size any: the model resizes as OpenCV does; --resample {found.resample} has to stay outside of "
            "it, without --input-size any"
        )
    if found.resize is not None and found.resize < max(found.size):
        raise ConvertError(
            f"--input-size any: no {times(found.size)} crop fits into every picture whose shorter side is resized to "
            f"{found.resize}; --resize must be at least {max(found.size)}"
        )
    if first not in (None, 1):
        raise ConvertError(
            f"--input-size any: pictures come one by one, but the network takes batches of {first}; give "
            f"--input-shape {','.join(str(side) for side in (1, *shape[1:]))}"
        )


def take_images(model: OnnxModel, preprocess: Preprocess) -> OnnxModel:
    """The model with an input `image` in place of the network's own, which becomes the value that the nodes make."""
    definition = ModelProto()
    definition.CopyFrom(model.definition)
    graph = definition.graph
    name = graph.input[0].name
    inner = _renamed(graph.node, name) if name == IMAGE else name
    front = _front(preprocess, inner)
    dims = graph.input[0].type.tensor_type.shape.dim
    shape = [dims[0].dim_param or dims[0].dim_value, *preprocess.size, preprocess.channels]
    if preprocess.any_size:
        _fix_batch([*graph.output, *graph.value_info], dims[0].dim_param)
        shape = [1, "height", "width", preprocess.channels]
    graph.ClearField("input")
    graph.input.append(helper.make_tensor_value_info(IMAGE, TensorProto.UINT8, shape))
    own = list(graph.node)
    graph.ClearField("node")
    graph.node.extend([*front.nodes, *own])
    definition.metadata_props.add(key="input", value=IMAGE)
    return OnnxModel(definition, {**model.initializers, **front.constants})


def _renamed(nodes: Any, name: str) -> str:
    """Call the network's own input otherwise where it has the name of the new one."""
    inner = f"{name}:planes"
    for node in nodes:
        for i, value in enumerate(node.input):
            if value == name:
                node.input[i] = inner
    return inner


def _fix_batch(values: Sequence[ValueInfoProto], name: str) -> None:
    """One picture goes in, so one row of each output comes out."""
    for value in values:
        for dim in value.type.tensor_type.shape.dim:
            if name and dim.dim_param == name:
                dim.dim_value = 1


def _front(preprocess: Preprocess, result: str) -> Front:
    """From `image` to `result`."""
    front = Front(IMAGE)
    value = resized_and_cropped(front, IMAGE, preprocess) if preprocess.any_size else IMAGE
    value = front("Cast", value, to=TensorProto.FLOAT)
    if preprocess.channels == 3 and preprocess.color == "bgr":
        value = front("Gather", value, np.array([2, 1, 0], np.int64), axis=3)
    value = front("Sub", value, np.array(preprocess.mean, np.float32))
    if preprocess.scale != 1:
        value = front("Mul", value, np.array([preprocess.scale], np.float32))
    front("Transpose", value, perm=[0, 3, 1, 2], result=result)
    return front
