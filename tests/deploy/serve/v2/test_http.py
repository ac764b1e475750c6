"""The protocol's paths, asked over ASGI."""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
import time
import zlib
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import numpy as np
import pytest

from senet_convert.deploy.serve.models.model_paths import ModelPath
from senet_convert.deploy.serve.models.served import DATATYPES
from senet_convert.deploy.serve.settings.settings import Settings
from senet_convert.deploy.serve.state import ServerState
from senet_convert.deploy.serve.v2 import json_tensors
from senet_convert.deploy.serve.v2.messages import HEADER
from senet_convert.version import __version__
from tests.deploy.serve import toys
from tests.deploy.serve.asgi import talk

ODD = "odd näme %&"


@pytest.fixture(scope="session")
def models(bundle: Path, image_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[ModelPath, ...]:
    folder = tmp_path_factory.mktemp("toys")
    return (
        ModelPath("digits", bundle),
        ModelPath(ODD, image_bundle),
        ModelPath("echo", toys.echo(folder / "echo.onnx")),
        ModelPath("root", toys.root(folder / "root.onnx")),
    )


def tensor(name: str, value: Any, datatype: str = "FP32", **more: Any) -> dict[str, Any]:
    array = np.asarray(value)
    return {"name": name, "datatype": datatype, "shape": array.shape, "data": array.tolist(), **more}


def picture(count: int = 1) -> np.ndarray[Any, Any]:
    return np.random.default_rng(count).integers(0, 256, (count, 32, 32, 3)).astype(np.uint8)


def every_type() -> list[dict[str, Any]]:
    values = {"BOOL": [[True, False]], "FP16": [[0.5, -2]], "FP32": [[1.5, 3]], "FP64": [[0.1, 7]]}
    return [tensor(f"in_{name}", values.get(name, [[1, 2]]), name) for name in DATATYPES]


def test_what_is_told_of_the_server_and_its_models(models: tuple[ModelPath, ...]) -> None:
    async def use(client: httpx.AsyncClient, state: ServerState) -> None:
        server = (await client.get("/v2")).json()
        assert (server["name"], server["version"]) == ("senet-convert", __version__)
        assert "binary_tensor_data" in server["extensions"]
        assert (await client.get("/v2/models")).json() == {"models": sorted(place.name for place in models)}
        for path in ("/v2/models/digits", "/v2/models/digits/versions/1"):
            told = (await client.get(path)).json()
            parameters = told.pop("parameters")
            assert parameters.pop("encoded_pictures") == "data"
            assert set(parameters) == {"preprocess", "preprocess_assumed"}
            assert told == {
                "name": "digits",
                "versions": ["1"],
                "platform": "onnxruntime_onnx",
                "inputs": [{"name": "data", "datatype": "FP32", "shape": [-1, 3, 32, 32]}],
                "outputs": [{"name": "prob", "datatype": "FP32", "shape": [-1, 10]}],
            }
        config = (await client.get("/v2/models/digits/config")).json()
        assert config["max_batch_size"] == 16
        assert config["input"] == [{"name": "data", "data_type": "TYPE_FP32", "dims": [3, 32, 32]}]
        config = (await client.get("/v2/models/root/versions/1/config")).json()
        assert config["max_batch_size"] == 0
        assert config["output"] == [{"name": "y", "data_type": "TYPE_FP32", "dims": [2, -1]}]

    talk(Settings(models), use)


def test_health(models: tuple[ModelPath, ...]) -> None:
    async def use(client: httpx.AsyncClient, state: ServerState) -> None:
        ready = ("/v2/health/ready", "/v2/models/digits/ready", "/v2/models/digits/versions/1/ready")
        for path in ("/v2/health/live", *ready):
            response = await client.get(path)
            assert (response.status_code, response.content) == (200, b"")
        state.draining = True
        assert (await client.get("/v2/health/live")).status_code == 200
        for path in ready:
            response = await client.get(path)
            assert response.status_code == 503
            assert response.headers["Retry-After"]
            assert "shutting down" in response.json()["error"]

    talk(Settings(models[:1]), use)


def test_unknown_paths_models_versions_and_methods(models: tuple[ModelPath, ...]) -> None:
    async def use(client: httpx.AsyncClient, state: ServerState) -> None:
        for tail in ("", "/ready", "/config", "/stats", "/infer"):
            ask = client.post if tail == "/infer" else client.get
            response = await ask(f"/v2/models/nothing{tail}")
            assert (response.status_code, response.json()) == (
                404,
                {"error": "no model is called 'nothing'; there is digits"},
            )
            response = await ask(f"/v2/models/digits/versions/7{tail}")
            assert (response.status_code, response.json()) == (
                404,
                {"error": "model 'digits' has no version '7'; it has 1"},
            )
        assert (await client.get("/v2/nothing")).status_code == 404
        response = await client.get("/v2/models/digits/infer")
        assert (response.status_code, response.headers["Allow"]) == (405, "POST")
        assert "error" in response.json()

    talk(Settings(models[:1]), use)


def test_every_datatype_in_json_and_binary(models: tuple[ModelPath, ...]) -> None:
    async def use(client: httpx.AsyncClient, state: ServerState) -> None:
        given = every_type()
        response = await client.post("/v2/models/echo/infer", json={"inputs": given, "id": "7"})
        assert response.headers["Content-Type"] == "application/json"
        found = response.json()
        assert (found["model_name"], found["model_version"], found["id"]) == ("echo", "1", "7")
        for one, output in zip(given, found["outputs"], strict=True):
            assert output["name"] == one["name"].replace("in", "out")
            assert output["data"] == np.array(one["data"], DATATYPES[one["datatype"]]).ravel().tolist()
        raw = [np.array(one["data"], DATATYPES[one["datatype"]]).tobytes() for one in given]
        inputs = [
            {"name": one["name"], "datatype": one["datatype"], "shape": one["shape"],
             "parameters": {"binary_data_size": len(part)}}
            for one, part in zip(given, raw, strict=True)
        ]  # fmt: skip
        head = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}).encode()
        response = await client.post(
            "/v2/models/echo/infer", content=head + b"".join(raw), headers={HEADER: str(len(head))}
        )
        assert response.headers["Content-Type"] == "application/octet-stream"
        assert response.content[int(response.headers[HEADER]) :] == b"".join(raw)

    talk(Settings(models), use)


