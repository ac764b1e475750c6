"""Streams: an answer for each request, in order, faults among them."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.grpc.service_pb2 import ModelInferRequest

from senet_convert.deploy.serve.models.model_paths import ModelPath
from senet_convert.deploy.serve.settings.settings import Settings
from senet_convert.deploy.serve.v2.grpc.service import AHEAD

from .conftest import Gate
from .live import PATIENCE, Live, rows, tensor, until


class Stream:
    """A client's stream, and what came of it."""

    def __init__(self, client: triton.InferenceServerClient) -> None:
        self.client = client
        self._came: queue.Queue[tuple[Any, Any]] = queue.Queue()
        client.start_stream(lambda result, error: self._came.put((result, error)))

    def send(self, value: float, model: str = "plus", **options: Any) -> None:
        self.client.async_stream_infer(model, [tensor("x", rows(value))], **options)

    def next(self) -> tuple[str, Any]:
        """(request id, value or fault) of the next answer."""
        result, error = self._came.get(timeout=PATIENCE)
        if error is not None:
            return "", error
        return result.get_response().id, float(result.as_numpy("y")[0, 0])


@contextmanager
def stream(live: Live) -> Iterator[Stream]:
    with live.client() as client:
        found = Stream(client)
        yield found
        client.stop_stream(cancel_requests=True)


def test_answers_come_in_the_requests_order(live: Live) -> None:
    count = 3 * AHEAD
    with stream(live) as one:
        for number in range(count):
            one.send(float(number), request_id=str(number))
        assert [one.next() for _ in range(count)] == [(str(number), number + 2.0) for number in range(count)]


def test_a_fault_is_an_answer_and_the_stream_goes_on(live: Live) -> None:
    with stream(live) as one:
        one.send(1.0, request_id="a")
        one.send(1.0, model="nix", request_id="b")
        one.send(2.0, request_id="c", enable_empty_final_response=True)
        assert one.next() == ("a", 3.0)
        _, fault = one.next()
        assert fault.message().startswith("no model is called 'nix'")
        assert one.next() == ("c", 4.0)


def test_faults_say_whose_they_are_and_answers_that_they_are_the_last(live: Live) -> None:
    inputs = [{"name": "x", "datatype": "FP32", "shape": [1, 3]}]
    requests = [
        ModelInferRequest(model_name="nix", id="bad"),
        ModelInferRequest(model_name="plus", id="good", inputs=inputs, raw_input_contents=[bytes(12)]),
    ]
    with live.stub() as stub:
        bad, good = list(stub.ModelStreamInfer(iter(requests), timeout=PATIENCE))
    assert bad.infer_response.id == "bad"
    assert "no model is called" in bad.error_message
    assert (good.infer_response.id, good.error_message) == ("good", "")
    assert all(one.infer_response.parameters["triton_final_response"].bool_param for one in (bad, good))


def test_requests_of_a_stream_run_together(plus: Path, gate: Gate) -> None:
    with Live(Settings(models=(ModelPath("plus", plus),), threads=1)) as live, stream(live) as one:
        gate.close()
        for number in range(9):
            one.send(float(number))
        stats = live.state.repository.get("plus").stats
        until(lambda: stats.pending == 9)
        gate.open()
        assert [one.next()[1] for _ in range(9)] == [number + 2.0 for number in range(9)]
        assert stats.executions == 2


def test_a_stream_reads_only_so_far_ahead(plus: Path, gate: Gate) -> None:
    with Live(Settings(models=(ModelPath("plus", plus),), threads=1, max_batch=1)) as live, stream(live) as one:
        gate.close()
        for number in range(AHEAD + 20):
            one.send(float(number))
        stats = live.state.repository.get("plus").stats
        until(lambda: stats.pending >= AHEAD)
        live.run(asyncio.sleep(0.2))
        assert AHEAD <= stats.pending <= AHEAD + 1
        gate.open()
        assert [one.next()[1] for _ in range(AHEAD + 20)] == [number + 2.0 for number in range(AHEAD + 20)]


def test_a_stream_that_is_given_up_takes_its_requests_with_it(plus: Path, gate: Gate) -> None:
    with Live(Settings(models=(ModelPath("plus", plus),), threads=1, max_batch=1)) as live:
        stats = live.state.repository.get("plus").stats
        with stream(live) as one:
            gate.close()
            for number in range(5):
                one.send(float(number))
            until(lambda: stats.pending == 5)
        until(lambda: stats.pending == 0)
        gate.open()
    assert (stats.cancel.count, stats.success.count) == (5, 0)
    assert live.state.held == 0


def test_what_was_read_is_answered_when_the_server_stops(plus: Path, gate: Gate) -> None:
    with Live(Settings(models=(ModelPath("plus", plus),), threads=1, max_batch=1)) as live, stream(live) as one:
        gate.close()
        for number in range(5):
            one.send(float(number))
        stats = live.state.repository.get("plus").stats
        until(lambda: stats.pending == 5)
        stopping = asyncio.run_coroutine_threadsafe(live.stop(PATIENCE), live.loop)
        gate.open()
        assert [one.next()[1] for _ in range(5)] == [number + 2.0 for number in range(5)]
        _, fault = one.next()
        assert fault.status() == "StatusCode.UNAVAILABLE"
        stopping.result(PATIENCE)


def test_an_idle_stream_does_not_hold_the_server_up(plus: Path) -> None:
    with Live(Settings(models=(ModelPath("plus", plus),), threads=1)) as live, stream(live) as one:
        one.send(1.0)
        assert one.next()[1] == 3.0
        live.run(asyncio.wait_for(live.stop(PATIENCE), PATIENCE / 3))
        assert one.next()[1].status() == "StatusCode.UNAVAILABLE"


def test_a_stream_s_deadline_ends_it(live: Live) -> None:
    over = threading.Event()

    def requests() -> Iterator[ModelInferRequest]:
        yield ModelInferRequest(model_name="nix")
        over.wait(PATIENCE)

    with live.stub() as stub:
        answers = stub.ModelStreamInfer(requests(), timeout=0.3)
        assert "no model is called 'nix'" in next(answers).error_message
        with pytest.raises(grpc.RpcError) as caught:
            next(answers)
        over.set()
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


def test_streams_of_the_client_for_asyncio(live: Live) -> None:
    async def requests() -> AsyncIterator[dict[str, Any]]:
        for number in range(10):
            yield {"model_name": "plus", "inputs": [tensor("x", rows(float(number)))], "request_id": str(number)}

    async def main() -> list[tuple[str, float]]:
        async with triton_aio.InferenceServerClient(live.address) as client:
            found = []
            async for result, error in client.stream_infer(requests()):
                assert error is None
                found.append((result.get_response().id, float(result.as_numpy("y")[0, 0])))
            return found

    found = asyncio.run(asyncio.wait_for(main(), PATIENCE))
    assert found == [(str(number), number + 2.0) for number in range(10)]
