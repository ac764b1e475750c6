"""One version of a model, loaded and ready to run: what it takes and gives, in the protocol's terms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .... import bundle
from ....errors import ConvertError, listed
from ...labels.classes import Classes
from ...model import Model
from ...runtime.cores import usable_cores
from ...runtime.providers import AUTO, Tuning
from ...runtime.session import Run, Session
from . import model_paths
from .errors import InvalidInput
from .model_paths import Signature

Array = NDArray[Any]

FREE = -1  # a dimension that a request may choose
DATATYPES: dict[str, type[Any]] = {  # the protocol's names; BYTES, of length-prefixed strings, no model of ours takes
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "INT8": np.int8,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
}
_NAMES = {np.dtype(kind): name for name, kind in DATATYPES.items()}


@dataclass(frozen=True)
class Spec:
    """An input or output: `datatype` is the protocol's name of its type, `shape` has FREE where a size is open."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    @property
    def dtype(self) -> np.dtype[Any]:
        """The numpy type."""
        return np.dtype(DATATYPES[self.datatype])

    def takes(self, shape: Sequence[int]) -> bool:
        """Does an array of this shape fit?"""
        return len(shape) == len(self.shape) and all(
            want in (FREE, dim) for want, dim in zip(self.shape, shape, strict=True)
        )

    def __str__(self) -> str:
        return f"'{self.name}' {self.datatype} [{', '.join(map(str, self.shape))}]"


@dataclass(frozen=True)
class Engine:
    """How models are run.

    provider   execution provider, 'auto' for the first that starts
    threads    threads that compute, of all instances together; None: the usable cores
    instances  sessions of each version, which run at the same time; each holds the weights once more
    max_batch  most images in one run
    spin       a session's threads wait busily for the next step: faster on cores of its own, slower on shared ones
    """

    provider: str = AUTO
    threads: int | None = None
    instances: int = 1
    max_batch: int = 16
    spin: bool = True
    tuning: Tuning = Tuning()


