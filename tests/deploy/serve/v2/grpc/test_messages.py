"""Inference messages: every datatype in every form, and what is refused."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from tritonclient.grpc.service_pb2 import InferParameter, ModelInferRequest

from senet_convert.deploy.serve.errors import BAD, LATE, UNKNOWN, ServeError
from senet_convert.deploy.serve.http.statuses import status
from senet_convert.deploy.serve.models.inference import BYTES, Answer, Array, Output, Question, Wanted
from senet_convert.deploy.serve.models.model_paths import ModelPath
from senet_convert.deploy.serve.models.repository import Repository
from senet_convert.deploy.serve.models.served import DATATYPES
from senet_convert.deploy.serve.v2.grpc.messages import CONTENTS, question, response

from ... import toys

VALUES = {name: np.array([[0, 1, 1]]).astype(kind) for name, kind in DATATYPES.items()}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    folder = tmp_path_factory.mktemp("messages")
    found = Repository(
        [ModelPath("plus", toys.plus(folder / "plus.onnx", 1)), ModelPath("echo", toys.echo(folder / "e.onnx"))]
    )

    async def load() -> None:
        await found.start()
        await found.close()

    asyncio.run(load())
    return found


def request(model: str = "plus", raw: list[bytes] | None = None, **fields: Any) -> ModelInferRequest:
    return ModelInferRequest(model_name=model, raw_input_contents=raw, **fields)


def x(shape: tuple[int, ...] = (1, 3), datatype: str = "FP32", name: str = "x", **fields: Any) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape, **fields}


def asked(repository: Repository, message: ModelInferRequest, remaining: float | None = None) -> Question:
    return question(repository, message, remaining)


def refused(repository: Repository, message: ModelInferRequest, wanted: int = BAD) -> str:
    with pytest.raises(ServeError) as caught:
        asked(repository, message)
    assert status(caught.value) == wanted
    return caught.value.message


@pytest.mark.parametrize("datatype", DATATYPES)
def test_raw_contents_of_every_datatype(repository: Repository, datatype: str) -> None:
    name, values = f"in_{datatype}", VALUES[datatype]
    found = asked(repository, request("echo", [values.tobytes()], inputs=[x((1, 3), datatype, name)])).inputs[name]
    assert found.dtype == values.dtype
    np.testing.assert_array_equal(found, values)


@pytest.mark.parametrize("datatype", CONTENTS)
def test_typed_contents_of_every_datatype(repository: Repository, datatype: str) -> None:
    name, values = f"in_{datatype}", VALUES[datatype]
    contents = {CONTENTS[datatype]: values.ravel().tolist()}
    found = asked(repository, request("echo", inputs=[x((1, 3), datatype, name, contents=contents)])).inputs[name]
    assert found.dtype == values.dtype
    np.testing.assert_array_equal(found, values)


def test_what_has_no_typed_contents_is_said(repository: Repository) -> None:
    assert set(DATATYPES) - set(CONTENTS) == {"FP16"}
    message = refused(repository, request("echo", inputs=[x((1, 3), "FP16", "in_FP16")]))
    assert "FP16 is taken in raw_input_contents only" in message


def test_values_keep_their_order(repository: Repository) -> None:
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    raw = asked(repository, request(raw=[values.tobytes()], inputs=[x((2, 3))]))
    typed = asked(repository, request(inputs=[x((2, 3), contents={"fp32_contents": range(6)})]))
    np.testing.assert_array_equal(raw.inputs["x"], values)
    np.testing.assert_array_equal(typed.inputs["x"], values)


def test_everything_else_of_a_request(repository: Repository) -> None:
    outputs = [{"name": "y", "parameters": {"classification": InferParameter(int64_param=2)}}, {"name": "y"}]
    message = request(raw=[bytes(12)], inputs=[x()], model_version="1", id="seven", outputs=outputs)
    found = asked(repository, message)
    assert (found.model, found.version, found.id) == ("plus", "1", "seven")
    assert found.wanted == (Wanted("y", 2), Wanted("y"))
    assert found.timeout is None


def test_the_tighter_of_timeout_and_deadline_counts(repository: Repository) -> None:
    def timeout(microseconds: int, remaining: float | None) -> float | None:
        parameters = {"timeout": InferParameter(int64_param=microseconds)}
        return asked(repository, request(raw=[bytes(12)], inputs=[x()], parameters=parameters), remaining).timeout

    assert timeout(500_000, 2.0) == 0.5
    assert timeout(5_000_000, 2.0) == 2.0
    assert timeout(0, 2.0) == 2.0
    assert timeout(0, None) is None
    with pytest.raises(ServeError) as caught:
        timeout(500_000, 0.0)
    assert status(caught.value) == LATE


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"inputs": [x()], "raw": [bytes(11)]}, "takes 12 bytes of data; 11 were given"),
        ({"inputs": [x()], "raw": [bytes(12), bytes(12)]}, "1 inputs, but 2 raw_input_contents"),
        ({"inputs": [x()]}, "takes 3 values; fp32_contents holds 0"),
        ({"inputs": [x(contents={"fp32_contents": [1, 2]})]}, "takes 3 values; fp32_contents holds 2"),
        ({"inputs": [x(contents={"fp64_contents": [1, 2, 3]})]}, "stand in fp32_contents, not in fp64_contents"),
        ({"inputs": [x(contents={"fp32_contents": [1]})], "raw": [bytes(12)]}, "both contents and raw_input_contents"),
        ({"inputs": [x(), x()], "raw": [bytes(12)] * 2}, "stands more than once"),
        ({"inputs": [x(name="data")], "raw": [bytes(12)]}, "has no input 'data'; it has 'x' FP32 [-1, 3]"),
        ({"inputs": [x(datatype="FP64")], "raw": [bytes(24)]}, "is FP64; it takes 'x' FP32 [-1, 3]"),
        ({"inputs": [x(datatype="BYTES")], "raw": [bytes(12)]}, "is BYTES; it takes 'x' FP32"),
        ({"inputs": [x(datatype="")], "raw": [bytes(12)]}, "it takes 'x' FP32"),
        ({"inputs": [x((1, 4))], "raw": [bytes(16)]}, "has shape [1, 4]; it takes 'x' FP32 [-1, 3]"),
        ({"inputs": [x((3,))], "raw": [bytes(12)]}, "has shape [3]"),
        ({"inputs": [x((-1, 3))], "raw": [bytes(12)]}, "shape [-1, 3]"),
        ({"inputs": [x((0, 3))], "raw": [b""]}, "is empty"),
        ({"inputs": [x((2**62, 3))], "raw": [bytes(12)]}, "items in one request"),
        (
            {"inputs": [x(parameters={"shared_memory_region": InferParameter(string_param="r")})]},
            "shared memory is not supported",
        ),
        (
            {"outputs": [{"name": "y", "parameters": {"shared_memory_region": InferParameter(string_param="r")}}]},
            "shared memory is not supported",
        ),
        (
            {"outputs": [{"name": "y", "parameters": {"classification": InferParameter(string_param="2")}}]},
            "'classification' is a whole number, in int64_param; not in string_param",
        ),
        (
            {"outputs": [{"name": "y", "parameters": {"classification": InferParameter(int64_param=-2)}}]},
            "classification -2",
        ),
        ({"parameters": {"timeout": InferParameter(bool_param=True)}}, "'timeout' is a whole number"),
        ({"parameters": {"timeout": InferParameter()}}, "'timeout' is a whole number"),
        ({"parameters": {"timeout": InferParameter(int64_param=-1)}}, "timeout -1"),
    ],
)
def test_refusals_name_what_is_wrong(repository: Repository, fields: dict[str, Any], words: str) -> None:
    assert words in refused(repository, request(**fields))


@pytest.mark.parametrize(("datatype", "value"), [("UINT8", 256), ("INT8", 128), ("INT8", -129)])
def test_values_beyond_their_type_are_refused(repository: Repository, datatype: str, value: int) -> None:
    contents = {CONTENTS[datatype]: [0, value, 1]}
    message = refused(repository, request("echo", inputs=[x((1, 3), datatype, f"in_{datatype}", contents=contents)]))
    assert str(value) in message


def test_unknown_models_and_versions(repository: Repository) -> None:
    assert "no model is called 'nix'" in refused(repository, request("nix"), UNKNOWN)
    assert "no version '9'; it has 1" in refused(repository, request("plus", model_version="9"), UNKNOWN)


def test_answers_are_raw() -> None:
    values = np.array([[1.5, -2.5]], np.float32)
    words: Array = np.array([[b"0.5:1:one", b"0.25:0"]], dtype=object)
    message = response(Answer("m", "3", "id", (Output("y", "FP32", values), Output("best", BYTES, words))))
    assert (message.model_name, message.model_version, message.id) == ("m", "3", "id")
    assert [(one.name, one.datatype, list(one.shape)) for one in message.outputs] == [
        ("y", "FP32", [1, 2]),
        ("best", "BYTES", [1, 2]),
    ]
    assert message.raw_output_contents[0] == values.tobytes()
    assert message.raw_output_contents[1] == b"\x09\0\0\x000.5:1:one\x06\0\0\x000.25:0"