def test_pictures_in_every_form_give_the_same_answer(models: tuple[ModelPath, ...]) -> None:
    async def use(client: httpx.AsyncClient, state: ServerState) -> None:
        url, value = f"/v2/models/{quote(ODD)}/infer", picture()
        text = json.dumps({"inputs": [tensor("image", value, "UINT8")]}).encode()
        found = [(await client.post(url, content=text)).json()["outputs"][0]["data"]]
        for name, pack in (("gzip", gzip.compress), ("deflate", zlib.compress)):
            response = await client.post(url, content=pack(text), headers={"Content-Encoding": name})
            found.append(response.json()["outputs"][0]["data"])
        response = await client.post(url, content=value.tobytes(), headers={HEADER: "0"})
        found.append(np.frombuffer(response.content[int(response.headers[HEADER]) :], np.float32).tolist())
        assert np.ptp(np.array(found), axis=0).max() < 1e-6
        assert sum(found[0]) == pytest.approx(1)

    talk(Settings(models[1:2]), use)


def test_the_best_classes(models: tuple[ModelPath, ...], digits: Path) -> None:
    classes = (digits / "classes.txt").read_text().split()

    async def use(client: httpx.AsyncClient, state: ServerState) -> None:
        body = {
            "inputs": [tensor("data", np.zeros((2, 3, 32, 32)))],
            "outputs": [{"name": "prob", "parameters": {"classification": 3}}, {"name": "prob"}],
        }
        best, values = (await client.post("/v2/models/digits/infer", json=body)).json()["outputs"]
        assert (best["datatype"], best["shape"]) == ("BYTES", [2, 3])
        value, index, label = best["data"][0].split(":")
        assert float(value) == pytest.approx(max(values["data"][:10]))
        assert int(index) == int(np.argmax(values["data"][:10]))
        assert label == classes[int(index)]

    talk(Settings(models[:1]), use)


def test_values_that_json_does_not_have_come_in_binary(models: tuple[ModelPath, ...]) -> None:
    async def use(client: httpx.AsyncClient, state: ServerState) -> None:
        body: dict[str, Any] = {"inputs": [tensor("x", [[-1.0], [4.0]])]}
        response = await client.post("/v2/models/root/infer", json=body)
        assert response.status_code == 400
        assert "ask for binary data" in response.json()["error"]
        response = await client.post("/v2/models/root/infer", json={**body, "parameters": {"binary_data_output": True}})
        values = np.frombuffer(response.content[int(response.headers[HEADER]) :], np.float32)
        assert np.isnan(values[0])
        assert values[1] == 2

    talk(Settings(models), use)


