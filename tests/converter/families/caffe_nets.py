"""Writes Caffe definitions with random weights for the configurations of the families: the way back from a match."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from senet_convert.converter.families import Block, Conv, InceptionBlock, Pool, ResidualConfig, SEBNInceptionConfig
from senet_convert.proto import Blob, LayerDef, NetDef
from senet_convert.proto.netdef import Shape

Edit = Callable[[LayerDef], LayerDef]


class Writer:
    """Adds layers one by one; each gives the name of its top. No layer works in place."""

    def __init__(self, shape: Shape, eps: float) -> None:
        self.random = np.random.default_rng(0)
        self.input = shape
        self.eps = eps
        self.channels = {"data": shape[1]}
        self.layers: list[LayerDef] = []

    def add(
        self, kind: str, bottoms: tuple[str, ...], blobs: tuple[Shape, ...] = (), **params: Mapping[str, Any]
    ) -> str:
        top = f"{kind.lower()}{len(self.layers)}"
        drawn = tuple(Blob(shape, self.random.normal(0, 0.3, shape).astype("<f4").ravel()) for shape in blobs)
        self.layers.append(LayerDef(top, kind, bottoms, (top,), params, drawn))
        self.channels[top] = self.channels[bottoms[0]]
        return top

    def conv(self, x: str, conv: Conv, bias: bool = False) -> str:
        kernel, stride, pad = (sides(value) for value in (conv.kernel, conv.stride, conv.padding))
        blobs: tuple[Shape, ...] = ((conv.width, self.channels[x] // conv.groups, *kernel), (conv.width,))
        params: dict[str, Any] = {"num_output": conv.width, "bias_term": bias, "group": conv.groups}
        params |= {"kernel_size": kernel, "stride": stride, "pad": pad}
        top = self.add("Convolution", (x,), blobs if bias else blobs[:1], convolution_param=params)
        self.channels[top] = conv.width
        return top

    def norm(self, x: str) -> str:
        width = self.channels[x]
        normal = self.add("BatchNorm", (x,), ((width,), (width,), (1,)), batch_norm_param={"eps": self.eps})
        mean, variance, factor = self.layers[-1].blobs
        positive = replace(variance, data=np.abs(variance.data) + np.float32(0.5))
        scaled = replace(factor, data=np.full(1, 0.9, "<f4"))
        self.layers[-1] = replace(self.layers[-1], blobs=(mean, positive, scaled))
        return self.add("Scale", (normal,), ((width,), (width,)), scale_param={"bias_term": True})

    def conv_norm(self, x: str, conv: Conv) -> str:
        return self.norm(self.conv(x, conv))

    def relu(self, x: str) -> str:
        return self.add("ReLU", (x,))

    def pool(self, x: str, pool: Pool) -> str:
        if pool.kernel is None:
            return self.add("Pooling", (x,), pooling_param={"pool": "AVE", "global_pooling": True})
        params: dict[str, Any] = {"pool": {"max": "MAX", "avg": "AVE"}[pool.kind]}
        for name, value in (("kernel", pool.kernel), ("stride", pool.stride), ("pad", pool.padding)):
            params[f"{name}_h"], params[f"{name}_w"] = sides(value)
        if pool.kind == "max" and not pool.ceil:
            params["round_mode"] = "FLOOR"
        return self.add("Pooling", (x,), pooling_param=params)

    def gate(self, x: str, squeeze: int) -> str:
        down = self.relu(self.conv(self.pool(x, Pool("avg", None)), Conv(squeeze, 1), bias=True))
        return self.add("Sigmoid", (self.conv(down, Conv(self.channels[x], 1), bias=True),))

    def head(self, x: str, config: ResidualConfig | SEBNInceptionConfig) -> NetDef:
        height, width = sides(config.pooled)
        pooled = self.pool(x, config.avg_pool)
        if config.dropout:
            pooled = self.add("Dropout", (pooled,), dropout_param={"dropout_ratio": config.dropout})
        blobs = ((config.num_classes, self.channels[x] * height * width), (config.num_classes,))
        logits = self.add("InnerProduct", (pooled,), blobs, inner_product_param={"num_output": config.num_classes})
        self.add("Softmax", (logits,))
        return NetDef("", "net", tuple(self.layers), (("data", self.input),))


def sides(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size


def residual_net(config: ResidualConfig, strided: int, space: tuple[int, int] = (32, 32)) -> NetDef:
    """A residual network whose convolution number `strided` has a bottleneck's stride."""
    net = Writer((2, config.in_channels, *space), config.eps)
    x = "data"
    for conv in config.stem:
        x = net.relu(net.conv_norm(x, conv))
    x = net.pool(x, config.pool0)
    for block in config.blocks():
        x = _bottleneck(net, x, block, strided)
    return net.head(x, config)


