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
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from . import bundle
from .converter.convert import Result, Wishes, convert
from .deploy.preprocess import Preprocess, read_image
from .deploy.session import Session
from .errors import CheckError

NAME = "SE-ResNet-Digits"
RESIZE = 36  # what its validation images are resized to, as its deploy prototxt does not say
BATCH = 50
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


def run(folder: Path, progress: Callable[[str], None]) -> Outcome:
    """Convert the demo to `folder` and classify its images. Raises ConvertError, CheckError where Caffe differs."""
    with files() as digits:
        wishes = Wishes(resize=RESIZE, labels=digits / "classes.txt", force=True)
        result = convert(digits / f"{NAME}.caffemodel", digits / "deploy.prototxt", folder, wishes, progress)
        caffe = json.loads((digits / "reference.json").read_text(encoding="utf-8"))
        with np.load(digits / "reference.npz") as file:
            expected, labels = file["prob"], file["label"].astype(int)
        listed = (digits / "val.txt").read_text(encoding="utf-8").splitlines()
        progress(f"classifying {len(listed)} images with onnxruntime")
        found = _probabilities(folder / bundle.ONNX, [digits / "images" / line.split()[0] for line in listed])
    outcome = Outcome(
        result,
        len(found),
        _error(found, labels, 1),
        _error(found, labels, 5),
        caffe["top1_error_percent"],
        caffe["top5_error_percent"],
        float(np.abs(found - expected).max()),
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


def _probabilities(model: Path, images: list[Path]) -> NDArray[Any]:
    session = Session(model)
    (props,) = [
        p.value for p in onnx.load(str(model), load_external_data=False).metadata_props if p.key == "preprocess"
    ]
    preprocess = Preprocess.from_json(props)
    batches = [images[at : at + BATCH] for at in range(0, len(images), BATCH)]
    (name,), (output,) = session.inputs, session.outputs
    return np.concatenate(
        [session.run({name: preprocess.batch([read_image(path) for path in batch])})[output] for batch in batches]
    )


def _error(probabilities: NDArray[Any], labels: NDArray[Any], k: int) -> float:
    """Top-k error in %."""
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, :k]
    wrong = int((~(best == labels[:, None]).any(axis=1)).sum())
    return 100 * wrong / len(labels)
