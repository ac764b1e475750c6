from __future__ import annotations

from dataclasses import replace

import pytest

from senet_convert.converter.families import Conv, InceptionBlock, Pool, match
from senet_convert.converter.graph.build import build as build_graph
from senet_convert.proto import NetDef

from . import configs
from .caffe_nets import edited, inception_net, inserted, named, param, without

NET = inception_net(configs.INCEPTION)
CONCAT, RESHAPE, AXPY = named(NET, "Concat"), named(NET, "Reshape"), named(NET, "Scale", -1)


def test_the_configuration_is_recognised() -> None:
    found = match(build_graph(NET, NET))
    assert found is not None
    assert (found.family, found.config) == ("SE-BN-Inception", configs.INCEPTION)
    assert found.summary == "SE-BN-Inception, 3 blocks, squeeze 1/4 to 1/11, 6 classes"


def test_branches_stand_in_the_order_of_the_bottoms() -> None:
    first, *others = configs.INCEPTION.blocks
    turned = replace(first, branches=(first.branches[2], first.branches[0], first.branches[1]))
    config = replace(configs.INCEPTION, blocks=(turned, *others))
    found = match(build_graph(inception_net(config), None))
    assert found is not None
    assert found.config == config
    swapped = edited(NET, CONCAT, lambda layer: replace(layer, bottoms=(*layer.bottoms[2:], *layer.bottoms[:2])))
    found = match(build_graph(swapped, None))
    assert found is not None
    assert found.config == config


def _with_block(*branches: tuple[Conv | Pool, ...]) -> NetDef:
    block = InceptionBlock(branches, 2)
    return inception_net(replace(configs.INCEPTION, blocks=(block,), avg_pool=Pool("avg", None), pooled=1))


EQUAL = _with_block((Conv(3, 1),), (Conv(3, 1),))
OTHERS = {
    "average pool hangs over the map": _with_block((Conv(3, 3, 2, 1),), (Pool("avg", 3, 2),)),
    "identity among the branches": _with_block((Conv(3, 1),), ()),
    "one branch twice": edited(
        EQUAL, named(EQUAL, "Concat"), lambda layer: replace(layer, bottoms=layer.bottoms[:1] * 2)
    ),
    "last pool takes the maximum": edited(NET, named(NET, "Pooling", -1), param("pooling_param", pool="MAX")),
    "gate with a shift": edited(NET, AXPY, param("scale_param", bias_term=True)),
    "leaky ReLU": edited(NET, named(NET, "ReLU", 4), param("relu_param", negative_slope=0.1)),
    "missing ReLU": without(NET, named(NET, "ReLU", 4)),
    "missing Scale": without(NET, named(NET, "Scale", 4)),
    "missing sigmoid": without(NET, named(NET, "Sigmoid")),
    "ReLU behind a block": inserted(NET, AXPY, "ReLU"),
    "sigmoid behind the concat": inserted(NET, CONCAT, "Sigmoid"),
    "no block": inception_net(replace(configs.INCEPTION, blocks=(), avg_pool=Pool("avg", None), pooled=1)),
}


@pytest.mark.parametrize("net", OTHERS.values(), ids=OTHERS.keys())
def test_any_other_structure_has_no_family(net: NetDef) -> None:
    assert match(build_graph(net, None)) is None
