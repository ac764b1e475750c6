"""A picture's bytes -> what the model takes, in threads beside the inference, within limits.

What a picture will cost is known before it is decoded: from its header, and from its proportions.
"""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from ....errors import ConvertError
from ...images import images
from ...images.preprocess import Preprocess
from ...model import Model
from ..faults import BAD, NO_IMAGE, TOO_LARGE, RequestError
from ..models.served import Served
from ..pools import Pool
from .headers import HeaderError, Size, measure

Array = NDArray[Any]


class Pictures:
    """Decoding for all requests, in the threads of `pool`."""

    def __init__(self, pool: Pool, max_pixels: int) -> None:
        self._pool = pool
        self._max_pixels = max_pixels

    async def prepare(self, data: bytes, classifier: Model) -> Array:
        """A picture as one item of the model's input: see `prepare`. Raises RequestError: BUSY, LATE beside its own."""
        return await self._pool.run(prepare, data, classifier, self._max_pixels)


def prepare(data: bytes, classifier: Model, max_pixels: int) -> Array:
    """A picture's bytes -> what `classifier.preprocess.apply` gives for it.

    Raises RequestError: TOO_LARGE before anything is decoded, NO_IMAGE for what cannot be read.
    """
    if not data:
        raise RequestError(NO_IMAGE, "the picture is empty: no bytes came")
    try:
        size = measure(data)
    except HeaderError as fault:
        kind = images.known_as(data)
        reason = f"it is {kind}" if kind else str(fault)
        raise RequestError(NO_IMAGE, f"this is no picture that can be read: {reason}") from fault
    _limit(size, classifier.preprocess, max_pixels)
    try:
        picture = images.decode(data, "the picture", classifier.preprocess.channels)
        return classifier.preprocess.apply(picture)
    except ConvertError as fault:
        raise RequestError(NO_IMAGE, str(fault)) from fault


def classifier_of(served: Served) -> Model:
    """Raises RequestError for a model that takes no pictures."""
    if served.classifier is None:
        raise RequestError(BAD, f"model '{served.name}' does not classify pictures: {served.unfit}")
    return served.classifier


def _limit(size: Size, preprocess: Preprocess, most: int) -> None:
    """Refuse what would take more memory than a picture of `most` pixels does."""
    shown = f"the picture has {size.width} x {size.height} pixels"
    limit = f"this server takes {most:,} at most"
    if size.width * size.height > most:
        raise RequestError(TOO_LARGE, f"{shown}; {limit}")
    if size.pixels > most:
        raise RequestError(TOO_LARGE, f"{shown}, but decoding it would cost as much as {size.pixels:,}; {limit}")
    if preprocess.resize is None:
        return
    short, long = sorted((size.width, size.height))
    resized = preprocess.resize * round(long * preprocess.resize / short)
    if resized > most:
        raise RequestError(
            TOO_LARGE,
            f"{shown}; with its shorter side resized to {preprocess.resize} it would have {resized:,}; {limit}",
        )
