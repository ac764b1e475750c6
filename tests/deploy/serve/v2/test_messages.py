from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from senet_convert.deploy.serve.errors import BAD, ServeError
from senet_convert.deploy.serve.http.statuses import status
from senet_convert.deploy.serve.models.inference import BYTES, Answer, Output, Question, Wanted
from senet_convert.deploy.serve.models.served import DATATYPES, FREE, Served, Spec
from senet_convert.deploy.serve.pools import drain
from senet_convert.deploy.serve.v2 import messages
from senet_convert.deploy.serve.v2.messages import HEADER, Asked
from tests.deploy.serve.toys import served

IMAGE = Spec("image", "UINT8", (FREE, 2, 2, 3))
SIZES = Spec("sizes", "INT64", (FREE, 2))
TOY = served(IMAGE)
PICTURE = np.arange(12, dtype=np.uint8).reshape(1, 2, 2, 3)


def decode(body: bytes, header: str | None, model: Served, version: str = "") -> Asked:
    return drain(messages.decode(body, header, model, version))


def entry(**changes: Any) -> dict[str, Any]:
    """A JSON input that fits, but for `changes`; None takes a key away."""
    given = {"name": "image", "datatype": "UINT8", "shape": [1, 2, 2, 3], "data": list(range(12)), **changes}
    return {key: value for key, value in given.items() if value is not None}


def request(*inputs: dict[str, Any], **more: Any) -> bytes:
    return json.dumps({"inputs": list(inputs or [entry()]), **more}).encode()


def binary(size: int = 12, **changes: Any) -> dict[str, Any]:
    return entry(data=None, parameters={"binary_data_size": size}, **changes)


def refused(body: bytes, header: str | None = None, model: Any = TOY) -> str:
    with pytest.raises(ServeError) as info:
        decode(body, header, model)
    assert status(info.value) == BAD
    return info.value.message


def test_a_json_request() -> None:
    asked = decode(request(id="a", parameters={"timeout": 2500, "priority": 1, "sequence_id": 3, "own": []}), None, TOY)
    assert (asked.question.model, asked.question.id, asked.question.wanted) == ("toy", "a", ())
    assert asked.question.timeout == pytest.approx(0.0025)
    assert np.array_equal(asked.question.inputs["image"], PICTURE)
    assert not asked.is_binary(0)


def test_a_binary_request_is_not_copied() -> None:
    text = request(binary(), parameters={"binary_data_output": True})
    body = text + PICTURE.tobytes()
    asked = decode(body, str(len(text)), TOY, "7")
    assert asked.question.version == "7"
    assert asked.question.timeout is None
    assert np.array_equal(asked.question.inputs["image"], PICTURE)
    assert np.shares_memory(asked.question.inputs["image"], np.frombuffer(body, np.uint8))
    assert asked.is_binary(0)


def test_json_and_binary_inputs_together() -> None:
    text = request({"name": "sizes", "datatype": "INT64", "shape": [1, 2], "data": [[3, 4]]}, binary())
    asked = decode(text + PICTURE.tobytes(), str(len(text)), served(IMAGE, SIZES))
    assert asked.question.inputs["sizes"].tolist() == [[3, 4]]
    assert np.array_equal(asked.question.inputs["image"], PICTURE)


def test_each_output_in_its_own_form() -> None:
    outputs = [
        {"name": "a"},
        {"name": "b", "parameters": {"binary_data": False, "classification": 2}},
        {"name": "c", "parameters": {"binary_data": True}},
    ]
    for default in (False, True):
        asked = decode(request(outputs=outputs, parameters={"binary_data_output": default}), None, TOY)
        assert asked.question.wanted == (Wanted("a"), Wanted("b", 2), Wanted("c"))
        assert [asked.is_binary(place) for place in range(3)] == [default, False, True]


