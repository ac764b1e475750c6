"""Tensors as JSON: long arrays of numbers, read and written in steps.

A parser holds the interpreter's lock until it is done: of 60 MB even the one that only skips them for 0.15 s. And it
makes some 100 bytes of objects of `[[],[],...` for each 3 that were sent. So the arrays are cut out of the request,
what remains is short and has few keys, and an array is parsed in pieces, straight into its numpy array.
"""

from __future__ import annotations

import json
import math
import re
import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from ..errors import BAD, RequestError
from ..models.inference import BYTES, Output
from ..models.served import Spec
from ..pools import Steps

Array = NDArray[Any]

MOST = 256 * 1024  # bytes of a request's JSON besides its data
KEYS = 1024  # keys that it may have, of all objects together
NODES = 1024  # objects and arrays in it
DEPTH = 16  # how deep it may be nested

_STEP = 64 * 1024  # bytes that are parsed at a time, values that are written at a time
_SPAN = 1024 * 1024  # bytes whose brackets are counted at a time
_LONGEST = 4096  # bytes that a number may take, with the space around it
_ROW = re.compile(rb'"data"[ \t\r\n]*:[ \t\r\n]*\[')
_MARK = secrets.token_hex(8)  # stands where an array was cut out; nobody can guess it
_SPACE = b" \t\r\n"
_SHAPE = bytes(code if code in b"[]," else ord("0") for code in range(256))  # all of a number is one sign
_FLAT = bytes(ord(" ") if code in b"[]" else code for code in range(256))


@dataclass(frozen=True)
class Data:
    """A JSON array that was cut out: `body[start:end]`, with its brackets."""

    body: bytes
    start: int
    end: int


def parse(body: bytes, end: int | None = None, depth: int = DEPTH) -> Any:
    """`body` up to `end` as JSON; values of keys `data` that are arrays without strings and objects are `Data`.

    Raises RequestError: not JSON, nested too deep, a key that stands twice, more than KEYS of them, NaN; besides data
    more than MOST bytes, or more than NODES objects and arrays.
    """
    text, marks = _cut(body, len(body) if end is None else end)
    if text.count(b"[") + text.count(b"{") > NODES:
        told = f"more than {NODES} objects and arrays besides its 'data'"
        raise RequestError(BAD, f"the request is nested too deep, or has too many parts: {told}")
    keys = 0

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal keys
        keys += len(pairs)
        if keys > KEYS:
            raise RequestError(BAD, f"the request's JSON has more than {KEYS} keys")
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                raise RequestError(
                    BAD, f"the request is ambiguous: key '{key[:80]}' stands more than once in an object"
                )
            found[key] = marks.get(value, value) if isinstance(value, str) else value
        return found

    try:
        decoded = text.decode()
        tree = json.loads(decoded, object_pairs_hook=unique, parse_constant=_no_number)
        if "\\u" in decoded:
            json.dumps(tree, ensure_ascii=False, default=lambda _: None).encode()  # half a surrogate pair is no text
        if _is_deeper(tree, depth):
            raise RecursionError
    except RecursionError:
        raise RequestError(BAD, f"the request is nested too deep: more than {depth} levels") from None
    except ValueError as fault:
        reason = fault.msg if isinstance(fault, json.JSONDecodeError) else str(fault)[:200]
        raise RequestError(BAD, f"the request is not JSON: {reason}") from None
    return tree


