"""The families of SE networks as readable PyTorch modules, and their recognition in a Caffe graph by structure.

>>> net = se_resnet50(num_classes=10)      # to train from scratch
>>> found = match(graph)                   # None: no family
>>> net = build(found, graph)              # with the graph's weights, in evaluation mode
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from ..graph.graph import Graph
from ..runner import as_tensor
from .activations import Tap, run_with_taps
from .blocks import Conv, Pool
from .match_inception import match_inception
from .match_residual import match_residual
from .matching import Match, MatchError
from .residual import Block, ResidualConfig, SEResidualNet, stage
from .se_bn_inception import InceptionBlock, SEBNInception, SEBNInceptionConfig, se_bn_inception
from .se_resnet import SEResNet, se_resnet50, se_resnet101, se_resnet152
from .se_resnext import SEResNeXt, se_resnext50_32x4d, se_resnext101_32x4d
from .senet import SENet, senet154

__all__ = [
    "FAMILIES",
    "Block",
    "Conv",
    "Family",
    "InceptionBlock",
    "Match",
    "MatchError",
    "Pool",
    "ResidualConfig",
    "SEBNInception",
    "SEBNInceptionConfig",
    "SENet",
    "SEResNeXt",
    "SEResNet",
    "SEResidualNet",
    "Tap",
    "build",
    "match",
    "run_with_taps",
    "se_bn_inception",
    "se_resnet50",
    "se_resnet101",
    "se_resnet152",
    "se_resnext50_32x4d",
    "se_resnext101_32x4d",
    "senet154",
    "stage",
]


@dataclass(frozen=True)
class Family:
    """A family: its module, and the recogniser that gives a Match or raises MatchError."""

    net: type[SEResidualNet] | type[SEBNInception]
    recognise: Callable[[Graph], Match]


FAMILIES: dict[str, Family] = {
    "SE-ResNet": Family(SEResNet, partial(match_residual, SEResNet)),
    "SE-ResNeXt": Family(SEResNeXt, partial(match_residual, SEResNeXt)),
    "SENet": Family(SENet, partial(match_residual, SENet)),
    "SE-BN-Inception": Family(SEBNInception, match_inception),
}


def match(graph: Graph) -> Match | None:
    """The family that a graph belongs to, whatever its layers are called; None where a single node does not fit.

    Also None where weights are not finite: a family's modules are PyTorch's own, which treat NaN otherwise than Caffe.
    """
    if not graph.accounts.sound:
        return None
    for family in FAMILIES.values():
        with suppress(MatchError):
            return family.recognise(graph)
    return None


def build(found: Match, graph: Graph) -> nn.Module:
    """The family's module in evaluation mode, over the memory of the graph's weights."""
    with torch.device("meta"):
        net = FAMILIES[found.family].net(found.config)
    arrays = graph.accounts.arrays
    state = {name: as_tensor(arrays[key]) for key, name in found.names.items()}
    for name, buffer in net.named_buffers():
        if name.endswith("num_batches_tracked"):
            state[name] = torch.zeros(buffer.shape, dtype=buffer.dtype)
    net.load_state_dict(state, strict=True, assign=True)
    return net.eval()