def test_bytes_alone_are_the_only_input() -> None:
    asked = decode(PICTURE.tobytes(), "0", TOY)
    assert np.array_equal(asked.question.inputs["image"], PICTURE)
    assert asked.is_binary(0)
    free = served(Spec("x", "FP32", (2, FREE)), batched=False)
    assert decode(bytes(24), "0", free).question.inputs["x"].shape == (2, 3)
    assert "takes 12 bytes of data; 11 were given" in refused(bytes(11), "0")
    assert "takes 24 bytes of data; 25 were given" in refused(bytes(25), "0", free)
    assert "is empty" in refused(b"", "0", free)
    assert "one input and one free size" in refused(bytes(24), "0", served(IMAGE, SIZES))
    assert "one input and one free size" in refused(bytes(24), "0", served(Spec("x", "FP32", (FREE,) * 3)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "picture"}, "has no input 'picture'; it has 'image' UINT8 [-1, 2, 2, 3]"),
        ({"name": None}, "missing required field `name` - at `$.inputs[0]`"),
        ({"name": 5}, "Expected `str`, got `int` - at `$.inputs[0].name`"),
        ({"datatype": "FP32"}, "input 'image' is FP32; it takes 'image' UINT8 [-1, 2, 2, 3]"),
        ({"datatype": "BYTES", "data": ["a"]}, "input 'image' is BYTES; it takes"),
        ({"datatype": None}, "missing required field `datatype`"),
        ({"shape": [1, 2, 2]}, "has shape [1, 2, 2]; it takes"),
        ({"shape": [1, 2, 2, 4]}, "has shape [1, 2, 2, 4]; it takes"),
        ({"shape": [0, 2, 2, 3]}, "is empty"),
        ({"shape": [1001, 2, 2, 3]}, "1001 items in one request; it takes at most 1000"),
        ({"shape": [-1, 2, 2, 3]}, "Expected `int` >= 0 - at `$.inputs[0].shape[0]`"),
        ({"shape": [1.0, 2, 2, 3]}, "Expected `int`, got `float`"),
        ({"shape": [True, 2, 2, 3]}, "Expected `int`, got `bool`"),
        ({"shape": [2**63, 2, 2, 3]}, "Expected `int` <= 9223372036854775807"),
        ({"shape": [1] * 65}, "Expected `array` of length <= 64 - at `$.inputs[0].shape`"),
        ({"shape": None}, "missing required field `shape`"),
        ({"shape": [2, 2, 2, 3]}, "'data' is too short"),
        ({"data": None}, "neither 'data' nor the parameter 'binary_data_size'"),
        ({"data": "text"}, "'data' must be an array"),
        ({"data": {}}, "'data' must be an array"),
        ({"data": ["1"] * 12}, "'data' must be an array"),
        ({"data": [256] * 12}, "whole numbers from 0 to 255"),
        ({"parameters": []}, "Expected `object`, got `array` - at `$.inputs[0].parameters`"),
        ({"parameters": {"shared_memory_region": "r"}}, "shared memory ('shared_memory_region') is not supported"),
        ({"parameters": {"binary_data_size": 12}}, "both 'data' and 'binary_data_size'"),
        ({"data": None, "parameters": {"binary_data_size": 12}}, "'binary_data_size' is 12; 0 bytes are left"),
        ({"data": None, "parameters": {"binary_data_size": -1}}, "Expected `int` >= 0"),
        ({"data": None, "parameters": {"binary_data_size": "12"}}, "Expected `int`, got `str`"),
        ({"data": None, "parameters": {"binary_data_size": 0}}, "takes 12 bytes of data; 0 were given"),
    ],
)
def test_inputs_that_do_not_fit(changes: dict[str, Any], message: str) -> None:
    assert message in refused(request(entry(**changes)))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "not JSON"),
        (b"[]", "Expected `object`, got `array`"),
        (b'{"inputs": {}}', "Expected `array`, got `object` - at `$.inputs`"),
        (b'{"inputs": [5]}', "Expected `object`, got `int` - at `$.inputs[0]`"),
        (b'{"inputs": {"data": [1]}}', "Expected `array`, got `object`"),
        (request(entry(), entry()), "input 'image' stands more than once"),
        (request(id=5), "Expected `str`, got `int` - at `$.id`"),
        (request(parameters={"timeout": -1}), "Expected `int` >= 0 - at `$.parameters.timeout`"),
        (request(parameters={"timeout": 1e400}), "no Infinity"),
        (request(parameters={"timeout": 2**70}), "Expected `int` <= 9223372036854775807"),
        (request(parameters={"priority": "high"}), "Expected `int`, got `str` - at `$.parameters.priority`"),
        (request(parameters={"binary_data_output": 1}), "Expected `bool`, got `int` - at `$.parameters."),
        (request(parameters={"data": [1], "binary_data_output": None}), "Expected `bool`, got `null`"),
        (request(outputs=[{}]), "missing required field `name` - at `$.outputs[0]`"),
        (request(outputs=[{"name": "y", "parameters": {"classification": -1}}]), "Expected `int` >= 0"),
        (request(outputs=[{"name": "y", "parameters": {"binary_data": 0}}]), "Expected `bool`, got `int`"),
        (request(outputs=[{"name": "y", "parameters": {"shared_memory_region": "r"}}]), "shared memory"),
    ],
)
def test_requests_that_are_refused(body: bytes, message: str) -> None:
    assert message in refused(body)