def _bottleneck(net: Writer, x: str, block: Block, strided: int) -> str:
    first, second, third = block.convs(strided)
    y = net.relu(net.conv_norm(x, first))
    y = net.relu(net.conv_norm(y, second))
    y = net.conv_norm(y, third)
    gate = net.gate(y, block.squeeze)
    projection = block.projection()
    shortcut = net.conv_norm(x, projection) if projection else x
    total = net.add("Axpy", (gate, y, shortcut))
    net.channels[total] = net.channels[y]
    return net.relu(total)


def inception_net(config: SEBNInceptionConfig, space: tuple[int, int] = (32, 32)) -> NetDef:
    """An SE-BN-Inception."""
    net = Writer((2, config.in_channels, *space), config.eps)
    x = _units(net, "data", config.stem)
    for block in config.blocks:
        x = _inception_block(net, x, block)
    return net.head(x, config)


def _units(net: Writer, x: str, units: tuple[Conv | Pool, ...]) -> str:
    for unit in units:
        x = net.relu(net.conv_norm(x, unit)) if isinstance(unit, Conv) else net.pool(x, unit)
    return x


def _inception_block(net: Writer, x: str, block: InceptionBlock) -> str:
    ends = tuple(_units(net, x, branch) for branch in block.branches)
    joined = net.add("Concat", ends)
    net.channels[joined] = sum(net.channels[end] for end in ends)
    gate = net.gate(joined, block.squeeze)
    flat = net.add("Reshape", (gate,), reshape_param={"shape": {"dim": (0, 0)}})
    return net.add("Scale", (joined, flat), scale_param={"axis": 0})


def edited(net: NetDef, name: str, edit: Edit) -> NetDef:
    """The network with one layer changed."""
    assert any(layer.name == name for layer in net.layers)
    return replace(net, layers=tuple(edit(layer) if layer.name == name else layer for layer in net.layers))


def param(message: str, **values: Any) -> Edit:
    """An edit that sets parameters."""
    return lambda layer: replace(layer, params={**layer.params, message: {**layer.params.get(message, {}), **values}})


def without(net: NetDef, name: str) -> NetDef:
    """The network with one layer left out: its readers read its bottom."""
    gone = next(layer for layer in net.layers if layer.name == name)
    source = {gone.tops[0]: gone.bottoms[0]}
    layers = (
        replace(layer, bottoms=tuple(source.get(bottom, bottom) for bottom in layer.bottoms))
        for layer in net.layers
        if layer is not gone
    )
    return replace(net, layers=tuple(layers))


def inserted(net: NetDef, name: str, kind: str) -> NetDef:
    """The network with a layer of another type behind the named one."""
    layers: list[LayerDef] = []
    for layer in net.layers:
        bottoms = tuple("extra" if bottom == name else bottom for bottom in layer.bottoms)
        layers.append(replace(layer, bottoms=bottoms))
        if layer.name == name:
            layers.append(LayerDef("extra", kind, (name,), ("extra",)))
    return replace(net, layers=tuple(layers))


def named(net: NetDef, kind: str, index: int = 0) -> str:
    """The name of the layer number `index` of a type."""
    return [layer.name for layer in net.layers if layer.type == kind][index]
