"""What the check computes on: a person's own pictures or reference, else synthetic ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ...deploy.images.images import Image, read_image
from ...deploy.images.preprocess import IMAGE, Preprocess
from ...errors import ConvertError, each
from ..graph.graph import Graph
from ..layers.base import times
from . import synthetic
from .reference_file import read_reference

Array = NDArray[Any]


@dataclass(frozen=True)
class Trial:
    """`inputs` of the network by name, and what they are in words.

    `fed` is what the ONNX file takes in their place, one mapping for each run; None where it takes the same.
    `reference` holds the blobs of a person's own Caffe.
    """

    inputs: Mapping[str, Array]
    described: str
    fed: Sequence[Mapping[str, Array]] | None = None
    reference: Mapping[str, Array] | None = None


def prepare(graph: Graph, preprocess: Preprocess | None, images: Sequence[Path], reference: Path | None) -> Trial:
    """The inputs, read and preprocessed. Raises ConvertError: not readable, or not what the network takes."""
    if reference is not None:
        blobs = read_reference(reference, graph)
        inputs = {name: blobs[name] for name in graph.inputs}
        described = f"the inputs of {reference}, which has {len(blobs) - len(inputs)} of "
        return Trial(inputs, f"{described}{len(graph.blobs) - len(inputs)} other blobs", None, blobs)
    if images:
        if preprocess is None:
            raise ConvertError("--images needs a network with one image input (N, C, H, W) of 1 or 3 channels")
        read = each(partial(read_image, path, preprocess.channels) for path in images)
        return _on_pictures(graph, preprocess, read, f"{len(images)} images")
    if preprocess and preprocess.input == IMAGE:
        made = [picture[:, :, ::-1] for picture in synthetic.samples(graph, preprocess)]
        return _on_pictures(graph, preprocess, made, "smooth synthetic pictures")
    mean, scale = (preprocess.mean, preprocess.scale) if preprocess else ((), 1.0)
    described = "smooth synthetic pictures" if preprocess else "synthetic inputs"
    return Trial(synthetic.inputs(graph, mean, scale), described)


def _on_pictures(graph: Graph, preprocess: Preprocess, images: Sequence[Image], described: str) -> Trial:
    """`images` as `read_image` gives them. What the network takes comes from `Preprocess`, not from the ONNX file."""
    (name,) = graph.inputs
    first = graph.batched[name][0]
    if first not in (None, len(images)):
        raise ConvertError(f"the network takes batches of {first} images, not {len(images)}")
    if preprocess.any_size:
        sizes = ", ".join(dict.fromkeys(times(image.shape[:2]) for image in images))
        described += f", resized and cropped by the ONNX file ({sizes})"
    inputs = {name: preprocess.outside().batch(images)}
    if preprocess.input != IMAGE:
        return Trial(inputs, described)
    batch = preprocess.batch(images)
    fed = [{IMAGE: picture[None]} for picture in batch] if preprocess.any_size else [{IMAGE: batch}]
    return Trial(inputs, described, fed)