def test_headers_that_lie() -> None:
    text = request(binary())
    body = text + PICTURE.tobytes()
    for header in ("-1", "1.5", "x", "", "９", str(len(body) + 1), "9" * 30):
        assert HEADER in refused(body, header)
    for wrong in (1, len(text) - 1, len(text) + 1, len(body)):
        refused(body, str(wrong))
    assert "1 bytes follow the last tensor" in refused(body + b"\0", str(len(text)))
    assert "'binary_data_size' is 12; 11 bytes are left" in refused(body[:-1], str(len(text)))
    assert "not JSON" in refused(body)


@pytest.mark.parametrize("datatype", DATATYPES)
@given(st.data())
def test_requests_in_either_form(datatype: str, data: st.DataObject) -> None:
    kind = np.dtype(DATATYPES[datatype])
    elements = {"allow_nan": False, "allow_infinity": False} if kind.kind == "f" else None
    value = data.draw(arrays.arrays(kind, arrays.array_shapes(min_dims=2, max_dims=2, max_side=4), elements=elements))
    model = served(Spec("x", datatype, (FREE, FREE)))
    head = {"name": "x", "datatype": datatype, "shape": value.shape}
    raw = value.tobytes()
    text = request({**head, "parameters": {"binary_data_size": len(raw)}})
    for asked in (
        decode(text + raw, str(len(text)), model),
        decode(request({**head, "data": value.tolist()}), None, model),
        decode(request({**head, "data": value.ravel().tolist()}), None, model),
    ):
        assert asked.question.inputs["x"].dtype == kind
        assert np.array_equal(asked.question.inputs["x"], value)


@given(st.lists(st.tuples(st.sampled_from([*DATATYPES, BYTES]), st.booleans()), max_size=4), st.data())
def test_answers_in_any_mixture(forms: list[tuple[str, bool]], data: st.DataObject) -> None:
    outputs = []
    for place, (datatype, _) in enumerate(forms):
        if datatype == BYTES:
            value = np.array([[b"0.5:1:one", "0.25:0:näh".encode()]], object)
        else:
            kind = np.dtype(DATATYPES[datatype])
            finite = {"allow_nan": False, "allow_infinity": False} if kind.kind == "f" else None
            value = data.draw(arrays.arrays(kind, (2, 3), elements=finite))
        outputs.append(Output(f"out{place}", datatype, value))
    asked = Asked(Question("toy", {}), tuple(as_binary for _, as_binary in forms))
    form = messages.encode(Answer("toy", "3", "an id", tuple(outputs)), asked)
    body = form.content
    assert (form.header is not None) == any(as_binary for _, as_binary in forms)
    head = json.loads(body[: form.header])
    assert (head["model_name"], head["model_version"], head["id"]) == ("toy", "3", "an id")
    at = form.header or len(body)
    for output, (datatype, as_binary), entry in zip(outputs, forms, head["outputs"], strict=True):
        assert (entry["name"], entry["datatype"], entry["shape"]) == (output.name, datatype, list(output.data.shape))
        if not as_binary:
            found = entry["data"]
        else:
            size = entry["parameters"]["binary_data_size"]
            found, at = body[at : at + size], at + size
        assert_same(output, found)
    assert at == len(body)


def assert_same(output: Output, found: Any) -> None:
    if output.datatype == BYTES:
        words = list(output.data.ravel())
        packed = b"".join(struct.pack("<I", len(word)) + word for word in words)
        assert found == (packed if isinstance(found, bytes) else [word.decode() for word in words])
        return
    value = np.frombuffer(found, output.data.dtype) if isinstance(found, bytes) else np.array(found, output.data.dtype)
    assert np.array_equal(value, output.data.ravel())


def test_an_answer_without_id_or_outputs_to_choose_from() -> None:
    answer = Answer("toy", "1", "", (Output("y", "FP32", np.ones((1, 2), np.float32)),))
    form = messages.encode(answer, Asked(Question("toy", {})))
    assert form.header is None
    assert json.loads(form.content) == {
        "model_name": "toy",
        "model_version": "1",
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 2], "data": [1.0, 1.0]}],
    }


def test_the_effort_of_json_is_counted_higher() -> None:
    answer = Answer("toy", "1", "", (Output("y", "FP32", np.ones((1, 100), np.float32)),))
    assert messages.effort(answer, Asked(Question("toy", {}), default=True)) == 400
    assert messages.effort(answer, Asked(Question("toy", {}), default=False)) == 6400
