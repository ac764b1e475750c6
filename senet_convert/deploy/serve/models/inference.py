"""One request from its parsed form to its answer, whatever protocol it came by."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...labels.classes import Classes
from .. import context
from .errors import InvalidInput
from .repository import Repository
from .served import Spec

Array = NDArray[Any]

BYTES = "BYTES"

_FORMS = 2  # in which an output is asked for: so often it may stand in a request
_SHORT = 1024  # values whose best classes are found at once, within a millisecond


@dataclass(frozen=True)
class Wanted:
    """An output that is asked for; with `classification` k its k best classes instead of its values."""

    name: str
    classification: int = 0


@dataclass(frozen=True)
class Question:
    """An inference request. `inputs` as the model takes them; no `wanted` means every output; `timeout` in seconds."""

    model: str
    inputs: Mapping[str, Array]
    version: str = ""
    id: str = ""
    wanted: tuple[Wanted, ...] = ()
    timeout: float | None = None


@dataclass(frozen=True)
class Output:
    """A result: `datatype` is the protocol's name of its type; BYTES are an object array of bytes."""

    name: str
    datatype: str
    data: Array


@dataclass(frozen=True)
class Answer:
    """What the model said, and which version of it."""

    model: str
    version: str
    id: str
    outputs: tuple[Output, ...]


async def infer(repository: Repository, question: Question) -> Answer:
    """Run a request with whatever else waits for the same model. Raises ModelError."""
    running = repository.get(question.model, question.version)
    served = running.served
    rows = served.rows(question.inputs)
    context.current.get().asked(served.name, served.version, rows)
    wanted = question.wanted or tuple(Wanted(spec.name) for spec in served.outputs)
    specs = [served.output(one.name) for one in wanted]
    names = tuple(dict.fromkeys(one.name for one in wanted))
    if len(wanted) > _FORMS * len(names):
        raise InvalidInput(
            f"{len(wanted)} outputs of {len(names)} names: each may be asked for as values and as classes"
        )
    found = await running.batcher.submit(question.inputs, names, rows, question.timeout)
    outputs = []
    for spec, one in zip(specs, wanted, strict=True):
        values = found[spec.name]
        if not one.classification:
            outputs.append(Output(spec.name, spec.datatype, values))
        elif values.size <= _SHORT:
            outputs.append(_best(spec, values, one.classification, served.classes))
        else:
            outputs.append(await asyncio.to_thread(_best, spec, values, one.classification, served.classes))
    return Answer(served.name, served.version, question.id, tuple(outputs))


def _best(spec: Spec, values: Array, count: int, classes: Classes) -> Output:
    """The protocol's classification extension: 'value:index' or 'value:index:label', best first, for each item."""
    if values.ndim < 2 or any(dim != 1 for dim in values.shape[2:]) or not np.issubdtype(values.dtype, np.number):
        raise InvalidInput(f"output {spec} has no value for each class; 'classification' cannot be applied to it")
    flat = values.reshape(values.shape[:2])
    order = np.argsort(-flat.astype(np.float64), axis=1, kind="stable")[:, :count]
    rows = [[_entry(row[index], int(index), classes) for index in best] for row, best in zip(flat, order, strict=True)]
    return Output(spec.name, BYTES, np.array(rows, dtype=object))


def _entry(value: Any, index: int, classes: Classes) -> bytes:
    label = f":{classes.label(index)}" if classes else ""
    return f"{value:.9g}:{index}{label}".encode()
