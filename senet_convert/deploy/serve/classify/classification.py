"""Pictures in, the best classes out: prepared in threads, computed together with whatever else waits for the model."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ....errors import ConvertError
from ...model import Floats, Model, best
from .. import context
from ..errors import AWAY, FAULT, LATE, NO_IMAGE, TOO_LARGE, RequestError, ServeError
from ..http.statuses import status
from ..models.repository import Running
from ..models.served import Served
from ..pictures import classifier_of
from ..state import ServerState
from .uploads import Upload

Array = NDArray[Any]
Json = dict[str, Any]
Find = Callable[[], Running]

OF_A_PICTURE = (NO_IMAGE, TOO_LARGE, FAULT)  # faults that leave the other pictures of a request alone

_ATTEMPTS = 5  # how often a model may be replaced while a request is prepared for it
_RETRY = 1  # seconds


@dataclass(frozen=True)
class Found:
    """What came of one picture: `probabilities` float32 (classes,), or a `fault`; times in seconds."""

    name: str
    probabilities: Floats | None = None
    fault: RequestError | None = None
    prepared: float = 0.0
    inferred: float = 0.0

    def plain(self, classifier: Model, top: int) -> Json:
        """{"name", "top": [{"index", "label", "wnid"?, "probability"}], "error"?}; best first."""
        if self.probabilities is None:
            return {"name": self.name, "top": [], "error": str(self.fault)}
        row = self.probabilities
        indices = (int(index) for index in best(row[None], top)[0])
        described = classifier.classes.describe
        return {"name": self.name, "top": [{**described(index), "probability": float(row[index])} for index in indices]}


@dataclass(frozen=True)
class Answer:
    """All pictures of a request, computed by one model."""

    served: Served
    found: tuple[Found, ...]

    def plain(self, top: int) -> Json:
        """What a client is told. The times are in milliseconds: those of the picture that took longest."""
        classifier = classifier_of(self.served)
        return {
            "model": self.served.name,
            "version": self.served.version,
            "class_order": classifier.classes.order,
            "assumed": list(classifier.origins.assumed) if classifier.origins else None,
            "images": [one.plain(classifier, top) for one in self.found],
            "milliseconds": {
                "prepare": 1000 * max(one.prepared for one in self.found),
                "infer": 1000 * max(one.inferred for one in self.found),
            },
        }


class _ReplacedError(Exception):
    pass


async def classify(state: ServerState, find: Find, uploads: Sequence[Upload]) -> Answer:
    """Classify all pictures with the model that `find` gives, anew with another one when it is replaced meanwhile.

    A picture with a fault of its own is answered by that. Raises RequestError when no picture could be answered, or for
    what is no fault of a picture: LATE when preparing and computing took longer than the deadline.
    """
    seconds = state.settings.deadline
    try:
        async with asyncio.timeout(seconds):
            return _judged(await _with_one_model(state, find, uploads))
    except TimeoutError:
        raise RequestError(LATE, f"no answer within {seconds:g} s: the deadline has passed") from None


async def prepare(state: ServerState, served: Served, upload: Upload) -> dict[str, Array]:
    """The feeds for one picture. Raises RequestError."""
    pixels = await state.pictures.prepare(upload.data, classifier_of(served))
    (spec,) = served.inputs
    rows = max(1, spec.shape[0])  # a batch of fixed size is filled up
    return {spec.name: np.concatenate([pixels[None], np.zeros((rows - 1, *pixels.shape), pixels.dtype)])}


async def _with_one_model(state: ServerState, find: Find, uploads: Sequence[Upload]) -> Answer:
    for _ in range(_ATTEMPTS):
        running = find()
        context.current.get().asked(running.served.name, running.served.version, len(uploads))
        turns = asyncio.Semaphore(max(2, running.served.max_batch))  # so many of one request are in memory at once
        results = await asyncio.gather(
            *(_one(state, find, running, upload, turns) for upload in uploads), return_exceptions=True
        )
        if any(isinstance(result, _ReplacedError) for result in results):
            continue
        found = []
        for result in results:
            if isinstance(result, BaseException):
                raise result
            found.append(result)
        return Answer(running.served, tuple(found))
    raise RequestError(AWAY, "the model is being replaced over and over; try again", _RETRY)


async def _one(state: ServerState, find: Find, running: Running, upload: Upload, turns: asyncio.Semaphore) -> Found:
    async with turns:
        started = time.perf_counter()
        served = running.served
        try:
            feeds = await prepare(state, served, upload)
            prepared = time.perf_counter()
            if find().served is not served:
                raise _ReplacedError
            classifier = classifier_of(served)
            outputs = await running.batcher.submit(feeds, (classifier.output,), 1)
            row = classifier.to_probabilities(outputs[classifier.output][:1])[0]
        except ConvertError as fault:  # not finite
            return Found(upload.name, fault=RequestError(FAULT, str(fault)))
        except ServeError as fault:
            if status(fault) not in OF_A_PICTURE:
                raise
            return Found(upload.name, fault=RequestError(status(fault), fault.message, fault.retry_after))
        return Found(upload.name, row, None, prepared - started, time.perf_counter() - prepared)


def _judged(answer: Answer) -> Answer:
    """Raises RequestError when every picture has a fault."""
    faults = [one.fault for one in answer.found if one.fault]
    if len(faults) < len(answer.found):
        return answer
    if len(faults) == 1:
        raise faults[0]
    status = faults[0].status if len({fault.status for fault in faults}) == 1 else NO_IMAGE
    told = "; ".join(f"{one.name}: {one.fault}" for one in answer.found)
    raise RequestError(status, f"none of the {len(faults)} pictures could be classified: {told}")
