"""A picture's bytes -> what the model takes, in threads beside the inference, within limits.

What a picture will cost is known before it is decoded: from its header, and from its proportions. Where a header does
not tell it at a bounded price, the picture is decoded in a process of its own, one at a time, under limits.
"""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from ...errors import ConvertError
from ..images import images, sizes
from ..images.apart import TooCostlyError, decode_apart
from ..images.preprocess import Preprocess
from ..images.sizes import HugeError, NoPictureError, Size, Unmeasured
from ..model import Model
from .errors import BAD, NO_IMAGE, TOO_LARGE, RequestError
from .models.served import Served
from .pools import Pool

Array = NDArray[Any]

_SCANS = 16  # a progressive JPEG is decoded once per scan; the usual ones have about ten
_QUEUE = 16  # pictures that wait for the one that is decoded apart
_NAME = "the picture"


class Pictures:
    """Decoding for all requests, in the threads of `pool`."""

    def __init__(self, pool: Pool, max_pixels: int) -> None:
        self._pool = pool
        self._apart = Pool("pictures decoded apart", 1, _QUEUE)  # its thread waits, and holds up no other picture
        self._max_pixels = max_pixels

    async def prepare(self, data: bytes, classifier: Model) -> Array:
        """A picture as one item of the model's input: see `prepare`. Raises RequestError: BUSY, LATE beside its own."""
        try:
            return await self._pool.run(prepare, data, classifier, self._max_pixels, False)
        except Unmeasured:
            return await self._apart.run(_unmeasured, data, classifier, self._max_pixels)


def prepare(data: bytes, classifier: Model, max_pixels: int, apart: bool = True) -> Array:
    """A picture's bytes -> what `classifier.preprocess.apply` gives for it.

    Raises RequestError: TOO_LARGE before anything is decoded, NO_IMAGE for what cannot be read. Without `apart` raises
    Unmeasured for what is not decoded in this process.
    """
    try:
        return _measured(data, classifier, max_pixels)
    except Unmeasured:
        if not apart:
            raise
        return _unmeasured(data, classifier, max_pixels)


def _measured(data: bytes, classifier: Model, max_pixels: int) -> Array:
    """As `prepare`, or Unmeasured."""
    if not data:
        raise RequestError(NO_IMAGE, "the picture is empty: no bytes came")
    try:
        size = sizes.measure(data)
    except HugeError as fault:
        raise RequestError(TOO_LARGE, f"{_NAME}: {fault}; this server takes {max_pixels:,} at most") from fault
    except NoPictureError as fault:
        kind = images.known_as(data)
        reason = f"it is {kind}" if kind else str(fault)
        raise RequestError(NO_IMAGE, f"this is no picture that can be read: {reason}") from fault
    preprocess = classifier.preprocess
    _limit(size, preprocess, max_pixels)
    try:
        return preprocess.apply(images.decode_measured(data, _NAME, preprocess.channels, size))
    except ConvertError as fault:
        raise RequestError(NO_IMAGE, str(fault)) from fault


def _unmeasured(data: bytes, classifier: Model, max_pixels: int) -> Array:
    preprocess = classifier.preprocess
    try:
        picture = decode_apart(data, preprocess.channels, max_pixels)
        height, width = picture.shape[:2]
        _limit(Size(width, height, width * height), preprocess, max_pixels)
        return preprocess.apply(picture)
    except TooCostlyError as fault:
        raise RequestError(TOO_LARGE, f"{fault}; this server takes {max_pixels:,} pixels at most") from fault
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
    cost = max(size.cells, size.cells * size.scans // _SCANS)
    if cost > most:
        raise RequestError(TOO_LARGE, f"{shown}, but decoding it would cost as much as {cost:,}; {limit}")
    if preprocess.resize is None:
        return
    short, long = sorted((size.width, size.height))
    resized = preprocess.resize * round(long * preprocess.resize / short)
    if resized > most:
        raise RequestError(
            TOO_LARGE,
            f"{shown}; with its shorter side resized to {preprocess.resize} it would have {resized:,}; {limit}",
        )