@dataclass(frozen=True)
class Served:
    """A version of a model, with one session for each instance.

    `batched` says that requests can run together: the first axis is free in every input and output. `classifier` is
    there where the model takes images and gives classes; `unfit` says why it is not.
    """

    name: str
    version: str
    file: Path
    sessions: tuple[Session, ...]
    inputs: tuple[Spec, ...]
    outputs: tuple[Spec, ...]
    batched: bool
    max_batch: int
    classifier: Model | None
    unfit: str
    signature: Signature = ()  # of the file as it was loaded
    classes: Classes = Classes()  # those that the file carries

    @classmethod
    def open(cls, name: str, version: str, file: Path, engine: Engine) -> Served:
        """Load the ONNX `file` and warm it up: nothing is left to be done by the first request. Raises ConvertError."""
        signature = model_paths.signature(file)
        threads = max(1, (engine.threads or usable_cores()) // engine.instances)
        sessions = tuple(
            Session(file, threads, provider=engine.provider, tuning=engine.tuning, spin=engine.spin)
            for _ in range(engine.instances)
        )
        first = sessions[0]
        inputs = tuple(_spec(key, first.dtypes[key], first.shapes[key]) for key in first.inputs)
        outputs = tuple(_spec(key, first.output_dtypes[key], first.output_shapes[key]) for key in first.outputs)
        batched = bool(inputs) and all(spec.shape and spec.shape[0] == FREE for spec in (*inputs, *outputs))
        classifier, unfit = _classifier(file, first)
        most = engine.max_batch if batched else 1
        for session in sessions:
            sizes = (1, *session.buckets, most)
            session.warm_up(sorted({_padded(session, size) for size in sizes if size <= most}))
        classes = Classes.from_metadata(first.metadata)
        return cls(name, version, file, sessions, inputs, outputs, batched, most, classifier, unfit, signature, classes)

    def __str__(self) -> str:
        return f"model '{self.name}' version {self.version}"

    def input(self, name: str) -> Spec:
        """An input by name. Raises InvalidInput that names those there are."""
        return self._spec(self.inputs, name, "input")

    def output(self, name: str) -> Spec:
        """An output by name. Raises InvalidInput that names those there are."""
        return self._spec(self.outputs, name, "output")

    def accept(self, name: str, datatype: str, shape: Sequence[int]) -> Spec:
        """The input that a tensor is for. Raises InvalidInput when it does not fit, saying what the model takes."""
        spec = self.input(name)
        if datatype != spec.datatype:
            raise InvalidInput(f"model '{self.name}': input '{name}' is {datatype}; it takes {spec}")
        if not spec.takes(shape):
            raise InvalidInput(f"model '{self.name}': input '{name}' has shape {list(shape)}; it takes {spec}")
        if any(dim < 1 for dim in shape):
            raise InvalidInput(f"model '{self.name}': input '{name}' is empty: shape {list(shape)}")
        if self.batched and shape[0] > self.max_batch:
            raise InvalidInput(
                f"model '{self.name}': {shape[0]} items in one request; it takes at most {self.max_batch} at once"
            )
        return spec

    def rows(self, feeds: Mapping[str, Array]) -> int:
        """How many items a request holds: its first axis, or 1 where items cannot be batched.

        Raises InvalidInput for feeds that the model does not take, saying what it wants.
        """
        missing = [spec.name for spec in self.inputs if spec.name not in feeds]
        if missing:
            raise InvalidInput(f"model '{self.name}': input {listed(missing)} is missing; it takes {self._wanted()}")
        for name, array in feeds.items():
            self.accept(name, _NAMES.get(array.dtype, str(array.dtype)), array.shape)
        if not self.batched:
            return 1
        counts = {len(array) for array in feeds.values()}
        if len(counts) > 1:
            raise InvalidInput(f"model '{self.name}': the inputs hold different numbers of items: {sorted(counts)}")
        return counts.pop()

    def run(
        self, instance: int, feeds: Mapping[str, Array], outputs: Sequence[str], run: Run | None = None
    ) -> dict[str, Array]:
        """The outputs, by name. Batches are padded to a size that the provider prefers, and cut again."""
        session = self.sessions[instance]
        if not self.batched:
            return session.run(feeds, outputs, run)
        count = len(next(iter(feeds.values())))
        size = _padded(session, count)
        if size == count:
            return session.run(feeds, outputs, run)
        padded = {
            name: np.concatenate([array, np.zeros((size - count, *array.shape[1:]), array.dtype)])
            for name, array in feeds.items()
        }
        return {name: value[:count] for name, value in session.run(padded, outputs, run).items()}

    def _spec(self, specs: Sequence[Spec], name: str, kind: str) -> Spec:
        for spec in specs:
            if spec.name == name:
                return spec
        there = ", ".join(map(str, specs))
        raise InvalidInput(f"model '{self.name}' has no {kind} '{name}'; it has {there}")

    def _wanted(self) -> str:
        return ", ".join(map(str, self.inputs))


def model_file(path: Path) -> Path:
    """The ONNX file that `path`, a bundle's folder or the file itself, means. Raises ConvertError."""
    file = path / bundle.ONNX if path.is_dir() else path
    if not file.is_file():
        raise ConvertError(f"{path}: neither a folder with {bundle.ONNX} that senet-convert wrote, nor an .onnx file")
    return file


def _padded(session: Session, count: int) -> int:
    """The size that a batch of `count` items is run with."""
    return min((size for size in session.buckets if size >= count), default=count)


def _spec(name: str, dtype: type[Any], shape: Sequence[int | str | None]) -> Spec:
    return Spec(name, _NAMES[np.dtype(dtype)], tuple(dim if isinstance(dim, int) else FREE for dim in shape))


def _classifier(file: Path, session: Session) -> tuple[Model | None, str]:
    try:
        return Model.of(file, session), ""
    except ConvertError as fault:
        return None, str(fault)
