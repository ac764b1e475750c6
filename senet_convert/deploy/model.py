"""A classifier ready to use: session, preprocessing and class names, all read from one ONNX file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import bundle
from ..errors import ConvertError
from .images.images import Image
from .images.origins import Origins
from .images.preprocess import Preprocess
from .labels.classes import Classes
from .runtime.providers import AUTO, Tuning
from .runtime.session import Session

Floats = NDArray[np.float32]
Compute = Callable[[NDArray[Any]], NDArray[Any]]

ONNX = "onnx"  # the engine that every model has: onnxruntime on the file

PICTURES = 4  # axes of a batch of pictures; ten crops of each are one more
PUBLISHED_SIZE = (224, 224)  # of the single crop that published errors were measured with
_SUM_TOLERANCE = 1e-3  # of the probabilities of one image; float32 leaves about 1e-6, half precision 1e-4


@dataclass(frozen=True)
class Published:
    """What the authors of a released network state of it: single-crop errors in %, on the 50,000 validation images."""

    name: str
    top1_error: float
    top5_error: float


@dataclass(frozen=True)
class Model:
    """A network with one image input that gives one value per class.

    `outputs` is the number of classes, `published` what is known of a recognised release, `origins` where the values of
    `preprocess` come from, None where the file does not say. `compute` takes the session's
    place where something else than onnxruntime computes the network; `engine` is its name.
    """

    path: Path
    session: Session
    preprocess: Preprocess
    classes: Classes
    output: str
    outputs: int
    published: Published | None = field(default=None)
    origins: Origins | None = field(default=None)
    engine: str = ONNX
    compute: Compute | None = field(default=None, repr=False)

    @classmethod
    def open(
        cls,
        path: Path,
        provider: str = AUTO,
        threads: int | None = None,
        spin: bool = True,
        tuning: Tuning | None = None,
    ) -> Model:
        """Load a bundle (its folder) or an ONNX file that carries its preprocessing. Raises ConvertError."""
        file = path / bundle.ONNX if path.is_dir() else path
        if not file.is_file():
            raise ConvertError(f"{path}: {_no_model(path)}")
        return cls.of(file, Session(file, threads, provider=provider, spin=spin, tuning=tuning))

    @classmethod
    def of(cls, file: Path, session: Session) -> Model:
        """The classifier that `session`, loaded from the ONNX `file`, is. Raises ConvertError where it is none."""
        if "preprocess" not in session.metadata:
            raise ConvertError(
                f"{file}: the model does not say how an image becomes its input. Convert it with senet-convert, from a "
                "network with one image input of 1 or 3 channels"
            )
        output, outputs = _class_output(file, session)
        classes = Classes.from_metadata(session.metadata)
        if classes.labels and len(classes.labels) != outputs:
            raise ConvertError(f"{file}: {len(classes.labels)} labels for the {outputs} classes of '{output}'")
        preprocess = Preprocess.from_json(session.metadata["preprocess"])
        published = _published(file.parent) if preprocess.size == PUBLISHED_SIZE else None
        origins = Origins.from_metadata(session.metadata)
        return cls(file, session, preprocess, classes, output, outputs, published, origins)

    def asked(self, given: Mapping[str, Any]) -> Model:
        """The same network, its pictures prepared as the user asks for this run; None is not asked.

        See Preprocess.overruled. Published errors say nothing of another preparation. Raises ConvertError.
        """
        said = {name: value for name, value in given.items() if value is not None}
        if not said:
            return self
        preprocess = self.preprocess.overruled(said)
        names = ["resize" if name == "crop" else name for name in said]
        origins = self.origins.said(names) if self.origins else None
        published = self.published if preprocess == self.preprocess else None
        return replace(self, preprocess=preprocess, origins=origins, published=published)

    def with_preprocess(self, preprocess: Preprocess) -> Model:
        """The same network, fed in another way."""
        return replace(self, preprocess=preprocess)

    def with_ten_crops(self) -> Model:
        """The same network on ten crops of each picture; published errors say nothing of these. Raises ConvertError."""
        return replace(self, preprocess=replace(self.preprocess, ten_crop=True), published=None)

    def with_engine(self, engine: str, compute: Compute) -> Model:
        """The same network, computed by `compute`: a batch as the session takes it -> the values of `output`."""
        return replace(self, engine=engine, compute=compute)

    @property
    def provider(self) -> str:
        """What computes: onnxruntime's provider, or 'cpu' where another engine does."""
        return "cpu" if self.compute else self.session.provider

    @property
    def computed_by(self) -> str:
        """In words: the provider, or the engine in onnxruntime's place."""
        return self.provider if self.compute is None else f"{self.engine} on {self.provider}"

    def classify(self, images: Sequence[Image]) -> Floats:
        """Images as read by `read_image` -> probabilities, float32 (N, classes)."""
        return self.probabilities(self.preprocess.batch(images))

    def probabilities(self, batch: NDArray[Any]) -> Floats:
        """Preprocessed images, as `Preprocess.batch` gives them -> probabilities, float32 (N, classes).

        Of pictures in ten crops the mean; no more crops run at once than there are pictures. Whole pictures, for a
        file that resizes them itself, run one by one.

        A network that ends without a softmax gets one. Batches are cut and padded to the sizes that the network or the
        provider asks for. Raises ConvertError when an output is not finite.
        """
        (name,) = self.session.inputs
        views = batch.reshape(-1, *batch.shape[2:]) if batch.ndim > PICTURES else batch
        sizes = self._sizes(name)
        step = max(sizes, default=len(batch))
        parts = [self._run(name, views[at : at + step], sizes) for at in range(0, len(views), step)]
        found = self.to_probabilities(np.concatenate(parts))
        return found.reshape(len(batch), -1, self.outputs).mean(axis=1) if batch.ndim > PICTURES else found

    def to_probabilities(self, scores: NDArray[Any]) -> Floats:
        """Values of `output`, (N, classes) or (N, classes, 1, 1) -> probabilities, float32 (N, classes).

        Raises ConvertError when one is not finite.
        """
        if not np.isfinite(scores).all():
            by = "" if self.engine == ONNX else f" by the engine '{self.engine}'"
            raise ConvertError(f"{self.path}: the output '{self.output}'{by} is not finite for some images")
        return _as_probabilities(scores.reshape(len(scores), self.outputs))

    def _sizes(self, name: str) -> tuple[int, ...]:
        """The sizes that batches are padded to; none where any will do."""
        first = self.session.shapes[name][0]
        if isinstance(first, int):
            return (first,)
        return () if self.compute else self.session.buckets

    def _run(self, name: str, batch: NDArray[Any], sizes: Sequence[int]) -> NDArray[Any]:
        count = len(batch)
        if batch.dtype == object:  # pictures of any size, which the file takes one at a time
            batch = batch[0][None]
        lacking = min((size for size in sizes if size >= count), default=count) - count
        if lacking:
            batch = np.concatenate([batch, np.zeros((lacking, *batch.shape[1:]), batch.dtype)])
        if self.compute:
            return self.compute(batch)[:count]
        return self.session.run({name: batch}, [self.output])[self.output][:count]


