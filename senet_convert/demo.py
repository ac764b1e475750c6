"""The embedded demo: a small SE-ResNet, really trained in Caffe on handwritten digits, with its 500 validation images.

It is converted and checked like any network; then the ONNX file classifies the images, and its probabilities are held
against those that Caffe computed.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from . import bundle
from .converter.convert import Result, Wishes, convert
from .converter.report.released import identify
from .deploy.images.imagesets import open_set
from .deploy.model import Model
from .deploy.validation.validate import validate
from .errors import CheckError

NAME = "SE-ResNet-Digits"
RESIZE, MEAN = 36, (171.0, 86.0, 94.0)  # what it was trained with; its deploy prototxt has the mean in a comment
TOLERANCE = 1e-4  # of a probability; float32 leaves about 1e-6


@dataclass(frozen=True)
class Outcome:
    """What the demo found. Errors in %, `difference` the largest of any probability."""

    result: Result
    images: int
    top1_error: float
    top5_error: float
    caffe_top1_error: float
    caffe_top5_error: float
    difference: float


def files() -> AbstractContextManager[Path]:
    """The folder with the network, its images and Caffe's own results."""
    return resources.as_file(resources.files("senet_convert").joinpath("digits"))


def run(folder: Path, progress: Callable[[str], None], force: bool = False) -> Outcome:
    """Convert the demo to `folder` and classify its images. Raises ConvertError, CheckError where Caffe differs.

    What an earlier demo wrote is replaced, another bundle with `force` only.
    """
    with files() as digits:
        caffemodel = digits / f"{NAME}.caffemodel"
        wishes = Wishes(
            resize=RESIZE, mean=MEAN, labels=digits / "classes.txt", force=force or _is_from(folder, caffemodel)
        )
        result = convert(caffemodel, digits / "deploy.prototxt", folder, wishes, progress)
        caffe = json.loads((digits / "reference.json").read_text(encoding="utf-8"))
        with np.load(digits / "reference.npz") as file:
            expected = file["prob"]
        model = Model.open(folder, provider="cpu", spin=False)
        images = open_set(digits / "images", digits / "val.txt", model.classes, model.outputs)
        progress(f"classifying {len(images.items)} images with onnxruntime")
        probabilities: list[NDArray[np.float32]] = []
        found = validate(model, images, seen=lambda _, batch: probabilities.append(batch))
    outcome = Outcome(
        result,
        found.tally.images,
        found.tally.top1_error,
        found.tally.top5_error,
        caffe["top1_error_percent"],
        caffe["top5_error_percent"],
        float(np.abs(np.concatenate(probabilities) - expected).max()),
    )
    if outcome.difference > TOLERANCE or (outcome.top1_error, outcome.top5_error) != (
        outcome.caffe_top1_error,
        outcome.caffe_top5_error,
    ):
        raise CheckError(
            f"{folder}: the images get other probabilities than in Caffe: top-1 error {outcome.top1_error} % (Caffe "
            f"{outcome.caffe_top1_error} %), top-5 {outcome.top5_error} % (Caffe {outcome.caffe_top5_error} %), "
            f"largest difference {outcome.difference:.1e}. Please report it, with the versions that report.json lists"
        )
    return outcome


def _is_from(folder: Path, caffemodel: Path) -> bool:
    """Is this a bundle made from that very file?"""
    match bundle.own_report(folder):
        case {"sources": [{"sha256": str(digest)}, *_]}:
            return digest == identify(caffemodel, "caffemodel").digests["sha256"]
    return False
