from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from senet_convert.converter.families import Block, Conv, Pool, ResidualConfig, match, stage
from senet_convert.converter.graph.build import build as build_graph
from senet_convert.proto import NetDef, ParamSpec

from . import configs
from .caffe_nets import Edit, edited, inserted, named, param, residual_net, without

CASES = [
    ("SE-ResNet", configs.RESNET, 1, "SE-ResNet, stages 1-2-2, squeeze 1/4 to 1/8, 5 classes"),
    ("SE-ResNet", configs.ODD_RESNET, 1, "SE-ResNet, stages 2-1, squeeze 1/1.8 to 1/8, 3 classes"),
    ("SE-ResNeXt", configs.RESNEXT, 2, "SE-ResNeXt, stages 2-1, cardinality 4, squeeze 1/4, 7 classes"),
    ("SENet", configs.SENET, 2, "SENet, stages 1-2, cardinality 2 or 3, squeeze 1/4 to 1/8, 4 classes"),
]


@pytest.mark.parametrize(("family", "config", "strided", "summary"), CASES)
def test_the_configuration_is_recognised(family: str, config: ResidualConfig, strided: int, summary: str) -> None:
    net = residual_net(config, strided)
    found = match(build_graph(net, net))
    assert found is not None
    assert (found.family, found.config, found.summary) == (family, config, summary)


def test_a_graph_without_weights_is_recognised_too() -> None:
    found = match(build_graph(residual_net(configs.RESNET, 1), None))
    assert found is not None
    assert found.config == configs.RESNET


blocks = st.builds(
    Block,
    widths=st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 9)),
    squeeze=st.integers(1, 4),
    stride=st.sampled_from([1, 2]),
    downsample=st.sampled_from([1, 3]),
)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.builds(stage, blocks, st.integers(1, 3)), min_size=1, max_size=5), st.integers(1, 12))
def test_any_width_depth_and_reduction_is_recognised(stages: list[tuple[Block, ...]], classes: int) -> None:
    config = ResidualConfig((Conv(5, 3, 1, 1),), tuple(stages), num_classes=classes)
    found = match(build_graph(residual_net(config, 1), None))
    assert found is not None
    assert found.config == config


def test_the_softmax_may_be_missing() -> None:
    net = residual_net(configs.RESNET, 1)
    found = match(build_graph(replace(net, layers=net.layers[:-1]), None))
    assert found is not None
    assert found.logits == net.layers[-2].name


def test_a_stem_whose_pool_rounds_down_by_a_forks_field_is_one_that_rounds_down() -> None:
    net = residual_net(configs.RESNET, 1)
    floor = edited(net, named(net, "Pooling"), param("pooling_param", ceil_mode=False))
    found = match(build_graph(floor, None))
    assert found is not None
    assert found.config == replace(configs.RESNET, pool0=replace(configs.CEIL, ceil=False))


def test_a_window_over_the_whole_map_is_a_global_pool() -> None:
    fixed = replace(configs.RESNET, avg_pool=Pool("avg", 2, stride=1))
    found = match(build_graph(residual_net(fixed, 1), None))
    assert found is not None
    assert found.config == configs.RESNET


NET = residual_net(configs.RESNET, 1)
RELU, CONV, SCALE, POOL = (named(NET, kind) for kind in ("ReLU", "Convolution", "Scale", "Pooling"))
LAST_POOL, GATE, AXPY = named(NET, "Pooling", -1), named(NET, "Sigmoid"), named(NET, "Axpy", 2)
CLASSIFIER, SOFTMAX = named(NET, "InnerProduct"), named(NET, "Softmax")


def pooling(**values: Any) -> Edit:
    """An edit that sets these parameters of a MAX pooling and no others."""
    return lambda layer: replace(layer, params={"pooling_param": {"pool": "MAX", **values}})


def _second_input() -> NetDef:
    net = edited(NET, AXPY, lambda layer: replace(layer, bottoms=(*layer.bottoms[:2], "other")))
    shape = build_graph(NET, None).shapes[AXPY]
    return replace(net, inputs=(*net.inputs, ("other", shape)))