def test_long_answers_are_packed_where_that_is_asked_for(models: tuple[ModelPath, ...]) -> None:
    async def use(client: httpx.AsyncClient, state: ServerState) -> None:
        value = np.arange(80_000, dtype=np.float32).reshape(2, -1)
        for accept, packing in (("gzip", "gzip"), ("deflate", "deflate"), ("identity", None)):
            for as_binary in (False, True):
                body: dict[str, Any] = {"inputs": [tensor("x", value)], "parameters": {"binary_data_output": as_binary}}
                response = await client.post("/v2/models/root/infer", json=body, headers={"Accept-Encoding": accept})
                assert response.headers.get("Content-Encoding") == packing
                if as_binary:
                    found = np.frombuffer(response.content[int(response.headers[HEADER]) :], np.float32)
                else:
                    found = np.array(response.json()["outputs"][0]["data"], np.float32)
                assert np.array_equal(found, np.sqrt(value).ravel())

    talk(Settings(models), use)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "picture"}, "has no input 'picture'"),
        ({"datatype": "INT64"}, "it takes 'data' FP32 [-1, 3, 32, 32]"),
        ({"shape": [1, 3, 32, 33]}, "it takes 'data' FP32 [-1, 3, 32, 32]"),
        ({"shape": [17, 3, 32, 32]}, "at most 16 at once"),
        ({"data": [1.0]}, "'data' is too short"),
    ],
)
def test_wrong_requests_are_told_what_is_wanted(
    models: tuple[ModelPath, ...], changes: dict[str, Any], message: str
) -> None:
    async def use(client: httpx.AsyncClient, state: ServerState) -> None:
        given = tensor("data", np.zeros((1, 3, 32, 32))) | changes
        response = await client.post("/v2/models/digits/infer", json={"inputs": [given]})
        assert response.status_code == 400
        assert message in response.json()["error"]
        bodies: tuple[dict[str, Any], ...] = ({"inputs": []}, {})
        for body in bodies:
            response = await client.post("/v2/models/digits/infer", json=body)
            assert response.status_code == 400
            assert "input data is missing; it takes 'data' FP32" in response.json()["error"]

    talk(Settings(models[:1]), use)


def test_hostile_bodies_cost_their_sender_an_error(models: tuple[ModelPath, ...]) -> None:
    limit = 4_000_000
    bodies: list[tuple[bytes, dict[str, str], int]] = [
        (b"[" * 100_000, {}, 400),
        (b'{"a":' * 100_000, {}, 400),
        (b"", {}, 400),
        (b"\0" * 1000, {}, 400),
        (b"{}", {HEADER: "-5"}, 400),
        (b"{}", {HEADER: "3"}, 400),
        (b"{}", {"Content-Encoding": "br"}, 400),
        (b"{}", {"Content-Encoding": "gzip"}, 400),
        (gzip.compress(bytes(limit + 1)), {"Content-Encoding": "gzip"}, 413),
        (bytes(limit + 1), {}, 413),
        (b'{"inputs":[{"name":"data","datatype":"FP32","shape":[1,3,32,32],"data":[' + b"[]," * 1_000_000, {}, 400),
    ]

    async def use(client: httpx.AsyncClient, state: ServerState) -> None:
        for body, headers, status in bodies:
            started = time.perf_counter()
            response = await client.post("/v2/models/digits/infer", content=body, headers=headers)
            assert response.status_code == status, (body[:50], headers, response.text[:500])
            assert len(response.json()["error"]) < 500
            assert time.perf_counter() - started < 2
        assert state.repository.get("digits").stats.inferences == 0

    talk(Settings(models[:1], max_body=limit), use)


def test_a_short_timeout_is_heeded(models: tuple[ModelPath, ...]) -> None:
    async def use(client: httpx.AsyncClient, state: ServerState) -> None:
        body = {"inputs": [tensor("data", np.zeros((1, 3, 32, 32)))], "parameters": {"timeout": 1}}
        response = await client.post("/v2/models/digits/infer", json=body)
        assert response.status_code == 504
        assert "deadline" in response.json()["error"]

    talk(Settings(models[:1]), use)


