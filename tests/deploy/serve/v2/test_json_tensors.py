from __future__ import annotations

import json
import math
import time
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from senet_convert.deploy.serve.errors import BAD, ServeError
from senet_convert.deploy.serve.http.statuses import status
from senet_convert.deploy.serve.models.inference import BYTES, Output
from senet_convert.deploy.serve.models.served import DATATYPES, FREE, Spec
from senet_convert.deploy.serve.pools import drain
from senet_convert.deploy.serve.v2 import json_tensors
from senet_convert.deploy.serve.v2.json_tensors import KEYS, MOST, NODES, Data

TYPES = pytest.mark.parametrize("datatype", DATATYPES)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["data", "x", 'a"data']), inner),
    max_leaves=20,
)  # fmt: skip


def spec(datatype: str = "FP32", rank: int = 1) -> Spec:
    return Spec("x", datatype, (FREE,) * rank)


def read(text: str, shape: tuple[int, ...], datatype: str = "FP32") -> np.ndarray[Any, Any]:
    body = f'{{"data": {text}}}'.encode()
    return drain(json_tensors.read(spec(datatype, len(shape)), shape, json_tensors.parse(body)["data"]))


def whole(node: Any, body: bytes) -> Any:
    """A parsed request with its arrays put back."""
    if isinstance(node, Data):
        return json.loads(body[node.start : node.end])
    if isinstance(node, dict):
        return {key: whole(value, body) for key, value in node.items()}
    return [whole(value, body) for value in node] if isinstance(node, list) else node


@example({"data": [[], {}]}, False, None)
@example({"data": [[], ""]}, False, None)
@given(JSON, st.booleans(), st.sampled_from([None, 1]))
def test_nothing_changes_but_that_arrays_are_cut_out(tree: Any, ascii_only: bool, indent: int | None) -> None:
    text = json.dumps(tree, ensure_ascii=ascii_only, indent=indent)
    try:
        body = text.encode()
    except UnicodeEncodeError:
        return
    try:
        found = json_tensors.parse(body, depth=200)
    except ServeError as fault:
        assert "surrogates" in fault.message
        return
    assert whole(found, body) == tree


@given(st.text(alphabet='{}[]",:\\data1e-. \n', max_size=40))
def test_what_is_no_json_is_refused_and_nothing_else(text: str) -> None:
    body = f'{{"data":[{text}'.encode()
    try:
        tree = json.loads(body)
    except ValueError:
        tree = None
    try:
        found = whole(json_tensors.parse(body), body)
    except (ServeError, ValueError):
        return  # refused as a whole, or when its array is read
    assert tree is None or found == tree


@TYPES
@given(st.data())
def test_values_and_back(datatype: str, data: st.DataObject) -> None:
    """Flat as answers are, and nested; the very bits, minus zero included."""
    kind = np.dtype(DATATYPES[datatype])
    elements = {"allow_nan": False, "allow_infinity": False} if kind.kind == "f" else None
    value = data.draw(arrays.arrays(kind, arrays.array_shapes(max_dims=4, max_side=4), elements=elements))
    flat = b"".join(json_tensors.write(Output("y", datatype, value)))
    indent = data.draw(st.sampled_from([None, 1]))
    for text in (flat.decode(), json.dumps(value.tolist(), indent=indent)):
        found = read(text, value.shape, datatype)
        assert found.dtype == kind
        assert np.array_equal(found, value)
        if kind.kind == "f":
            assert np.array_equal(np.signbit(found), np.signbit(value)) or "-0," in text


@pytest.mark.parametrize("nested", [False, True])
def test_long_arrays_are_read_in_steps(nested: bool) -> None:
    value = np.random.default_rng(0).standard_normal((2, 100, 501)).astype(np.float32)
    text = json.dumps(value.tolist() if nested else value.ravel().tolist())
    assert len(text) > 10 * 64 * 1024
    assert np.array_equal(read(text, value.shape), value)
    missing = "neither flat nor nested" if nested else "100200 values; 'data' has 100199"
    with pytest.raises(ServeError, match=missing):
        read(text[: text.rindex(",")] + ("]]]" if nested else "]"), value.shape)
    wrong = value.transpose(1, 0, 2) if nested else value.reshape(100, -1)
    with pytest.raises(ServeError, match=r"neither flat nor nested as shape \[2, 100, 501\]"):
        read(json.dumps(wrong.tolist()), value.shape)