OTHERS = {
    "stride on the other convolution": residual_net(configs.RESNET, 2),
    "groups and the first convolution strides": residual_net(configs.RESNEXT, 1),
    "groups in some bottlenecks only": residual_net(
        replace(configs.RESNEXT, stages=(*configs.RESNEXT.stages, stage(Block((4, 4, 8), 2, downsample=1), 1))), 2
    ),
    "stem of two convolutions": residual_net(replace(configs.SENET, stem=configs.SENET.stem[1:]), 2),
    "stem with groups": residual_net(replace(configs.RESNET, stem=(Conv(6, 3, 2, 1, groups=3),)), 1),
    "projection 5x5": residual_net(replace(configs.RESNET, stages=(stage(Block((4, 4, 8), 2, downsample=5), 1),)), 1),
    "average pool in the stem": residual_net(replace(configs.RESNET, pool0=Pool("avg", 4, 4)), 1),
    "last pool takes the maximum": edited(NET, LAST_POOL, param("pooling_param", pool="MAX")),
    "last pool hangs over the map": residual_net(
        replace(configs.RESNET, stages=configs.RESNET.stages[:1], avg_pool=Pool("avg", 3, 3), pooled=3), 1
    ),
    "stem's pool has an empty window": residual_net(
        replace(configs.RESNET, pool0=Pool("max", 1, 3, ceil=True)), 1, (34, 34)
    ),
    "stem's pool takes the global maximum": edited(NET, POOL, pooling(global_pooling=True)),
    "stem's pool pads more than half its kernel": residual_net(
        replace(configs.RESNET, pool0=Pool("max", 3, 2, 2, ceil=True)), 1
    ),
    "stem's pool pads one side": edited(NET, POOL, pooling(kernel_size=3, stride=2, pad_t=1, pad_l=1)),
    "stem's convolution pads each side by itself": edited(
        NET, CONV, param("convolution_param", pad=(), pad_t=1, pad_b=1, pad_l=1, pad_r=1)
    ),
    "ReLU that ends at 6": edited(NET, RELU, param("relu_param", relu6=True)),
    "leaky ReLU": edited(NET, RELU, param("relu_param", negative_slope=0.1)),
    "leaky ReLU after the sum": edited(NET, named(NET, "ReLU", -1), param("relu_param", negative_slope=0.1)),
    "one eps differs": edited(NET, named(NET, "BatchNorm", 3), param("batch_norm_param", eps=0.01)),
    "scale without shift": edited(
        NET, SCALE, lambda layer: replace(param("scale_param", bias_term=False)(layer), blobs=layer.blobs[:1])
    ),
    "dilation": edited(NET, named(NET, "Convolution", 2), param("convolution_param", dilation=(2,), pad=(2, 2))),
    "softmax over another axis": edited(NET, SOFTMAX, param("softmax_param", axis=0)),
    "classifier from axis 0": edited(
        replace(NET, layers=NET.layers[:-1]), CLASSIFIER, param("inner_product_param", axis=0)
    ),
    "transposed classifier": edited(NET, CLASSIFIER, param("inner_product_param", transpose=True)),
    "missing Scale": without(NET, SCALE),
    "missing BatchNorm": without(NET, named(NET, "BatchNorm", 4)),
    "missing gate": without(NET, GATE),
    "missing ReLU after the sum": without(NET, named(NET, "ReLU", 8)),
    "sigmoid in the stem": inserted(NET, RELU, "Sigmoid"),
    "ReLU in the gate": inserted(NET, GATE, "ReLU"),
    "ReLU before the classifier": inserted(NET, LAST_POOL, "ReLU"),
    "softmax twice": inserted(NET, SOFTMAX, "Softmax"),
    "branch and shortcut swapped": edited(
        NET, AXPY, lambda layer: replace(layer, bottoms=(layer.bottoms[0], layer.bottoms[2], layer.bottoms[1]))
    ),
    "another output": replace(
        NET, layers=(*NET.layers, replace(NET.layers[-1], name="more", bottoms=(CLASSIFIER,), tops=("more",)))
    ),
    "a second input": _second_input(),
    "no bottleneck": residual_net(replace(configs.RESNET, stages=()), 1),
}


@pytest.mark.parametrize("net", OTHERS.values(), ids=OTHERS.keys())
def test_any_other_structure_has_no_family(net: NetDef) -> None:
    assert match(build_graph(net, None)) is None


def test_shared_weights_have_no_family() -> None:
    first, second = named(NET, "Convolution", -10), named(NET, "Convolution", -4)
    blobs = next(layer.blobs for layer in NET.layers if layer.name == first)
    net = NET
    assert match(build_graph(net, net)) is not None
    for name in (first, second):
        net = edited(net, name, lambda layer: replace(layer, blobs=blobs, specs=(ParamSpec("shared"),)))
    assert match(build_graph(net, net)) is None