def test_counts_and_durations(models: tuple[ModelPath, ...]) -> None:
    async def use(client: httpx.AsyncClient, state: ServerState) -> None:
        body = {"inputs": [tensor("data", np.zeros((3, 3, 32, 32)))]}
        for _ in range(2):
            assert (await client.post("/v2/models/digits/infer", json=body)).status_code == 200
        (one,) = (await client.get("/v2/models/digits/stats")).json()["model_stats"]
        assert (one["name"], one["version"], one["inference_count"], one["execution_count"]) == ("digits", "1", 6, 2)
        assert one["inference_stats"]["success"]["count"] == 2
        assert one["inference_stats"]["compute_infer"]["ns"] > 0
        assert [entry["batch_size"] for entry in one["batch_stats"]] == [3]
        assert abs(one["last_inference"] / 1000 - time.time()) < 60
        assert (await client.get("/v2/models/digits/versions/1/stats")).json()["model_stats"] == [one]
        every = (await client.get("/v2/models/stats")).json()["model_stats"]
        assert {entry["name"] for entry in every} == {"digits", ODD}

    talk(Settings(models[:2]), use)


def test_models_are_unloaded_and_loaded(models: tuple[ModelPath, ...]) -> None:
    async def use(client: httpx.AsyncClient, state: ServerState) -> None:
        assert (await client.post("/v2/repository/index")).json() == [
            {"name": "digits", "version": "1", "state": "READY", "reason": ""}
        ]
        parameters = {"parameters": {"unload_dependents": False}}
        assert (await client.post("/v2/repository/models/digits/unload", json=parameters)).status_code == 200
        (entry,) = (await client.post("/v2/repository/index", json={"ready": False})).json()
        assert (entry["state"], entry["reason"]) == ("UNAVAILABLE", "unloaded")
        assert (await client.post("/v2/repository/index", json={"ready": True})).json() == []
        assert (await client.get("/v2/models")).json() == {"models": []}
        assert (await client.get("/v2/models/digits/ready")).status_code == 400
        response = await client.post("/v2/repository/models/digits/load", json={})
        assert (response.status_code, response.content) == (200, b"")
        assert (await client.get("/v2/models/digits/ready")).status_code == 200
        response = await client.post("/v2/repository/models/digits/load", json={"parameters": {"config": "{}"}})
        assert response.status_code == 400
        assert "config" in response.json()["error"]
        for word in ("load", "unload"):
            assert (await client.post(f"/v2/repository/models/nothing/{word}")).status_code == 404
            response = await client.post(f"/v2/repository/models/digits/{word}", json={"parameters": []})
            assert (response.status_code, response.json()["error"]) == (400, "'parameters' must be a JSON object")
        for wrong in (b"[]", b"{", b'{"ready": 1}'):
            assert (await client.post("/v2/repository/index", content=wrong)).status_code == 400

    talk(Settings(models[:1]), use)


def test_models_are_changed_only_by_those_who_may(models: tuple[ModelPath, ...]) -> None:
    async def use(client: httpx.AsyncClient, state: ServerState) -> None:
        for word in ("load", "unload"):
            assert (await client.post(f"/v2/repository/models/digits/{word}")).status_code == 403
        assert (await client.get("/v2/models/digits/ready")).status_code == 200

    talk(Settings(models[:1], control="off"), use)
    talk(Settings(models[:1], host="0.0.0.0"), use)  # listens on nothing here


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v2/trace/setting"),
        ("POST", "/v2/models/digits/trace/setting"),
        ("POST", "/v2/logging"),
        ("GET", "/v2/systemsharedmemory/status"),
        ("POST", "/v2/cudasharedmemory/region/r/register"),
    ],
)
def test_what_is_not_supported_says_so(models: tuple[ModelPath, ...], method: str, path: str) -> None:
    async def use(client: httpx.AsyncClient, state: ServerState) -> None:
        response = await client.request(method, path)
        assert response.status_code == 400
        assert response.json()["error"].startswith("not supported: ")

    talk(Settings(models[:1]), use)


def test_a_large_request_keeps_nobody_waiting(models: tuple[ModelPath, ...]) -> None:
    """The loop turns every few milliseconds while tens of megabytes of JSON are read."""
    text = b'{"inputs":[{"name":"x","datatype":"FP32","shape":[2,3000000],"data":[' + b"0.12345," * 5_999_999 + b"1]}]}"
    gaps: list[float] = []

    async def use(client: httpx.AsyncClient, state: ServerState) -> None:
        async def tick() -> None:
            last = time.perf_counter()
            while True:
                await asyncio.sleep(0.001)
                now = time.perf_counter()
                gaps.append(now - last)
                last = now

        ticking = asyncio.create_task(tick())
        body = {"outputs": [{"name": "y", "parameters": {"binary_data": True}}]}
        content = text[:-1] + b"," + json.dumps(body)[1:].encode()
        response = await client.post("/v2/models/root/infer", content=content)
        assert response.status_code == 200, response.text[:500]
        ticking.cancel()

    talk(Settings(models, max_body=len(text) + 1000), use)
    assert len(gaps) > 50
    assert sorted(gaps)[int(len(gaps) * 0.95)] < 0.05