def read(spec: Spec, shape: Sequence[int], data: Data) -> Steps[Array]:
    """The tensor for input `spec`; `data` is flat in row-major order, or nested as `shape` says.

    Raises RequestError: too few or too many values, other nesting, values that the type cannot hold.
    """
    count, size = math.prod(shape), data.end - data.start
    if 2 * count + 1 > size:
        raise RequestError(BAD, f"input {spec}: shape {list(shape)} takes {count} values; 'data' is too short for them")
    yield count * spec.dtype.itemsize + size  # the tensor, and at most as much as was sent for its frame
    flat = np.empty(count, spec.dtype)
    frame, filled, at = b"", 0, 0
    for text in _pieces(spec, data):
        values = _values(spec, text)
        if not filled:
            nested = len(shape) > 1 and text.lstrip(_SPACE).startswith(b"[")
            frame = _frame(shape if nested else (count,), size)
        brackets = b"[" in text or b"]" in text
        outline = _outline(spec, text) if brackets else b"," * (len(values) - 1)
        outline = b"," + outline if filled else outline
        part = _typed(spec, values)
        if filled + len(part) > count:
            told = f"shape {list(shape)} takes {count} values; 'data' has {filled + len(part)} or more"
            raise RequestError(BAD, f"input {spec}: {told}")
        if not frame.startswith(outline, at):
            raise _misshapen(spec, shape)
        flat[filled : filled + len(part)] = part
        filled, at = filled + len(part), at + len(outline)
        yield 0
    if filled != count:
        raise RequestError(BAD, f"input {spec}: shape {list(shape)} takes {count} values; 'data' has {filled}")
    if at != len(frame) - 1:
        raise _misshapen(spec, shape)
    return flat.reshape(shape)


def write(output: Output) -> Iterator[bytes]:
    """An output's values as a flat JSON array, in pieces. Raises RequestError for values that JSON does not have."""
    if output.datatype == BYTES:
        yield orjson.dumps([entry.decode() for entry in output.data.ravel()])
        return
    flat = np.ascontiguousarray(output.data).reshape(-1)
    if np.issubdtype(flat.dtype, np.floating) and not np.isfinite(flat).all():
        raise RequestError(
            BAD, f"output '{output.name}' holds NaN or infinity, which JSON does not have; ask for binary data"
        )
    yield b"["
    for start in range(0, len(flat), _STEP):
        if start:
            yield b","
        yield orjson.dumps(flat[start : start + _STEP], option=orjson.OPT_SERIALIZE_NUMPY)[1:-1]
    yield b"]"


def _cut(body: bytes, end: int) -> tuple[bytes, dict[str, Data]]:
    """The request without its arrays, and these by what stands in their places."""
    kept: list[bytes] = []
    arrays: dict[str, Data] = {}
    at = length = 0
    while length <= MOST and (row := _ROW.search(body, at, min(end, at + MOST))) is not None:
        start = row.end() - 1
        data = _array(body, start, end)
        kept.append(body[at : start + 1])  # strings, objects or the end: no array of numbers
        at = start + 1
        if data is not None:
            mark = f"{_MARK}{len(arrays)}"
            kept[-1] = kept[-1][:-1] + f'"{mark}"'.encode()
            arrays[mark] = data
            at = data.end
        length += len(kept[-1])
    if length + end - at > MOST:
        raise RequestError(BAD, f"the request's JSON is longer than {MOST} bytes besides the arrays of its 'data'")
    kept.append(body[at:end])
    return b"".join(kept), arrays


def _array(body: bytes, start: int, end: int) -> Data | None:
    """The array that begins at `start`, where nothing but numbers and arrays is in it."""
    quote = body.find(b'"', start, end)
    stop = end if quote < 0 else quote
    brace = body.find(b"}", start, stop)
    close = body.rfind(b"]", start, stop if brace < 0 else brace) + 1
    depth = 0
    for at in range(start, close, _SPAN):
        span = body[at : min(at + _SPAN, close)]
        depth += span.count(b"[") - span.count(b"]")
    return Data(body, start, close) if close and depth == 0 else None


def _is_deeper(tree: Any, depth: int) -> bool:
    level = [tree]
    for _ in range(depth):
        level = [child for node in level for child in _children(node) if isinstance(child, dict | list)]
        if not level:
            return False
    return True


def _children(node: Any) -> Iterable[Any]:
    if isinstance(node, dict):
        return node.values()
    return node if isinstance(node, list) else ()


