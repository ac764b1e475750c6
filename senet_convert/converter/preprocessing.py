"""What the files themselves say of preprocessing: a mean comment, a transform_param."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..deploy.preprocess import Preprocess
from ..proto import NetDef
from ..proto.mean import read_mean
from .graph import Graph
from .passes import DATA

# As in the released prototxts: "# mean_value: 104, 117, 123".
_MEAN = re.compile(
    r"mean(?:_value)?s?\s*[:=]?\s*\[?\s*(-?[\d.]+)(?:\s*,\s*(-?[\d.]+)\s*,\s*(-?[\d.]+))?", re.IGNORECASE
)


def stated(net: NetDef, graph: Graph) -> Preprocess | None:
    """The preprocessing that the prototxt states, for a network with one image input; None for any other network."""
    shape = graph.shapes[graph.inputs[0]]
    if len(graph.inputs) != 1 or len(shape) != 4 or shape[1] not in (1, 3):
        return None
    found = Preprocess(size=(shape[2], shape[3]), channels=shape[1])
    params = transform(net)
    mean = tuple(params.get("mean_value", ())) or _comment(net)
    if mean and len(mean) in (1, shape[1]):
        found = replace(found, mean=mean)
    return replace(found, scale=params.get("scale", 1.0))


def channel_means(path: Path) -> tuple[float, ...]:
    """The mean of each channel of a mean.binaryproto, B, G, R. Raises ReadError.

    Caffe's tools subtract the mean image pixel by pixel; who deploys subtracts its average, which crops and other sizes
    do not disturb.
    """
    return tuple(float(value) for value in read_mean(path).mean(axis=(1, 2), dtype=float))


def transform(net: NetDef) -> Mapping[str, Any]:
    """The transform_param of a data layer, the TEST phase's where there are several."""
    layers = [layer for layer in net.layers if layer.type in DATA and "transform_param" in layer.params]
    layers.sort(key=lambda layer: all(rule.phase == "TRAIN" for rule in layer.include) and bool(layer.include))
    return layers[0].params["transform_param"] if layers else {}


def _comment(net: NetDef) -> tuple[float, ...]:
    for comment in net.comments:
        match = _MEAN.match(comment)
        if match:
            return tuple(float(value) for value in match.groups() if value is not None)
    return ()