def test_small_requests_are_small(models: tuple[ModelPath, ...]) -> None:
    """What takes a few words takes no more than their size; and it may be packed as any other."""
    keys = b"{" + b",".join(b'"%x":0' % one for one in range(6000)) + b',"zz":0,"zz":0}'

    async def use(client: httpx.AsyncClient, state: ServerState) -> None:
        for path in (
            "/v2/repository/index",
            "/v2/repository/models/digits/load",
            "/v2/repository/models/digits/unload",
        ):
            for packed in (False, True):
                headers = {"Content-Encoding": "gzip"} if packed else {}
                for content, status in ((b"{" + b" " * 300_000 + b"}", 413), (keys, 400), (b"[" * 20_000, 400)):
                    sent = gzip.compress(content) if packed else content
                    answer = await client.post(path, content=sent, headers=headers)
                    assert answer.status_code == status, answer.text
                    assert len(answer.content) < 300
        found = await client.post("/v2/repository/index", content=gzip.compress(b'{"ready":true}'), headers=headers)
        assert [one["name"] for one in found.json()] == ["digits"]

    talk(Settings(models[:1]), use)


def test_an_output_is_asked_for_twice_at_most(models: tuple[ModelPath, ...]) -> None:
    async def use(client: httpx.AsyncClient, state: ServerState) -> None:
        for times, status in ((2, 200), (3, 400)):
            body = {"inputs": [tensor("x", [[1.0], [4.0]])], "outputs": [{"name": "y"}] * times}
            answer = await client.post("/v2/models/root/infer", json=body)
            assert answer.status_code == status
        assert "3 outputs of 1 names" in answer.json()["error"]
        assert state.repository.get("root").stats.executions == 1

    talk(Settings(models), use)


def test_what_a_request_becomes_is_counted_before_it_is_made(models: tuple[ModelPath, ...]) -> None:
    """JSON of a megabyte is a tensor of two, and all that is made of it is let go at the end."""
    limit = 2_000_000
    value = ",".join(["1"] * 500_000)
    text = f'{{"inputs":[{{"name":"x","datatype":"FP32","shape":[2,250000],"data":[{value}]}}]}}'.encode()
    assert len(text) < limit

    async def use(client: httpx.AsyncClient, state: ServerState) -> None:
        for content, headers in ((text, {}), (gzip.compress(text), {"Content-Encoding": "gzip"})):
            answer = await client.post("/v2/models/root/infer", content=content, headers=headers)
            assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
            assert "too many large requests" in answer.json()["error"]
            assert state.held == 0
        assert state.repository.get("root").stats.executions == 0

    talk(Settings(models, max_inflight=limit), use)


def test_long_json_is_read_in_threads_of_its_own(
    models: tuple[ModelPath, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[str] = []
    parse = json_tensors.parse

    def told(*arguments: Any) -> Any:
        threads.append(threading.current_thread().name)
        return parse(*arguments)

    monkeypatch.setattr(json_tensors, "parse", told)

    async def use(client: httpx.AsyncClient, state: ServerState) -> None:
        for count in (1, 9000):
            body = {"inputs": [tensor("x", np.ones((2, count)))]}
            assert (await client.post("/v2/models/root/infer", json=body)).status_code == 200

    talk(Settings(models), use)
    assert [name.partition("_")[0] for name in threads] == ["MainThread", "JSON bodies"]


def test_the_best_of_many_classes(models: tuple[ModelPath, ...], tmp_path: Path) -> None:
    """Found in a thread, the same as at once."""
    place = ModelPath("scores", toys.scores(tmp_path / "scores.onnx"))

    async def use(client: httpx.AsyncClient, state: ServerState) -> None:
        for rows in (2, 16):
            monkey = pytest.MonkeyPatch()
            monkey.setattr("senet_convert.deploy.serve.models.inference._SHORT", 0 if rows == 16 else 1024)
            body = {
                "inputs": [tensor("x", [[1.0, 3.0, 2.0, 0.0]] * rows)],
                "outputs": [{"name": "y", "parameters": {"classification": 2}}],
            }
            answer = await client.post("/v2/models/scores/infer", json=body)
            monkey.undo()
            assert answer.json()["outputs"][0]["data"] == ["3:1", "2:2"] * rows

    talk(Settings((place,)), use)
