"""Encoded pictures in place of a tensor: models that classify pictures take their input as BYTES, [N] or [N, 1], too.

Each element is a picture's file, which is decoded and prepared as `/v1/classify` does. In JSON elements are strings in
base64; as bytes, each follows its length in 4 bytes, as the protocol has it for BYTES.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import struct
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import BAD, LATE, NO_IMAGE, RequestError
from ..models.inference import BYTES, Question
from ..models.served import Served
from ..state import ServerState

Array = NDArray[Any]

PARAMETER = "encoded_pictures"  # in a model's metadata and configuration: the input that takes them

_LENGTH = struct.Struct("<I")
_AT_ONCE = 4  # pictures of a request that are decoded at a time


def input_of(served: Served) -> str | None:
    """The input that takes encoded pictures, if there is one."""
    return served.inputs[0].name if served.classifier is not None else None


def parameters(served: Served) -> dict[str, str]:
    """What metadata say of it."""
    name = input_of(served)
    return {} if name is None else {PARAMETER: name}


def meant(served: Served, name: str, datatype: str, shape: Sequence[int]) -> bool:
    """Are encoded pictures given for this input, which takes them? Raises RequestError: for too many, or no list."""
    if datatype != BYTES or name != input_of(served):
        return False
    most = served.max_batch if served.batched else max(1, served.inputs[0].shape[0])
    if len(shape) not in (1, 2) or any(dim != 1 for dim in shape[1:]):
        raise _unfit(served, name, f"is BYTES of shape {list(shape)}; encoded pictures have [N] or [N, 1]")
    if not (1 if served.batched else most) <= shape[0] <= most:
        bound = "1 to " if served.batched else ""
        raise _unfit(served, name, f"has {shape[0]} pictures; it takes {bound}{most}")
    return True


def from_bytes(name: str, shape: Sequence[int], buffer: bytes, start: int, size: int) -> Array:
    """Pictures with their lengths, in `size` bytes of `buffer` from `start` on: (N,) of bytes. Raises RequestError."""
    found: list[bytes] = []
    at, end = start, start + size
    for _ in range(shape[0]):
        length = _LENGTH.unpack_from(buffer, at)[0] if at + _LENGTH.size <= end else end
        at += _LENGTH.size
        if at + length > end:
            raise RequestError(
                BAD, f"input '{name}': {len(found)} of {shape[0]} pictures are whole; the bytes end there"
            )
        found.append(buffer[at : at + length])
        at += length
    if at != end:
        raise RequestError(BAD, f"input '{name}': {end - at} bytes follow the last of {shape[0]} pictures")
    return listed(name, shape, found)


def from_strings(name: str, shape: Sequence[int], data: Any) -> Array:
    """JSON's `data`, a list of strings, or of lists of one: (N,) of bytes. Raises RequestError."""
    flat = [entry[0] if isinstance(entry, list) and len(entry) == 1 else entry for entry in data] if data else []
    if not all(isinstance(entry, str) for entry in flat):
        raise RequestError(BAD, f"input '{name}': 'data' of BYTES are strings: pictures in base64")
    try:
        return listed(name, shape, [base64.b64decode(entry, validate=True) for entry in flat])
    except (binascii.Error, ValueError) as fault:
        raise RequestError(BAD, f"input '{name}': a picture is not in base64: {fault}") from None


def listed(name: str, shape: Sequence[int], pictures: Sequence[bytes]) -> Array:
    """(N,) of bytes. Raises RequestError where there are not as many as `shape` says."""
    if len(pictures) != shape[0]:
        raise RequestError(
            BAD, f"input '{name}': shape {list(shape)} takes {shape[0]} pictures; there are {len(pictures)}"
        )
    found = np.empty(len(pictures), object)
    found[:] = pictures
    return found


async def decoded(state: ServerState, served: Served, question: Question) -> Question:
    """The question with tensors in place of encoded pictures, and the time that is left. Raises RequestError."""
    encoded = {name: array for name, array in question.inputs.items() if array.dtype == object}
    if not encoded:
        return question
    seconds = min(filter(None, (question.timeout, state.settings.deadline)))
    started = time.monotonic()
    try:
        async with asyncio.timeout(seconds):
            tensors = {name: await _tensor(state, served, name, pictures) for name, pictures in encoded.items()}
    except TimeoutError:
        raise RequestError(LATE, f"no answer within {seconds:g} s: the deadline has passed") from None
    left = max(1e-3, seconds - (time.monotonic() - started))
    inputs: Mapping[str, Array] = {**question.inputs, **tensors}
    return replace(question, inputs=inputs, timeout=left)


async def _tensor(state: ServerState, served: Served, name: str, pictures: Array) -> Array:
    turns = asyncio.Semaphore(_AT_ONCE)
    classifier = served.classifier
    if classifier is None:
        raise RequestError(BAD, f"model '{served.name}' does not classify pictures any more: {served.unfit}")

    async def one(place: int, data: bytes) -> Array:
        async with turns:
            try:
                return await state.pictures.prepare(data, classifier)
            except RequestError as fault:
                raise _told(served, name, place, fault) from fault

    items = await asyncio.gather(*(one(place, data) for place, data in enumerate(pictures)), return_exceptions=True)
    found: list[Array] = []
    for item in items:
        if isinstance(item, BaseException):
            raise item
        found.append(item)
    state.hold(2 * sum(item.nbytes for item in found))
    return np.stack(found)


def _told(served: Served, name: str, place: int, fault: RequestError) -> RequestError:
    """Which picture it is; and what the input takes, for who meant to send something else."""
    if fault.status != NO_IMAGE:
        return RequestError(fault.status, f"input '{name}', picture {place}: {fault.message}", fault.retry_after)
    takes = f"is BYTES; it takes {served.input(name)}, or encoded pictures, and picture {place} cannot be read"
    return _unfit(served, name, f"{takes}: {fault.message}")


def _unfit(served: Served, name: str, reason: str) -> RequestError:
    return RequestError(BAD, f"model '{served.name}': input '{name}' {reason}")