def _no_number(word: str) -> None:
    raise RequestError(BAD, f"the request is not JSON: it has no {word}; send such values as binary data")


def _pieces(spec: Spec, data: Data) -> Iterator[bytes]:
    """What is between the outer brackets, cut at commas."""
    at, end = data.start + 1, data.end - 1
    while at + _STEP + _LONGEST < end:
        comma = data.body.find(b",", at + _STEP, at + _STEP + _LONGEST)
        if comma < 0:
            raise RequestError(BAD, f"input {spec}: 'data' has a value of more than {_LONGEST} characters")
        yield data.body[at:comma]
        at = comma + 1
    yield data.body[at:end]


def _values(spec: Spec, text: bytes) -> list[Any]:
    try:
        values = orjson.loads(b"[" + text.translate(_FLAT) + b"]")
    except ValueError as fault:
        hint = (
            "; JSON has no NaN and no infinity: send such values as binary data" if b"N" in text or b"I" in text else ""
        )
        reason = fault.msg if isinstance(fault, json.JSONDecodeError) else fault
        raise RequestError(BAD, f"input {spec}: 'data' is not JSON: {reason}{hint}") from None
    if not values:
        raise RequestError(BAD, f"input {spec}: a value is missing in 'data'")
    return list(values)


def _typed(spec: Spec, values: list[Any]) -> Array:
    """Values as the input's type has them: rounded where it is a float, else exactly."""
    kinds = set(map(type, values))
    if spec.dtype == np.bool_:
        if kinds == {bool}:
            return np.array(values, np.bool_)
        raise _unfit(spec, "true and false", next(value for value in values if type(value) is not bool))
    if np.issubdtype(spec.dtype, np.integer):
        low, high = (int(bound) for bound in (np.iinfo(spec.dtype).min, np.iinfo(spec.dtype).max))
        wanted = f"whole numbers from {low} to {high}"
        if kinds != {int}:
            raise _unfit(spec, wanted, next(value for value in values if type(value) is not int))
        if min(values) < low or max(values) > high:
            raise _unfit(spec, wanted, next(value for value in values if not low <= value <= high))
        return np.array(values, spec.dtype)
    wanted = f"numbers up to {np.finfo(spec.dtype).max:.6g}"
    if not kinds <= {int, float}:
        raise _unfit(spec, wanted, next(value for value in values if type(value) not in (int, float)))
    with np.errstate(over="ignore"):
        found = np.array(values, np.float64).astype(spec.dtype)
    if not np.isfinite(found).all():
        raise _unfit(spec, wanted, values[int(np.argmin(np.isfinite(found)))])
    return found


def _unfit(spec: Spec, wanted: str, value: Any) -> RequestError:
    return RequestError(BAD, f"input {spec} takes {wanted}; 'data' holds {json.dumps(value, default=str)[:40]}")


def _misshapen(spec: Spec, shape: Sequence[int]) -> RequestError:
    return RequestError(BAD, f"input {spec}: 'data' is neither flat nor nested as shape {list(shape)} says")


def _outline(spec: Spec, text: bytes) -> bytes:
    """The brackets and commas of a piece. Raises RequestError for a number beside a bracket without a comma."""
    signs = text.translate(_SHAPE, _SPACE)
    if b"0[" in signs or b"]0" in signs:
        raise RequestError(BAD, f"input {spec}: 'data' is not JSON: a comma is missing beside a bracket")
    return signs.translate(None, b"0")


def _frame(shape: Sequence[int], most: int) -> bytes:
    """Commas and brackets of an array nested as `shape` says, without the outermost but with a comma behind.

    Nothing where that is longer than `most`: then it is not what was sent.
    """
    found = b"," * shape[-1]
    for size in reversed(shape[:-1]):
        if (len(found) + 2) * size > most:
            return b""
        found = (b"[" + found[:-1] + b"],") * size
    return found
