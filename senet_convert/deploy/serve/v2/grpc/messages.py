"""gRPC's messages of an inference, and what they mean: no message goes further than this module and the service."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc.service_pb2 import ModelInferRequest, ModelInferResponse

from ...errors import BAD, LATE, RequestError
from ...models import tensors
from ...models.inference import Answer, Question, Wanted
from ...models.repository import Repository
from ...models.served import Served, Spec
from .. import encoded_pictures

Array = NDArray[Any]

CONTENTS = {  # datatype -> the field of InferTensorContents that holds its values; FP16 has none
    "BOOL": "bool_contents",
    "UINT8": "uint_contents",
    "INT8": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
}

_LONG = 64 * 1024  # bytes of typed values that take longer than a moment to become an array
_CUT = 8192  # values that become an array at once: other threads get their turn in between
_MICRO = 1e-6
_SHARED = "shared_memory_region"


def question(repository: Repository, request: ModelInferRequest, remaining: float | None) -> Question:
    """What is asked; `remaining` are the seconds until the call's deadline. Raises RequestError."""
    served = repository.get(request.model_name, request.model_version).served
    return Question(
        request.model_name,
        _inputs(served, request),
        request.model_version,
        request.id,
        _all_wanted(request),
        _timeout(request, remaining),
    )


def long(request: ModelInferRequest) -> bool:
    """Does it take longer than a moment to make a question of the request? Raw contents are taken as they are."""
    return not request.raw_input_contents and request.ByteSize() > _LONG


def response(answer: Answer) -> ModelInferResponse:
    """The answer's message, with raw contents."""
    return ModelInferResponse(
        model_name=answer.model,
        model_version=answer.version,
        id=answer.id,
        outputs=[
            {"name": output.name, "datatype": output.datatype, "shape": output.data.shape} for output in answer.outputs
        ],
        raw_output_contents=[tensors.to_bytes(output) for output in answer.outputs],
    )


def _inputs(served: Served, request: ModelInferRequest) -> dict[str, Array]:
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise RequestError(
            BAD, f"model '{served.name}': {len(request.inputs)} inputs, but {len(raw)} raw_input_contents; one for each"
        )
    found: dict[str, Array] = {}
    for index, tensor in enumerate(request.inputs):
        pictures = encoded_pictures.meant(served, tensor.name, tensor.datatype, tensor.shape)
        spec = served.input(tensor.name) if pictures else served.accept(tensor.name, tensor.datatype, tensor.shape)
        if tensor.name in found:
            raise RequestError(BAD, f"model '{served.name}': input '{tensor.name}' stands more than once")
        if _SHARED in tensor.parameters:
            raise RequestError(BAD, f"input {spec}: shared memory is not supported; send the values themselves")
        shape = list(tensor.shape)
        if raw and any(tensor.contents.ListFields()):
            raise RequestError(BAD, f"input {spec}: both contents and raw_input_contents; give one of them")
        if pictures:
            found[spec.name] = _pictures(tensor, raw[index] if raw else None)
            continue
        found[spec.name] = tensors.from_bytes(spec, shape, raw[index]) if raw else _typed(spec, shape, tensor.contents)
    return found


def _pictures(tensor: Any, raw: bytes | None) -> Array:
    """Encoded ones, from bytes_contents or raw."""
    if raw is not None:
        return encoded_pictures.from_bytes(tensor.name, tensor.shape, raw, 0, len(raw))
    others = sorted(field.name for field, _ in tensor.contents.ListFields() if field.name != "bytes_contents")
    if others:
        raise RequestError(BAD, f"input '{tensor.name}': BYTES stand in bytes_contents, not in {', '.join(others)}")
    return encoded_pictures.listed(tensor.name, tensor.shape, tensor.contents.bytes_contents)


def _typed(spec: Spec, shape: Sequence[int], contents: Any) -> Array:
    """The tensor of values that stand in the field of their type."""
    field = CONTENTS.get(spec.datatype)
    others = sorted(descriptor.name for descriptor, _ in contents.ListFields() if descriptor.name != field)
    if field is None:
        raise RequestError(BAD, f"input {spec}: {spec.datatype} is taken in raw_input_contents only")
    if others:
        raise RequestError(BAD, f"input {spec}: values of {spec.datatype} stand in {field}, not in {', '.join(others)}")
    values = getattr(contents, field)
    if len(values) != math.prod(shape):
        raise RequestError(
            BAD, f"input {spec}: shape {shape} takes {math.prod(shape)} values; {field} holds {len(values)}"
        )
    whole = np.issubdtype(spec.dtype, np.integer)
    parts = [np.array(values[at : at + _CUT], np.int64 if whole else spec.dtype) for at in range(0, len(values), _CUT)]
    found = np.concatenate(parts)
    if whole:
        _check_range(spec, found)
    return found.astype(spec.dtype, copy=False).reshape(shape)


def _check_range(spec: Spec, values: Array) -> None:
    bounds = np.iinfo(spec.dtype)
    low, high = values.min(), values.max()
    if low < bounds.min or high > bounds.max:
        beyond = low if low < bounds.min else high
        raise RequestError(BAD, f"input {spec} takes {bounds.min} to {bounds.max}; the values hold {beyond}")


def _all_wanted(request: ModelInferRequest) -> tuple[Wanted, ...]:
    """Each output at most once as values and once as classes: a name is short, its classes are many."""
    found: dict[tuple[str, bool], Wanted] = {}
    for output in request.outputs:
        one = _wanted(output)
        if found.setdefault((one.name, bool(one.classification)), one) is not one:
            raise RequestError(BAD, f"output '{one.name}' is asked for more than once")
    return tuple(found.values())


def _wanted(output: Any) -> Wanted:
    if _SHARED in output.parameters:
        raise RequestError(
            BAD, f"output '{output.name}': shared memory is not supported; the values come in the answer"
        )
    count = _whole(output.parameters, "classification", f"output '{output.name}'")
    if count < 0:
        raise RequestError(BAD, f"output '{output.name}': classification {count}; it is how many classes to give")
    return Wanted(output.name, count)


def _timeout(request: ModelInferRequest, remaining: float | None) -> float | None:
    """Seconds: the request's own parameter (microseconds; 0 for none) and the call's deadline, whichever is first."""
    own = _whole(request.parameters, "timeout", "the request")
    if own < 0:
        raise RequestError(BAD, f"timeout {own}: a number of microseconds, 0 for none")
    if remaining is not None and remaining <= 0:
        raise RequestError(LATE, "the call's deadline has passed")
    return min((seconds for seconds in (own * _MICRO, remaining) if seconds), default=None)


def _whole(parameters: Mapping[str, Any], name: str, where: str) -> int:
    if name not in parameters:
        return 0
    parameter = parameters[name]
    kind = parameter.WhichOneof("parameter_choice")
    if kind not in ("int64_param", "uint64_param"):
        raise RequestError(BAD, f"{where}: parameter '{name}' is a whole number, in int64_param; not in {kind}")
    return int(getattr(parameter, kind))