@pytest.mark.parametrize(
    ("datatype", "text", "message"),
    [
        ("UINT8", "[300]", "whole numbers from 0 to 255; 'data' holds 300"),
        ("UINT8", "[-1]", "holds -1"),
        ("INT8", "[128]", "from -128 to 127; 'data' holds 128"),
        ("INT32", "[2147483648]", "holds 2147483648"),
        ("INT64", "[9223372036854775808]", "holds 9223372036854775808"),
        ("INT64", "[100000000000000000000]", "holds 1e"),
        ("INT64", "[1.0]", "holds 1.0"),
        ("INT64", "[true]", "holds true"),
        ("INT64", "[null]", "holds null"),
        ("BOOL", "[1]", "true and false; 'data' holds 1"),
        ("BOOL", "[0.0]", "holds 0.0"),
        ("FP32", "[true]", "numbers up to 3.40282e.38; 'data' holds true"),
        ("FP32", "[1e39]", "holds 1e.39"),
        ("FP16", "[70000]", "numbers up to 65504; 'data' holds 70000"),
        ("FP64", "[1e999]", "'data' is not JSON"),
        ("FP64", "[NaN]", "no NaN and no infinity: send such values as binary"),
        ("FP64", "[-Infinity]", "send such values as binary"),
        ("FP32", "[null]", "holds null"),
        ("FP32", "[1 2]", "not JSON"),
        ("FP32", "[01]", "not JSON"),
        ("FP32", "[1.]", "not JSON"),
        ("FP32", "[1,]", "not JSON"),
        ("FP32", "[,1]", "not JSON"),
        ("FP32", "[]", "too short"),
        ("FP32", "[    ]", "a value is missing"),
        ("FP32", "[[1]]", "neither flat nor nested"),
        ("FP32", "[1,2]", "takes 1 values; 'data' has 2"),
    ],
)
def test_values_that_do_not_fit_are_named(datatype: str, text: str, message: str) -> None:
    with pytest.raises(ServeError, match=message) as info:
        read(text, (1,), datatype)
    assert status(info.value) == BAD
    assert "'x'" in info.value.message


@pytest.mark.parametrize("text", ["[1]]", "[[1]"])
def test_brackets_that_do_not_close(text: str) -> None:
    with pytest.raises(ServeError, match="the request is not JSON") as info:
        read(text, (1,))
    assert status(info.value) == BAD


@pytest.mark.parametrize("text", ["[1[,2],[3,4]]", "[[1,2]3,[4,5]]", "[[1,2],[3],4]", "[[1,2],3,4]", "[[[1,2],[3,4]]]"])
def test_brackets_in_wrong_places(text: str) -> None:
    with pytest.raises(ServeError):
        read(text, (2, 2))


def test_a_scalar() -> None:
    assert read("[5]", ()).shape == ()
    with pytest.raises(ServeError, match="neither flat nor nested"):
        read("[[5]]", ())


def test_what_json_does_not_have_is_not_written() -> None:
    for value in (np.nan, np.inf):
        with pytest.raises(ServeError, match=r"'y' holds NaN or infinity.*ask for binary data"):
            list(json_tensors.write(Output("y", "FP32", np.array([[1, value]], np.float32))))


def test_long_results_and_words_are_json() -> None:
    value = np.random.default_rng(0).standard_normal((3, 70000))
    assert json.loads(b"".join(json_tensors.write(Output("y", "FP64", value.T)))) == value.T.ravel().tolist()
    words = np.array([[b'a "b"', "é".encode()]], object)
    assert json.loads(b"".join(json_tensors.write(Output("y", BYTES, words)))) == ['a "b"', "é"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff{}", "not JSON"),
        ('{"a":1}'.encode("utf-16"), "not JSON"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        (b'{"id":"\\ud800"}', "surrogates"),
        (b'{"id":NaN}', "it has no NaN"),
        (b'{"id":' + b"1" * 5000 + b"}", "not JSON"),
        (b'{"id":1,"id":2}', "'id' stands more than once"),
        (b'{"data":[1],"data":[2]}', "'data' stands more than once"),
        (b"[" * 100_000, "nested too deep"),
        (b"[" * 100_000 + b"]" * 100_000, "nested too deep"),
        (b'{"a":' * 40_000, "nested too deep"),
        (b'{"a":' * 20 + b"1" + b"}" * 20, "more than 16 levels"),
        (b'{"data":["a"' + b',"a"' * MOST + b"]}", "longer than 262144 bytes"),
        (b'{"data":{"data":[1],' * 40_000, "longer than 262144 bytes"),
        (b'{"data":' + b" " * 2 * MOST + b"[1]}", "longer than 262144 bytes"),
    ],
)
def test_requests_that_are_refused(body: bytes, message: str) -> None:
    started = time.perf_counter()
    with pytest.raises(ServeError, match=message):
        json_tensors.parse(body)
    assert time.perf_counter() - started < 1