def best(probabilities: Floats, k: int) -> NDArray[np.int64]:
    """The k best classes of each row, best first; of equals the lower number first. int64 (N, min(k, classes))."""
    return np.argsort(-probabilities, axis=1, kind="stable")[:, :k].astype(np.int64)


def _as_probabilities(scores: NDArray[Any]) -> Floats:
    scores = scores.astype(np.float32, copy=False)
    if (scores >= 0).all() and np.allclose(scores.sum(axis=1), 1, atol=_SUM_TOLERANCE):
        return scores
    shifted = np.exp(scores.astype(np.float64) - scores.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True), np.float32)


def _class_output(file: Path, session: Session) -> tuple[str, int]:
    """The last output with one value per class and image, which is the main one where there are several."""
    if len(session.inputs) != 1:
        raise ConvertError(f"{file}: the model has {len(session.inputs)} inputs; a classifier of images has one")
    for name in reversed(session.outputs):
        shape = session.output_shapes[name]
        if len(shape) >= 2 and isinstance(shape[1], int) and shape[1] > 1 and all(dim == 1 for dim in shape[2:]):
            return name, shape[1]
    raise ConvertError(
        f"{file}: no output has one value per class: {', '.join(f'{k} {v}' for k, v in session.output_shapes.items())}"
    )


def _published(folder: Path) -> Published | None:
    """What the bundle's report says of the release; the model does without, so another program's file is no fault."""
    match bundle.own_report(folder):
        case {
            "release": {
                "name": str(name),
                "published_top1_error": float() | int() as top1,
                "published_top5_error": float() | int() as top5,
            }
        }:
            return Published(name, top1, top5)
    return None


def _no_model(path: Path) -> str:
    if path.is_dir():
        return f"there is no {bundle.ONNX} in this folder; give a folder that senet-convert wrote, or an .onnx file"
    return "there is no such file" if not path.exists() else "neither a folder nor a file"
