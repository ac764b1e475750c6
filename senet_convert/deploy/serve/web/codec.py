"""Inference requests and their answers over HTTP: JSON, and JSON followed by the tensors' bytes.

As Triton does, parameters that have no meaning here are taken and ignored: `priority` (there is one level),
`sequence_*` (a request knows nothing of the one before) and those of a client's own. `timeout` is in microseconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from ..faults import BAD, RequestError
from ..models import tensors
from ..models.inference import Answer, Array, Question, Wanted
from ..models.served import FREE, Served, Spec
from . import json_data
from .json_data import Data

HEADER = "Inference-Header-Content-Length"

_WHOLE = 2**63 - 1
_MOST_DIMS = 64
_MICRO = 1e-6
_NUMBERS = ("priority", "timeout")


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
    """An answer as it is sent: its pieces, and the length of the JSON before the tensors' bytes, if there are any."""

    pieces: tuple[bytes, ...]
    header: int | None


def json_bytes(header: str | None, body: int) -> int:
    """How many of the `body` bytes are JSON, by the value of HEADER. Raises RequestError: no such number."""
    if header is None:
        return body
    if not (header.isascii() and header.isdecimal()) or len(header) > 18 or int(header) > body:
        raise RequestError(BAD, f"{HEADER} is {header[:40]!r}; it must be a number of bytes, at most the body's {body}")
    return int(header)


def decode(body: bytes, header: str | None, served: Served, version: str = "", depth: int = json_data.DEPTH) -> Asked:
    """The request for `served` in `body`; `header` is the value of HEADER, `depth` how deep its JSON may be nested.

    Without HEADER all of the body is JSON; with 0 it is nothing but the bytes of the only input. Raises RequestError.
    """
    length = json_bytes(header, len(body))
    if header is not None and length == 0:
        return _raw(body, served, version)
    tree = _object(json_data.parse(body, length, depth), "the request")
    parameters = _parameters(tree, "the request")
    for key in _NUMBERS:
        _whole(parameters.get(key, 0), f"parameter '{key}'")
    inputs, end = _inputs(tree, body, length, served)
    if end != len(body):
        raise RequestError(
            BAD, f"{len(body) - end} bytes follow the last tensor; their sizes are in 'binary_data_size'"
        )
    default = _flag(parameters, "binary_data_output")
    outputs = [_output(entry, default) for entry in _list(tree, "outputs")]
    question = Question(
        served.name,
        inputs,
        version,
        _word(tree.get("id", ""), "'id'"),
        tuple(wanted for wanted, _ in outputs),
        parameters.get("timeout", 0) * _MICRO or None,
    )
    return Asked(question, tuple(binary for _, binary in outputs), default)


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
            pieces += [*json_data.write(output), b"}"]
    pieces.append(b"]}")
    header = sum(map(len, pieces)) if tail else None
    return Form((*pieces, *tail), header)


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


def _inputs(tree: Mapping[str, Any], body: bytes, at: int, served: Served) -> tuple[dict[str, Array], int]:
    """The tensors by name, and where in the body the last one ends; the first binary one starts at `at`."""
    found: dict[str, Array] = {}
    for entry in _list(tree, "inputs"):
        given = _object(entry, "an entry of 'inputs'")
        name = _word(given.get("name"), "the 'name' of an input")
        if name in found:
            raise RequestError(BAD, f"input '{name}' stands more than once in the request")
        spec = served.accept(name, _word(given.get("datatype"), f"'datatype' of input '{name}'"), _shape(given, name))
        parameters = _parameters(given, f"input '{name}'")
        if "binary_data_size" in parameters:
            size = _whole(parameters["binary_data_size"], f"'binary_data_size' of input '{name}'")
            found[name] = _binary(spec, given, body, at, size)
            at += size
        else:
            found[name] = _from_json(spec, given)
    return found, at


def _binary(spec: Spec, given: Mapping[str, Any], body: bytes, at: int, size: int) -> Array:
    if "data" in given:
        raise RequestError(BAD, f"input {spec} has both 'data' and 'binary_data_size'; which one is meant?")
    if size > len(body) - at:
        raise RequestError(
            BAD,
            f"input {spec}: 'binary_data_size' is {size}; {len(body) - at} bytes are left in the body "
            f"(the header {HEADER} says where they begin)",
        )
    return tensors.from_bytes(spec, given["shape"], body, at, size)


def _from_json(spec: Spec, given: Mapping[str, Any]) -> Array:
    data = given.get("data")
    if data is None:
        raise RequestError(BAD, f"input {spec}: neither 'data' nor the parameter 'binary_data_size' is there")
    if not isinstance(data, Data):
        raise RequestError(BAD, f"input {spec}: 'data' must be an array of its values, flat or nested")
    return json_data.read(spec, given["shape"], data)


def _output(entry: Any, default: bool) -> tuple[Wanted, bool]:
    given = _object(entry, "an entry of 'outputs'")
    name = _word(given.get("name"), "the 'name' of an output")
    parameters = _parameters(given, f"output '{name}'")
    count = _whole(parameters.get("classification", 0), f"'classification' of output '{name}'")
    return Wanted(name, count), _flag(parameters, "binary_data", default)


def _shape(given: Mapping[str, Any], name: str) -> tuple[int, ...]:
    dims = given.get("shape")
    if not isinstance(dims, list) or len(dims) > _MOST_DIMS:
        raise RequestError(BAD, f"'shape' of input '{name}' must be a list of at most {_MOST_DIMS} whole numbers")
    return tuple(_whole(dim, f"a size in 'shape' of input '{name}'") for dim in dims)


def _parameters(given: Mapping[str, Any], what: str) -> dict[str, Any]:
    parameters = _object(given.get("parameters", {}), f"'parameters' of {what}")
    shared = next((key for key in parameters if key.startswith("shared_memory")), None)
    if shared is not None:
        raise RequestError(BAD, f"{what}: shared memory ('{shared}') is not supported; send the bytes in the request")
    return parameters


def _object(value: Any, what: str) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    raise RequestError(BAD, f"{what} must be a JSON object")


def _list(tree: Mapping[str, Any], key: str) -> Sequence[Any]:
    value = tree.get(key, [])
    if isinstance(value, list):
        return value
    raise RequestError(BAD, f"'{key}' must be a list")


def _word(value: Any, what: str) -> str:
    if isinstance(value, str):
        return value
    raise RequestError(BAD, f"{what} must be a string")


def _whole(value: Any, what: str) -> int:
    if type(value) is int and 0 <= value <= _WHOLE:
        return value
    raise RequestError(BAD, f"{what} must be a whole number from 0 to {_WHOLE}")


def _flag(parameters: Mapping[str, Any], key: str, default: bool = False) -> bool:
    value = parameters.get(key, default)
    if isinstance(value, bool):
        return value
    raise RequestError(BAD, f"parameter '{key}' must be true or false")
