"""What is known of preprocessing: a mean comment or transform_param in the files, a release, what the user says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...deploy.images.origins import VALUES, Origin, Origins
from ...deploy.images.preprocess import Preprocess
from ...errors import ConvertError, ReadError
from ...proto import NetDef
from ...proto.mean import read_mean
from ..graph.graph import Graph
from ..graph.inputs import DATA
from ..layers.base import times

# As in the released prototxts: "# mean_value: 104, 117, 123".
_NUMBER = r"(-?(?:\d+\.?\d*|\.\d+))"
_MEAN = re.compile(rf"mean(?:_value)?s?\s*[:=]?\s*\[?\s*{_NUMBER}(?:\s*,\s*{_NUMBER}\s*,\s*{_NUMBER})?", re.IGNORECASE)


# What the published errors of the released networks were measured with; a caffemodel alone does not say it.
RELEASED_RESIZE, RELEASED_SIZE, RELEASED_MEAN = 256, 224, (104.0, 117.0, 123.0)


@dataclass(frozen=True)
class Resolved:
    """What pictures go through, and where each value of it comes from."""

    preprocess: Preprocess
    origins: Origins

    def overruled(self, asked: Mapping[str, Any]) -> Resolved:
        """With what the user asks for, None standing for what is not asked; see `resolve`. Raises ConvertError."""
        given = {name: value for name, value in asked.items() if value is not None}
        if isinstance(given.get("mean"), Path):
            given["mean"] = channel_means(given["mean"], self.preprocess.channels)
        origins = self.origins
        for name in given:
            origins = origins.said(["resize"] if name == "crop" else [name], f"--{name}")
        return Resolved(self.preprocess.overruled(given), origins)


def resolve(
    net: NetDef,
    graph: Graph,
    release: str | None,
    asked: Mapping[str, Any],
    alike: str | None = None,
    trained_with: NetDef | None = None,
) -> Resolved | None:
    """What the files state, completed by what is known of a release, overruled by what the user asks for.

    `asked` holds None for what was not asked: resize, crop, mean (numbers or a mean.binaryproto), scale, resample,
    color. `release` names the release that the caffemodel is; `alike` one of the same structure and other weights,
    whose preprocessing is offered, not assumed. Raises ConvertError where something is asked for, but the network has
    no image input.
    """
    found = stated(net, graph, trained_with)
    given = {key: value for key, value in asked.items() if value is not None}
    if found is None:
        if given:
            raise ConvertError(f"--{', --'.join(given)}: only for a network with one image input of 1 or 3 channels")
        return None
    preprocess, origins = found.preprocess, found.origins
    if release:
        preprocess = replace(preprocess, resize=_shorter(preprocess), mean=preprocess.mean or RELEASED_MEAN)
        origins = origins.said(VALUES, f"what {release} was published with")
    elif alike and origins.doubtful:
        offer = f"--mean {','.join(f'{value:g}' for value in RELEASED_MEAN)} --resize {_shorter(preprocess)}"
        origins = replace(origins, offers=(*origins.offers, f"{offer} (what {alike} was published with)"))
    return Resolved(preprocess, origins).overruled(given)


def stated(net: NetDef, graph: Graph, trained_with: NetDef | None = None) -> Resolved | None:
    """The preprocessing that the prototxt states, for a network with one image input; None for any other network.

    Where it has no transform_param, that of the caffemodel's own data layers counts, `trained_with`. A comment's mean
    is taken, for that is how the SENet authors published theirs, but not as known. Raises ConvertError where a mean or
    scale that it states is not finite.
    """
    shape = graph.shapes[graph.inputs[0]]
    if len(graph.inputs) != 1 or len(shape) != 4 or shape[1] not in (1, 3):
        return None
    name, params = Path(net.source).name, transform(net)
    if not params and trained_with is not None:
        name, params = Path(trained_with.source).name, transform(trained_with)
    values = {
        "mean": Origin(False, "nothing states one"),
        "scale": Origin(False, "Caffe's default"),
        "color": Origin(False, "as Caffe's own tools read pictures"),
        "resize": Origin(False, "nothing states a resize"),
        "resample": Origin(False, "as Caffe's own tools resize"),
    }
    offers: tuple[str, ...] = ()
    mean = tuple(params.get("mean_value", ()))
    if params:
        known = Origin(True, f"transform_param in {name}")
        values |= {"mean": known, "scale": known, "color": known}
    if "mean_file" in params:
        values["mean"] = Origin(False, f"transform_param in {name} names {params['mean_file']}")
        offers = (f"--mean {params['mean_file']}, the file that it names",)
    elif not params and (mean := _comment(net)):
        values["mean"] = Origin(False, f"a comment in {Path(net.source).name}")
    if len(mean) not in (0, 1, shape[1]):
        values["mean"] = Origin(False, f"{values['mean'].source} gives {len(mean)} values for {shape[1]} channels")
        mean = ()
    try:
        found = Preprocess(size=(shape[2], shape[3]), channels=shape[1], mean=mean, scale=params.get("scale", 1.0))
    except ConvertError as fault:
        raise ConvertError(f"{net.source}: {fault}") from fault
    return Resolved(found, Origins(values, offers))


def _shorter(preprocess: Preprocess) -> int:
    return round(RELEASED_RESIZE * max(preprocess.size) / RELEASED_SIZE)


def channel_means(path: Path, channels: int) -> tuple[float, ...]:
    """The mean of each channel of a mean.binaryproto, B, G, R, or the one that counts for all `channels`.

    Caffe's tools subtract the mean image pixel by pixel; who deploys subtracts its average, which crops and other sizes
    do not disturb. Raises ReadError for what is no mean image, holds NaN or infinity, or has other channels.
    """
    image = read_mean(path)
    if len(image) not in (1, channels):
        raise ReadError(f"{path}: a mean image of {times(image.shape)}, the network takes {channels} channels")
    lacking = image.size - np.count_nonzero(np.isfinite(image))
    if lacking:
        raise ReadError(f"{path}: {lacking:,} values of {image.size:,} of the mean image are NaN or infinite")
    return tuple(float(value) for value in image.mean(axis=(1, 2), dtype=float))


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
