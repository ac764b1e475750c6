"""Every call of the published clients, as they come, against a server that runs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.grpc.service_pb2 import ModelInferRequest
from tritonclient.utils import InferenceServerException

from senet_convert.deploy.classify import classify
from senet_convert.deploy.images.images import read_image
from senet_convert.deploy.model import Model
from senet_convert.deploy.serve.errors import FAULT
from senet_convert.deploy.serve.models.model_paths import ModelPath
from senet_convert.deploy.serve.models.served import DATATYPES, Served
from senet_convert.deploy.serve.settings.settings import Settings
from senet_convert.version import __version__

from .conftest import Gate
from .live import PATIENCE, Live, rows, tensor, until


def refused(call: Callable[[], Any]) -> tuple[str, str]:
    """Status and message."""
    with pytest.raises(InferenceServerException) as caught:
        call()
    return caught.value.status().removeprefix("StatusCode."), caught.value.message()


def ask(client: triton.InferenceServerClient, *values: float, model: str = "plus", **options: Any) -> list[float]:
    """What `plus` answers, a value for each row."""
    found = client.infer(model, [tensor("x", rows(*values))], **options).as_numpy("y")
    return [float(value) for value in found[:, 0]]


def test_what_the_server_says_of_itself(live: Live) -> None:
    with live.client() as client:
        assert client.is_server_live() is True
        assert client.is_server_ready() is True
        found = client.get_server_metadata(as_json=True)
    assert (found["name"], found["version"]) == ("senet-convert", __version__)
    assert {"classification", "statistics", "model_repository"} <= set(found["extensions"])


def test_what_it_says_of_models(live: Live) -> None:
    with live.client() as client:
        assert client.is_model_ready("plus") is True
        assert client.is_model_ready("plus", "1") is True
        assert client.is_model_ready("plus", "3") is False
        assert client.is_model_ready("nix") is False
        found = client.get_model_metadata("plus", as_json=True)
        config = client.get_model_config("digits", as_json=True)["config"]
    assert found == {
        "name": "plus",
        "versions": ["1", "2"],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": ["-1", "3"]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": ["-1", "3"]}],
    }
    assert (config["name"], config["backend"], config["max_batch_size"]) == ("digits", "onnxruntime", 16)
    assert config["input"] == [{"name": "data", "data_type": "TYPE_FP32", "dims": ["3", "32", "32"]}]
    assert config["dynamic_batching"]["max_queue_delay_microseconds"] == "2000"


@pytest.mark.parametrize("datatype", DATATYPES)
def test_every_datatype_comes_back_as_it_went(live: Live, datatype: str) -> None:
    feeds = {name: np.array([[0, 1, 1], [1, 0, 1]]).astype(kind) for name, kind in DATATYPES.items()}
    inputs = [tensor(f"in_{name}", values) for name, values in feeds.items()]
    with live.client() as client:
        found = client.infer("echo", inputs, outputs=[triton.InferRequestedOutput(f"out_{datatype}")])
    values = found.as_numpy(f"out_{datatype}")
    assert values.dtype == DATATYPES[datatype]
    np.testing.assert_array_equal(values, feeds[datatype])


def test_the_answer_is_the_session_s_own(live: Live, bundle: Path) -> None:
    pixels = np.random.default_rng(5).normal(0, 50, (3, 3, 32, 32)).astype(np.float32)
    bare = Model.open(bundle, threads=1).session.run({"data": pixels})["prob"]
    with live.client() as client:
        found = client.infer("digits", [tensor("data", pixels)], request_id="r7")
    np.testing.assert_array_equal(found.as_numpy("prob"), bare)
    response = found.get_response()
    assert (response.model_name, response.model_version, response.id) == ("digits", "1", "r7")


def test_classification_names_the_classes(live: Live, bundle: Path, digits: Path) -> None:
    model = Model.open(bundle, threads=1)
    picture = digits / "images" / "digits_val_00000001.png"
    (expected,) = classify(model, [picture], top=3)
    wanted = [triton.InferRequestedOutput("prob", class_count=3)]
    with live.client() as client:
        found = client.infer("digits", [tensor("data", model.preprocess.batch([read_image(picture)]))], outputs=wanted)
    entries = [entry.decode().split(":") for entry in found.as_numpy("prob")[0]]
    indices, probabilities = zip(*expected.top, strict=True)
    assert [int(index) for _, index, _ in entries] == list(indices)
    assert [label for _, _, label in entries] == [model.classes.label(index) for index in indices]
    np.testing.assert_allclose([float(value) for value, _, _ in entries], probabilities, rtol=1e-6)


def test_versions_are_chosen_and_the_highest_is_the_default(live: Live) -> None:
    with live.client() as client:
        assert ask(client, 10.0, model_version="1") == [11.0]
        assert ask(client, 10.0, model_version="2") == [12.0]
        assert ask(client, 10.0) == [12.0]


def test_typed_contents_are_answered_too(live: Live) -> None:
    contents = {"fp32_contents": [1, 2, 3]}
    inputs = [{"name": "x", "datatype": "FP32", "shape": [1, 3], "contents": contents}]
    with live.stub() as stub:
        found = stub.ModelInfer(ModelInferRequest(model_name="plus", inputs=inputs))
    np.testing.assert_array_equal(np.frombuffer(found.raw_output_contents[0], np.float32), [3, 4, 5])


def test_statistics_count_what_was_asked(bundle: Path, plus: Path) -> None:
    with (
        Live(Settings(models=(ModelPath("plus", plus), ModelPath("digits", bundle)), threads=1)) as live,
        live.client() as one,
    ):
        for _ in range(3):
            ask(one, 1.0, 2.0)
        found = one.get_inference_statistics("plus", "2", as_json=True)["model_stats"]
        assert [entry.version for entry in one.get_inference_statistics("plus").model_stats] == ["1", "2"]
        assert [entry.name for entry in one.get_inference_statistics().model_stats] == ["digits", "plus", "plus"]
    (stats,) = found
    assert (stats["inference_count"], stats["execution_count"]) == ("6", "3")
    assert stats["inference_stats"]["success"]["count"] == "3"
    assert int(stats["inference_stats"]["compute_infer"]["ns"]) > 0
    assert int(stats["last_inference"]) > 1_700_000_000_000
    assert [(entry["batch_size"], entry["compute_infer"]["count"]) for entry in stats["batch_stats"]] == [("2", "3")]


def test_models_are_unloaded_and_loaded(plus: Path) -> None:
    with Live(Settings(models=(ModelPath("plus", plus),), threads=1)) as live, live.client() as client:
        client.unload_model("plus")
        assert client.is_model_ready("plus") is False
        assert refused(lambda: ask(client, 1.0)) == (
            "INVALID_ARGUMENT",
            "model 'plus' version 2 is not available: unloaded",
        )
        states = client.get_model_repository_index(as_json=True)["models"]
        assert [(one["version"], one["state"], one["reason"]) for one in states] == [
            ("1", "UNAVAILABLE", "unloaded"),
            ("2", "UNAVAILABLE", "unloaded"),
        ]
        client.load_model("plus")
        assert ask(client, 1.0) == [3.0]
        states = client.get_model_repository_index(as_json=True)["models"]
        assert {one["state"] for one in states} == {"READY"}
        assert refused(lambda: client.load_model("plus", config="{}"))[0] == "INVALID_ARGUMENT"
        assert refused(lambda: client.load_model("nix"))[0] == "NOT_FOUND"
        assert refused(lambda: client.unload_model("nix"))[0] == "NOT_FOUND"


def test_a_load_that_its_client_gives_up_goes_on(plus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loading, proceed = threading.Event(), threading.Event()
    with Live(Settings(models=(ModelPath("plus", plus),), threads=1)) as live, live.client() as client:
        client.unload_model("plus")
        opened = Served.open

        def slow(*args: Any) -> Served:
            loading.set()
            assert proceed.wait(PATIENCE)
            return opened(*args)

        monkeypatch.setattr(Served, "open", slow)
        assert refused(lambda: client.load_model("plus", client_timeout=0.5))[0] == "DEADLINE_EXCEEDED"
        assert loading.is_set()
        assert refused(lambda: ask(client, 1.0, model_version="1"))[0] == "UNAVAILABLE"
        proceed.set()
        client.load_model("plus")
        assert ask(client, 1.0) == [3.0]


def test_control_can_be_closed(plus: Path) -> None:
    with Live(Settings(models=(ModelPath("plus", plus),), threads=1, control="off")) as live, live.client() as client:
        assert refused(lambda: client.unload_model("plus"))[0] == "PERMISSION_DENIED"
        assert refused(lambda: client.load_model("plus"))[0] == "PERMISSION_DENIED"
        assert ask(client, 1.0) == [3.0]


def test_what_is_not_there_is_said(live: Live) -> None:
    with live.client() as client:
        calls: list[Callable[[], Any]] = [
            client.get_system_shared_memory_status,
            lambda: client.register_system_shared_memory("r", "/key", 64),
            client.unregister_system_shared_memory,
            client.get_cuda_shared_memory_status,
            lambda: client.register_cuda_shared_memory("r", b"AAAA", 0, 64),
            client.unregister_cuda_shared_memory,
            client.get_trace_settings,
            lambda: client.update_trace_settings(settings={"trace_level": ["OFF"]}),
            client.get_log_settings,
            lambda: client.update_log_settings({"log_info": True}),
        ]
        for call in calls:
            status, message = refused(call)
            assert status == "UNIMPLEMENTED"
            assert message.startswith("not supported: ")


def test_faults_have_codes_and_words(live: Live) -> None:
    with live.client() as client:
        assert refused(lambda: ask(client, 1.0, model="nix")) == (
            "NOT_FOUND",
            "no model is called 'nix'; there is digits, echo, plus",
        )
        assert refused(lambda: ask(client, 1.0, model_version="9"))[0] == "NOT_FOUND"
        assert refused(lambda: client.get_model_metadata("nix"))[0] == "NOT_FOUND"
        assert refused(lambda: client.get_model_config("nix"))[0] == "NOT_FOUND"
        assert refused(lambda: client.get_inference_statistics("nix"))[0] == "NOT_FOUND"
        assert refused(lambda: client.infer("plus", [tensor("data", rows(1.0))])) == (
            "INVALID_ARGUMENT",
            "model 'plus' has no input 'data'; it has 'x' FP32 [-1, 3]",
        )
        assert refused(lambda: client.infer("plus", [])) == (
            "INVALID_ARGUMENT",
            "model 'plus': input x is missing; it takes 'x' FP32 [-1, 3]",
        )
        wanted = [triton.InferRequestedOutput("z")]
        assert refused(lambda: ask(client, 1.0, outputs=wanted))[1].startswith("model 'plus' has no output 'z'")
        assert "at most 16 at once" in refused(lambda: ask(client, *range(17)))[1]
        assert ask(client, 1.0) == [3.0]


def test_a_failed_run_is_told_and_hurts_nobody_else(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Served.run

    def moody(self: Served, instance: int, feeds: Any, outputs: Any, one: Any) -> Any:
        if (feeds["x"] < 0).any():
            raise ValueError("below zero")
        return run(self, instance, feeds, outputs, one)

    monkeypatch.setattr(Served, "run", moody)
    with live.client() as client:
        assert refused(lambda: ask(client, -1.0)) == ("INTERNAL", "the model cannot be run on this input: below zero")
        assert ask(client, 1.0) == [3.0]


def test_the_request_s_timeout_and_the_call_s_deadline(live: Live, gate: Gate) -> None:
    gate.close()
    with live.client() as client:
        status, message = refused(lambda: ask(client, 1.0, timeout=50_000))
        assert (status, message) == ("DEADLINE_EXCEEDED", "no answer within 0.05 s: the deadline has passed")
        assert refused(lambda: ask(client, 1.0, client_timeout=0.05))[0] == "DEADLINE_EXCEEDED"
        gate.open()
        assert ask(client, 1.0, timeout=10_000_000, client_timeout=10) == [3.0]


def test_a_full_queue_says_when_to_come_again(plus: Path, gate: Gate) -> None:
    settings = Settings(models=(ModelPath("plus", plus),), threads=1, queue=1, max_batch=1)
    with Live(settings) as live, live.client() as client, ThreadPoolExecutor(2) as pool:
        gate.close()
        running = pool.submit(ask, client, 1.0)
        assert gate.reached.wait(PATIENCE)
        waiting = pool.submit(ask, client, 2.0)
        stats = live.state.repository.get("plus").stats
        until(lambda: stats.pending == 2)
        inputs = [{"name": "x", "datatype": "FP32", "shape": [1, 3]}]
        with live.stub() as stub, pytest.raises(grpc.RpcError) as caught:
            stub.ModelInfer(ModelInferRequest(model_name="plus", inputs=inputs, raw_input_contents=[bytes(12)]))
        gate.open()
        assert (running.result(PATIENCE), waiting.result(PATIENCE)) == ([3.0], [4.0])
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert dict(caught.value.trailing_metadata())["retry-after"] == "1"


def test_a_cancelled_request_is_not_run(plus: Path, gate: Gate) -> None:
    with Live(Settings(models=(ModelPath("plus", plus),), threads=1, max_batch=1)) as live, live.client() as client:
        gate.close()
        got: list[Any] = []
        answered = threading.Event()

        def callback(result: Any, error: Any) -> None:
            got.append(error)
            answered.set()

        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(ask, client, 1.0)
            assert gate.reached.wait(PATIENCE)
            call = client.async_infer("plus", [tensor("x", rows(2.0))], callback)
            stats = live.state.repository.get("plus").stats
            until(lambda: stats.pending == 2)
            call.cancel()
            assert answered.wait(PATIENCE)
            until(lambda: stats.pending == 1)
            gate.open()
            assert first.result(PATIENCE) == [3.0]
        assert got[0].status() == "StatusCode.CANCELLED"
        assert (stats.cancel.count, stats.success.count, stats.inferences) == (1, 1, 1)


def test_many_clients_get_their_own_answers(live: Live) -> None:
    def one(number: int) -> list[list[float]]:
        with live.client() as client:
            return [ask(client, 1000.0 * number + turn) for turn in range(25)]

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(one, range(8)))
    assert found == [[[1000.0 * number + turn + 2] for turn in range(25)] for number in range(8)]


def test_requests_that_wait_together_run_together(plus: Path, gate: Gate) -> None:
    with Live(Settings(models=(ModelPath("plus", plus),), threads=1)) as live, live.client() as client:
        gate.close()
        with ThreadPoolExecutor(6) as pool:
            found = [pool.submit(ask, client, float(number)) for number in range(6)]
            stats = live.state.repository.get("plus").stats
            until(lambda: stats.pending == 6)
            gate.open()
            assert [one.result(PATIENCE) for one in found] == [[number + 2.0] for number in range(6)]
        assert stats.executions == 2


def test_compressed_requests_are_taken(live: Live) -> None:
    with live.client() as client:
        assert ask(client, 1.0, compression_algorithm="gzip") == [3.0]
        assert ask(client, 2.0, compression_algorithm="deflate") == [4.0]


def test_the_client_for_asyncio(live: Live) -> None:
    async def main() -> None:
        async with triton_aio.InferenceServerClient(live.address) as client:
            assert await client.is_server_live()
            assert await client.is_server_ready()
            assert await client.is_model_ready("plus")
            assert (await client.get_server_metadata()).name == "senet-convert"
            assert list((await client.get_model_metadata("plus")).versions) == ["1", "2"]
            assert (await client.get_model_config("plus")).config.max_batch_size == 16
            assert len((await client.get_model_repository_index()).models) == 4
            assert (await client.get_inference_statistics("plus", "2")).model_stats[0].version == "2"
            asked = [client.infer("plus", [tensor("x", rows(float(number)))]) for number in range(20)]
            found = [answer.as_numpy("y")[0, 0] for answer in await asyncio.gather(*asked)]
            assert found == [number + 2 for number in range(20)]
            with pytest.raises(InferenceServerException, match="no model is called 'nix'"):
                await client.infer("nix", [tensor("x", rows(1.0))])

    asyncio.run(asyncio.wait_for(main(), PATIENCE))


def test_an_unforeseen_fault_is_told_in_the_log_alone(
    live: Live, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any) -> Any:
        raise KeyError("secret")

    monkeypatch.setattr("senet_convert.deploy.serve.v2.grpc.messages.question", broken)
    with live.client() as client:
        status, message = refused(lambda: ask(client, 1.0, headers={"x-request-id": "abc-1"}))
    assert (status, message) == ("INTERNAL", "an unexpected fault of the server; its log tells more of request abc-1")
    assert "KeyError: 'secret'" in caplog.text
    assert FAULT == 500
