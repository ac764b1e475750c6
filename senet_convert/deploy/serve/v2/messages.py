"""Inference requests and their answers over HTTP: JSON, and JSON followed by the tensors' bytes.

As Triton does, parameters that have no meaning here are taken and ignored: `priority` (there is one level),
`sequence_*` (a request knows nothing of the one before) and those of a client's own. `timeout` is in microseconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
import orjson
from msgspec import UNSET, Meta, Struct, UnsetType

from ..errors import BAD, RequestError
from ..models import tensors
from ..models.inference import Answer, Array, Question, Wanted
from ..models.served import FREE, Served, Spec
from ..pools import Steps
from . import encoded_pictures, json_tensors
from .json_tensors import Data

HEADER = "Inference-Header-Content-Length"

_MOST_DIMS = 64
_MICRO = 1e-6

Whole = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Name = Annotated[str, Meta(max_length=1024)]


@dataclass(frozen=True)
class Asked:
    """A request, and which of its outputs are to be binary: by their place in `question.wanted`, or `default`."""

    question: Question
    binary: tuple[bool, ...] = ()
    default: bool = False

    def is_binary(self, place: int) -> bool:
        """Is the output at this place in the answer to be binary?"""
        return self.binary[place] if self.binary else self.default


@dataclass(frozen=True)
class Form:
    """An answer as it is sent, and the length of the JSON before the tensors' bytes, if there are any."""

    content: bytes
    header: int | None


def json_bytes(header: str | None, body: int) -> int:
    """How many of the `body` bytes are JSON, by the value of HEADER. Raises RequestError: no such number."""
    if header is None:
        return body
    if not (header.isascii() and header.isdecimal()) or len(header) > 18 or int(header) > body:
        raise RequestError(BAD, f"{HEADER} is {header[:40]!r}; it must be a number of bytes, at most the body's {body}")
    return int(header)


class _TensorParameters(Struct, frozen=True):
    """Of an input or an output; a client's own are ignored."""

    binary_data_size: Whole | UnsetType = UNSET
    binary_data: bool | UnsetType = UNSET
    classification: Whole = 0
    shared_memory_region: Any = UNSET
    shared_memory_byte_size: Any = UNSET
    shared_memory_offset: Any = UNSET


class _Input(Struct, frozen=True):
    name: Name
    datatype: Name
    shape: Annotated[tuple[Whole, ...], Meta(max_length=_MOST_DIMS)]
    data: Any = None
    parameters: _TensorParameters = _TensorParameters()


class _Output(Struct, frozen=True):
    name: Name
    parameters: _TensorParameters = _TensorParameters()


class _Parameters(Struct, frozen=True):
    priority: Whole = 0
    timeout: Whole = 0
    binary_data_output: bool = False


class _Request(Struct, frozen=True):
    id: str = ""
    inputs: tuple[_Input, ...] = ()
    outputs: tuple[_Output, ...] = ()
    parameters: _Parameters = _Parameters()


def decode(
    body: bytes, header: str | None, served: Served, version: str = "", depth: int = json_tensors.DEPTH
) -> Steps[Asked]:
    """The request for `served` in `body`; `header` is the value of HEADER, `depth` how deep its JSON may be nested.

    Without HEADER all of the body is JSON; with 0 it is nothing but the bytes of the only input. Raises RequestError.
    """
    length = json_bytes(header, len(body))
    if header is not None and length == 0:
        return _raw(body, served, version)
    asked = _typed(json_tensors.parse(body, length, depth))
    inputs, end = yield from _inputs(asked, body, length, served)
    if end != len(body):
        raise RequestError(
            BAD, f"{len(body) - end} bytes follow the last tensor; their sizes are in 'binary_data_size'"
        )
    default = asked.parameters.binary_data_output
    for entry in asked.outputs:
        _check_memory(entry.parameters, f"output '{entry.name}'")
    wanted = tuple(Wanted(entry.name, entry.parameters.classification) for entry in asked.outputs)
    binary = (entry.parameters.binary_data for entry in asked.outputs)
    question = Question(served.name, inputs, version, asked.id, wanted, asked.parameters.timeout * _MICRO or None)
    return Asked(question, tuple(default if one is UNSET else bool(one) for one in binary), default)


def encode(answer: Answer, asked: Asked) -> Form:
    """The answer in the form that was asked for. Raises RequestError for values that JSON does not have."""
    head: dict[str, Any] = {"model_name": answer.model, "model_version": answer.version}
    if answer.id:
        head["id"] = answer.id
    pieces = [orjson.dumps(head)[:-1] + b',"outputs":[']
    tail: list[bytes] = []
    for place, output in enumerate(answer.outputs):
        entry: dict[str, Any] = {"name": output.name, "datatype": output.datatype, "shape": list(output.data.shape)}
        separator = b"," if place else b""
        if asked.is_binary(place):
            tail.append(tensors.to_bytes(output))
            entry["parameters"] = {"binary_data_size": len(tail[-1])}
            pieces.append(separator + orjson.dumps(entry))
        else:
            pieces.append(separator + orjson.dumps(entry)[:-1] + b',"data":')
            pieces += [*json_tensors.write(output), b"}"]
    pieces.append(b"]}")
    header = sum(map(len, pieces)) if tail else None
    return Form(b"".join((*pieces, *tail)), header)


