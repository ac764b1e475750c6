"""The released networks as modules, against other people's definitions of them."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from senet_convert.converter.families import (
    Block,
    Conv,
    ResidualConfig,
    SEBNInception,
    SENet,
    SEResidualNet,
    SEResNet,
    SEResNeXt,
    match,
    se_bn_inception,
    se_resnet50,
    se_resnet101,
    se_resnet152,
    se_resnext50_32x4d,
    se_resnext101_32x4d,
    senet154,
    stage,
)
from senet_convert.converter.graph.build import build as build_graph

from .caffe_nets import inception_net, residual_net

RESIDUAL: dict[str, Callable[..., SEResidualNet]] = {
    "legacy_seresnet50": se_resnet50,
    "legacy_seresnet101": se_resnet101,
    "legacy_seresnet152": se_resnet152,
    "legacy_seresnext50_32x4d": se_resnext50_32x4d,
    "legacy_seresnext101_32x4d": se_resnext101_32x4d,
    "legacy_senet154": senet154,
}
# Learned values, without the statistics, as published with the networks
PARAMETERS = {
    "legacy_seresnet50": 28_088_024,
    "legacy_seresnet101": 49_326_872,
    "legacy_seresnet152": 66_821_848,
    "legacy_seresnext50_32x4d": 27_559_896,
    "legacy_seresnext101_32x4d": 48_955_416,
    "legacy_senet154": 115_088_984,
}


@pytest.fixture(scope="module")
def timm() -> Any:
    library = None
    try:
        import torchvision  # noqa: F401
    except RuntimeError:  # a torchvision without its compiled operators: timm needs two of them to exist
        library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
        for operator in ("nms", "qnms"):
            schema = f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            library.define(schema)  # type: ignore[no-untyped-call]
    import timm
    import timm.models.senet

    yield timm
    del library


def _parameters(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


@pytest.mark.parametrize("name", RESIDUAL)
def test_the_state_dict_loads_strictly_into_timm(name: str, timm: ModuleType) -> None:
    with torch.device("meta"):
        ours, theirs = RESIDUAL[name](), timm.create_model(name)
    theirs.load_state_dict(ours.state_dict(), strict=True, assign=True)
    assert list(theirs.state_dict()) == list(ours.state_dict())
    assert _parameters(ours) == PARAMETERS[name]


def _small(reduced: Callable[[int], tuple[int, int, int]], **others: Any) -> tuple[tuple[Block, ...], ...]:
    stages = []
    for i, planes in enumerate((64, 128, 256, 512)):
        widths = reduced(planes)
        kernel = others["kernel"] if i else 1
        stages.append(
            stage(Block(widths, widths[2] // 16, 2 if i else 1, others.get("groups", 1), downsample=kernel), 1)
        )
    return tuple(stages)


STEM = (Conv(64, 7, 2, 3),)
STEM_3X3 = (Conv(64, 3, 2, 1), Conv(64, 3, 1, 1), Conv(128, 3, 1, 1))
SMALL = {
    "SEResNetBottleneck": (
        SEResNet(ResidualConfig(STEM, _small(lambda p: (p, p, 4 * p), kernel=1), num_classes=10)),
        {"groups": 1},
    ),
    "SEResNeXtBottleneck": (
        SEResNeXt(ResidualConfig(STEM, _small(lambda p: (2 * p, 2 * p, 4 * p), kernel=1, groups=32), num_classes=10)),
        {"groups": 32},
    ),
    "SEBottleneck": (
        SENet(ResidualConfig(STEM_3X3, _small(lambda p: (2 * p, 4 * p, 4 * p), kernel=3, groups=64), num_classes=10)),
        {"groups": 64, "inplanes": 128, "input_3x3": True, "downsample_kernel_size": 3, "downsample_padding": 1},
    ),
}


@pytest.mark.parametrize("block", SMALL)
def test_timm_computes_the_same_from_our_weights(block: str, timm: Any) -> None:
    ours, settings = SMALL[block]
    senet = timm.models.senet
    theirs = senet.SENet(getattr(senet, block), (1, 1, 1, 1), reduction=16, num_classes=10, **settings)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(ours.eval()(x), theirs.eval()(x), rtol=1e-4, atol=1e-5)


def test_se_bn_inception_has_the_published_size() -> None:
    with torch.device("meta"):
        net = se_bn_inception()
    assert _parameters(net) == 11_931_622
    assert list(dict(net.blocks.named_children())) == [
        f"inception_{name}" for name in ("3a", "3b", "3c", "4a", "4b", "4c", "4d", "4e", "5a", "5b")
    ]


@pytest.mark.parametrize("make", [se_resnet50, se_resnext50_32x4d, senet154, se_bn_inception])
def test_a_released_network_is_recognised_as_its_configuration(
    make: Callable[..., SEResidualNet | SEBNInception],
) -> None:
    with torch.device("meta"):
        net = make(num_classes=12, in_channels=4)
    if isinstance(net, SEBNInception):
        definition = inception_net(net.config, (224, 224))
    else:
        definition = residual_net(net.config, net.strided, (224, 224))
    found = match(build_graph(definition, None))
    assert found is not None
    assert (found.family, found.config) == (net.family, net.config)


@pytest.mark.parametrize("make", [se_resnet50, se_bn_inception])
def test_an_untrained_network_runs_on_any_size_of_image(make: Callable[..., nn.Module]) -> None:
    net = make(num_classes=3, in_channels=1).eval()
    with torch.inference_mode():
        assert net(torch.zeros(1, 1, 96, 130)).shape == (1, 3)


def test_a_configuration_of_another_family_is_refused() -> None:
    config = SMALL["SEResNetBottleneck"][0].config
    with pytest.raises(ValueError, match="not one of SE-ResNeXt"):
        SEResNeXt(config)


def test_a_shortcut_that_does_not_fit_is_refused() -> None:
    config = ResidualConfig(STEM, (stage(Block((4, 4, 8), 2), 1),))
    with pytest.raises(ValueError, match="64 channels in, 8 out, stride 1: downsample is needed"):
        SEResNet(config)
