"""Float32 arithmetic in many forms, all of them right: what the check lets pass, and what errors are held against."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch import Tensor

from senet_convert.converter.check.ties import by_value, run_onnx
from senet_convert.converter.check.tolerance import DELIVERED, ONNX
from senet_convert.converter.export import onnx
from senet_convert.converter.graph.graph import Graph, Node
from senet_convert.converter.layers.convolution import Convolution, InnerProduct
from senet_convert.converter.layers.pooling import Pooling
from senet_convert.converter.runner import lower

Values = dict[str, NDArray[Any]]
Inputs = dict[str, NDArray[np.float32]]

SILENT = 4  # onnxruntime's severity: nothing
REORDERED = 4  # engines that sum in an order of their own
SAMPLES = 12  # more of these, and as many with chance in their rounding, to tell what float32 makes


def steps(graph: Graph, tensors: list[Tensor]) -> Values:
    """Every value of a graph, in the tensors' arithmetic."""
    with torch.inference_mode():
        return {value: top.numpy() for value, top in lower(graph).steps(*tensors)}


def written(graph: Graph, like: Graph, folder: Path) -> Path:
    """An ONNX file of `graph` with every blob of `like`."""
    path = folder / "all.onnx"
    onnx.export(graph, outputs=onnx.all_blobs(like)).write(path)
    return path


def session(path: Path, graph: Graph, inputs: Inputs, level: ort.GraphOptimizationLevel, threads: int) -> Values:
    """onnxruntime by itself."""
    options = ort.SessionOptions()
    options.graph_optimization_level, options.intra_op_num_threads = level, threads
    options.log_severity_level = SILENT
    found = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in found.get_outputs()]
    return by_value(graph, dict(zip(names, found.run(names, inputs), strict=True)))


def reordered(graph: Graph, tensors: list[Tensor], seed: int) -> Values:
    """Float32 with the terms of every sum in an order of its own, as other processors and libraries have them."""
    dice = torch.Generator().manual_seed(seed)
    module = lower(graph)
    live = dict(zip(graph.inputs, tensors, strict=True))
    with torch.inference_mode():
        for node in graph.nodes:
            bottoms = [live[name] for name in node.inputs]
            bottoms, weights = _shuffled(node, bottoms, module.weights_of(node, torch.float32), dice)
            live.update(zip(node.outputs, node.layer.torch(bottoms, weights), strict=True))
    return {value: top.numpy() for value, top in live.items()}


def _shuffled(
    node: Node, bottoms: list[Tensor], weights: list[Tensor], dice: torch.Generator
) -> tuple[list[Tensor], list[Tensor]]:
    layer = node.layer
    if type(layer) is Convolution and layer.group == 1:
        order = torch.randperm(bottoms[0].shape[1], generator=dice)
        return [bottoms[0][:, order]], [weights[0][:, order], *weights[1:]]
    if type(layer) is InnerProduct and layer.axis == 1 and not layer.transpose:
        x = bottoms[0].flatten(1)
        order = torch.randperm(x.shape[1], generator=dice)
        return [x[:, order]], [weights[0].reshape(len(weights[0]), -1)[:, order], *weights[1:]]
    if type(layer) is Pooling and layer.global_pooling:
        order = torch.randperm(bottoms[0][0, 0].numel(), generator=dice)
        return [bottoms[0].flatten(2)[:, :, order].reshape(bottoms[0].shape)], weights
    return bottoms, weights


def by_chance(graph: Graph, tensors: list[Tensor], seed: int) -> Values:
    """Each value exact from its bottoms, and rounded to float32 up or down by chance, the nearer the likelier."""
    dice = torch.Generator().manual_seed(seed)

    def rounded(_: str, top: Tensor) -> Tensor:
        near = top.float()
        off = top - near.double()
        towards = torch.where(off > 0, torch.inf, -torch.inf).float()
        other = torch.nextafter(near, towards)
        share = (off / (other.double() - near.double())).nan_to_num(0.0, 0.0, 0.0)
        return torch.where(torch.rand(top.shape, generator=dice) < share, other, near).double()

    with torch.inference_mode():
        found = lower(graph).steps(*(tensor.double() for tensor in tensors), adjust=rounded)
        return {value: top.float().numpy() for value, top in found}


def honest(graph: Graph, inputs: Inputs, tensors: list[Tensor], folder: Path) -> dict[str, Values]:
    """Every engine, by name."""
    path, level = written(graph, graph, folder), ort.GraphOptimizationLevel
    delivered = folder / "delivered.onnx"
    onnx.export(graph).write(delivered)
    engines = {
        ONNX: by_value(graph, run_onnx(path, graph, [inputs])),
        DELIVERED: by_value(graph, run_onnx(delivered, graph, [inputs])),
        "onnxruntime, 3 threads": session(path, graph, inputs, level.ORT_ENABLE_ALL, 3),
        "onnxruntime, not optimised": session(path, graph, inputs, level.ORT_DISABLE_ALL, 1),
    }
    images = [x.to(memory_format=torch.channels_last) if x.ndim == 4 else x for x in tensors]
    engines["torch, channels last"] = steps(graph, images)
    with torch.backends.mkldnn.flags(enabled=False):
        engines["torch, own kernels"] = steps(graph, tensors)
    torch.set_num_threads(2)
    engines["torch, 2 threads"] = steps(graph, tensors)
    torch.set_num_threads(1)
    return engines | {f"torch, order {i}": reordered(graph, tensors, i) for i in range(REORDERED)}


def samples(graph: Graph, tensors: list[Tensor]) -> list[Values]:
    """More float32 arithmetic, that no engine has just so."""
    seeds = range(REORDERED, REORDERED + SAMPLES)
    return [run(graph, tensors, seed) for seed in seeds for run in (reordered, by_chance)]
