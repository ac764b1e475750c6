"""What a message costs, by its bytes."""

from __future__ import annotations

import time
from typing import Any

import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest
from tritonclient.grpc.service_pb2 import ModelInferRequest, RepositoryModelLoadRequest

from senet_convert.deploy.serve.errors import BAD, TOO_LARGE, RequestError
from senet_convert.deploy.serve.v2.grpc import wire
from senet_convert.deploy.serve.v2.grpc.wire import BROKEN, FIELDS, NUMBERS, TEXT, Weight

INFER = wire.schema(ModelInferRequest.DESCRIPTOR)


def contents(**fields: Any) -> bytes:
    found: bytes = ModelInferRequest(inputs=[{"contents": fields}]).SerializeToString()
    return found


def refused(data: bytes, known: wire.Schema = INFER, status: int = TOO_LARGE) -> str:
    with pytest.raises(RequestError) as caught:
        wire.weigh(data, known)
    assert caught.value.status == status
    return caught.value.message


def test_fields_of_submessages_numbers_and_text_are_counted() -> None:
    message = ModelInferRequest(
        model_name="plus",
        inputs=[{"name": "x", "datatype": "FP32", "shape": [1, 300], "contents": {"fp32_contents": [1, 2, 3]}}],
        raw_input_contents=[bytes(1000)],
    )
    message.parameters["timeout"].int64_param = 5
    #  model_name, inputs (name, datatype, shape, contents (fp32)), raw, parameters (key, value (int64))
    assert wire.weigh(message.SerializeToString(), INFER) == Weight(1 + 6 + 1 + 4, 3, len("plusxFP32timeout"))


@pytest.mark.parametrize(
    "data",
    [
        b"\x32\0" * (FIELDS + 1),  # outputs
        b"\x2a\0" * (FIELDS + 1),  # inputs
        b"\x22\0" * (FIELDS + 1),  # parameters
        b"\x3a\0" * (FIELDS + 1),  # raw contents
        b"\x7a\0" * (FIELDS + 1),  # a field that is not there
        b"\x08\0" * (FIELDS + 1),  # a name that is a number
        contents(bytes_contents=[b""] * FIELDS),
        b"\x2a\x04\x2a\x02\x0a\0" * (FIELDS // 3 + 1),  # inputs of contents of numbers
        ModelInferRequest(inputs=[{"parameters": {str(one): {} for one in range(FIELDS)}}]).SerializeToString(),
    ],
    ids=["outputs", "inputs", "parameters", "raw", "unknown", "varints", "bytes", "nested", "deep parameters"],
)
def test_more_fields_than_may_be_are_refused_whatever_they_are(data: bytes) -> None:
    assert refused(data) == f"the message has more than {FIELDS} fields; pack repeated numbers"


def test_a_long_message_is_refused_as_fast_as_a_short_one() -> None:
    data = b"\x32\0" * 16_000_000
    begun = time.perf_counter()
    refused(data)
    assert time.perf_counter() - begun < 1  # 16 million steps take ten


def test_values_of_known_length_are_stepped_over() -> None:
    data = ModelInferRequest(raw_input_contents=[bytes(50_000_000)]).SerializeToString()
    assert wire.weigh(data, INFER) == Weight(1, 0, 0)


def test_numbers_that_grow_when_parsed_are_bounded() -> None:
    assert wire.weigh(contents(int_contents=[1] * NUMBERS), INFER).numbers == NUMBERS
    assert "packed integers" in refused(contents(int_contents=[1] * (NUMBERS + 1)))
    assert "packed integers" in refused(contents(bool_contents=[True] * (NUMBERS + 1)))
    assert "packed integers" in refused(ModelInferRequest(inputs=[{"shape": [1] * (NUMBERS + 1)}]).SerializeToString())
    assert wire.weigh(contents(fp32_contents=[1.0] * (NUMBERS + 1)), INFER).numbers == 0


def test_text_is_bounded() -> None:
    assert wire.weigh(ModelInferRequest(id="x" * TEXT).SerializeToString(), INFER).text == TEXT
    assert "other text" in refused(ModelInferRequest(id="x" * TEXT, model_name="x").SerializeToString())
    assert "other text" in refused(
        HealthCheckRequest(service="x" * (TEXT + 1)).SerializeToString(), wire.schema(HealthCheckRequest.DESCRIPTOR)
    )


def test_other_calls_have_their_own_fields() -> None:
    load = RepositoryModelLoadRequest(model_name="m")
    for number in range(FIELDS):
        load.parameters[str(number)].bytes_param = b""
    refused(load.SerializeToString(), wire.schema(RepositoryModelLoadRequest.DESCRIPTOR))


@pytest.mark.parametrize(
    "data",
    [
        b"\xff" * 100,
        b"\x0a",
        b"\x0a\x05abc",
        b"\x2a\x02\x0a\x05abc",  # a name beyond its input
        b"\x0d\0\0",
        b"\x3b" * 100 + b"\x3c" * 100,  # groups
        b"\x0a" + b"\x80" * 11,
    ],
)
def test_bytes_that_are_no_message_are_refused(data: bytes) -> None:
    assert refused(data, status=BAD) == BROKEN