def effort(answer: Answer, asked: Asked) -> int:
    """About how many bytes `encode` has to handle, a byte of JSON counting for 16: what decides where it is done."""
    return sum(
        output.data.nbytes * (1 if asked.is_binary(place) else 16) for place, output in enumerate(answer.outputs)
    )


def _raw(body: bytes, served: Served, version: str) -> Asked:
    """A body of bytes alone: one item for a model with one input, with at most one other free axis."""
    spec = served.inputs[0]
    rest = (1, *spec.shape[1:]) if served.batched else spec.shape
    if len(served.inputs) > 1 or rest.count(FREE) > 1:
        raise RequestError(
            BAD,
            f"a request without JSON ({HEADER}: 0) needs a model with one input and one free size at most; "
            f"model '{served.name}' takes {', '.join(map(str, served.inputs))}",
        )
    fixed = spec.dtype.itemsize
    for dim in rest:
        fixed *= dim if dim != FREE else 1
    shape = tuple(len(body) // fixed if dim == FREE else dim for dim in rest)
    served.accept(spec.name, spec.datatype, shape)
    return Asked(Question(served.name, {spec.name: tensors.from_bytes(spec, shape, body)}, version), default=True)


def _typed(tree: Any) -> _Request:
    """Raises RequestError: something is missing, or of another type than the protocol says."""
    try:
        return msgspec.convert(tree, _Request)
    except msgspec.ValidationError as fault:
        raise RequestError(BAD, f"the request is not as the protocol has it: {fault}") from None


def _inputs(asked: _Request, body: bytes, at: int, served: Served) -> Steps[tuple[dict[str, Array], int]]:
    """The tensors by name, and where in the body the last one ends; the first binary one starts at `at`."""
    found: dict[str, Array] = {}
    for given in asked.inputs:
        name = given.name
        if name in found:
            raise RequestError(BAD, f"input '{name}' stands more than once in the request")
        _check_memory(given.parameters, f"input '{name}'")
        size = given.parameters.binary_data_size
        if encoded_pictures.meant(served, name, given.datatype, given.shape):
            found[name] = yield from _pictures(given, body, at, size)
            at += 0 if size is UNSET else size
            continue
        spec = served.accept(name, given.datatype, given.shape)
        if size is not UNSET:
            if at % spec.dtype.itemsize:
                yield size  # bytes across the type's boundaries are copied
            found[name] = _binary(spec, given, body, at, size)
            at += size
        else:
            found[name] = yield from _from_json(spec, given)
    return found, at


def _pictures(given: _Input, body: bytes, at: int, size: int | UnsetType) -> Steps[Array]:
    if size is UNSET:
        if not isinstance(given.data, list):
            raise RequestError(BAD, f"input '{given.name}': 'data' must be a list of strings: pictures in base64")
        return encoded_pictures.from_strings(given.name, given.shape, given.data)
    _check_binary(f"'{given.name}'", given, body, at, size)
    yield size
    return encoded_pictures.from_bytes(given.name, given.shape, body, at, size)


def _check_binary(spec: Spec | str, given: _Input, body: bytes, at: int, size: int) -> None:
    if given.data is not None:
        raise RequestError(BAD, f"input {spec} has both 'data' and 'binary_data_size'; which one is meant?")
    if size > len(body) - at:
        raise RequestError(
            BAD,
            f"input {spec}: 'binary_data_size' is {size}; {len(body) - at} bytes are left in the body "
            f"(the header {HEADER} says where they begin)",
        )


def _binary(spec: Spec, given: _Input, body: bytes, at: int, size: int) -> Array:
    _check_binary(spec, given, body, at, size)
    return tensors.from_bytes(spec, given.shape, body, at, size)


def _from_json(spec: Spec, given: _Input) -> Steps[Array]:
    if given.data is None:
        raise RequestError(BAD, f"input {spec}: neither 'data' nor the parameter 'binary_data_size' is there")
    if not isinstance(given.data, Data):
        raise RequestError(BAD, f"input {spec}: 'data' must be an array of its values, flat or nested")
    return json_tensors.read(spec, given.shape, given.data)


def _check_memory(given: _TensorParameters, what: str) -> None:
    for key in ("shared_memory_region", "shared_memory_byte_size", "shared_memory_offset"):
        if getattr(given, key) is not UNSET:
            raise RequestError(BAD, f"{what}: shared memory ('{key}') is not supported; send the bytes in the request")