def test_depth_is_counted_exactly() -> None:
    body = b"[" * 5 + b"]" * 5
    assert json_tensors.parse(body, depth=5) == [[[[[]]]]]
    with pytest.raises(ServeError, match="more than 4 levels"):
        json_tensors.parse(body, depth=4)


def test_no_value_is_gigantic() -> None:
    for filler in (b"1" * 200_000, b" " * 200_000):
        body = b'{"data":[1,' + filler + b",2]}"
        with pytest.raises(ServeError, match="a value of more than 4096 characters"):
            drain(json_tensors.read(spec(), (3,), json_tensors.parse(body)["data"]))


def test_memory_is_that_of_the_array() -> None:
    """Neither a shape nor brackets without end are paid for."""
    body = b'{"data":[' + b"[]," * 2_000_000 + b"1]}"
    tracemalloc.start()
    try:
        data = json_tensors.parse(body)["data"]
        with pytest.raises(ServeError, match=r"a value is missing|not JSON"):
            drain(json_tensors.read(spec(rank=2), (2_000_001, 1), data))
        with pytest.raises(ServeError, match="too short"):
            drain(json_tensors.read(spec(rank=2), (2**40, 2**40), data))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20e6


def test_the_shape_decides_not_the_text() -> None:
    assert math.prod(read("[1,2,3,4]", (2, 2)).shape) == 4


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{" + b",".join(b'"%x":0' % one for one in range(KEYS + 1)) + b"}", f"more than {KEYS} keys"),
        (b"[" + b",".join(b'{"a":0,"b":0}' for _ in range(KEYS // 2 + 1)) + b"]", f"more than {KEYS} keys"),
        (b"[" + b"[]," * NODES + b"1]", f"more than {NODES} objects and arrays"),
        (b"[" + b"{}," * NODES + b"1]", f"more than {NODES} objects and arrays"),
        (b"{" + b",".join(b'"%x":0' % one for one in range(KEYS - 1)) + b',"0":0}', "'0' stands more than once"),
        (b'{"%s":1,"%s":2}' % (b"a" * 9000, b"a" * 9000), "'a{80}' stands more than once"),
        (b'{"id":"' + b"\\ud800" * 40_000 + b'"}', "not JSON"),
        (b'{"id":0.' + b"1" * 5000 + b'e999999999,"x":1e}', "not JSON"),
    ],
)
def test_parts_are_counted_and_messages_short(body: bytes, message: str) -> None:
    with pytest.raises(ServeError, match=message) as info:
        json_tensors.parse(body)
    assert status(info.value) == BAD
    assert len(info.value.message) < 400


def test_as_many_keys_as_may_be() -> None:
    body = b"{" + b",".join(b'"%x":0' % one for one in range(KEYS)) + b"}"
    assert len(json_tensors.parse(body)) == KEYS


@pytest.mark.parametrize("row", ["[1]", "1", "[[1]]"])
def test_reading_ends_where_the_shape_does(row: str) -> None:
    """However much follows, no more than a step beyond the values that are taken is looked at."""
    body = f'{{"data":[{",".join([row] * 500_000)}]}}'.encode()
    steps = json_tensors.read(spec(rank=2), (1000, 1), json_tensors.parse(body)["data"])
    taken: list[int] = []
    with pytest.raises(ServeError, match=r"takes 1000 values; 'data' has \d+ or more"):
        drain(steps, taken.append)
    assert len(taken) == 1


def test_memory_is_told_before_it_is_taken() -> None:
    body = b'{"data":[' + b"1," * 99_999 + b"1]}"
    data = json_tensors.parse(body)["data"]
    tracemalloc.start()
    try:
        size = next(json_tensors.read(spec("FP64"), (100_000,), data))
        assert tracemalloc.get_traced_memory()[1] < 50_000
    finally:
        tracemalloc.stop()
    assert 800_000 <= size <= 800_000 + len(body)


def test_steps_are_short() -> None:
    """A step is a piece of 64 KB, whatever the array's length."""
    body = b'{"data":[' + b"0.5," * 999_999 + b"1]}"
    steps = json_tensors.read(spec(), (1_000_000,), json_tensors.parse(body)["data"])
    assert sum(1 for _ in steps) > len(body) // (70 * 1024)


def test_frames_are_no_longer_than_what_was_sent() -> None:
    """A shape of many axes of one has far more brackets than numbers."""
    count = 200_000
    shape = (count, *[1] * 30)
    body = b'{"data":[[' + b"1," * (count - 1) + b"1]]}"
    data = json_tensors.parse(body)["data"]
    tracemalloc.start()
    try:
        with pytest.raises(ServeError, match="neither flat nor nested"):
            drain(json_tensors.read(spec(rank=31), shape, data))
        assert tracemalloc.get_traced_memory()[1] < 10 * len(body)
    finally:
        tracemalloc.stop()
