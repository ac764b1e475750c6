"""One deadline over a request, wherever it waits; and work of one kind keeps no other waiting."""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from senet_convert.deploy.runtime.cores import usable_cores
from senet_convert.deploy.serve import context
from senet_convert.deploy.serve.context import RequestContext
from senet_convert.deploy.serve.http.deadline import BEGAN, Deadline
from senet_convert.deploy.serve.models.model_paths import ModelPath
from senet_convert.deploy.serve.models.served import Served
from senet_convert.deploy.serve.pools import Pool
from senet_convert.deploy.serve.settings.settings import Settings
from senet_convert.deploy.serve.state import ServerState
from tests.deploy.serve import toys
from tests.deploy.serve.asgi import encoded, talk

INFER, CLASSIFY = "/v2/models/root/infer", "/v1/classify"
PNG = {"Content-Type": "image/png"}
GZIP = {"Content-Encoding": "gzip"}
LATE = "no answer within 0.3 s: the deadline has passed"


@pytest.fixture(scope="session")
def places(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[ModelPath, ...]:
    root = toys.root(tmp_path_factory.mktemp("toys") / "root.onnx")
    return ModelPath("digits", bundle), ModelPath("root", root)


def body(count: int) -> bytes:
    """A request of `count` columns; more than 4000 are more than is parsed at once."""
    tensor = {"name": "x", "datatype": "FP32", "shape": [2, count], "data": [0.25] * 2 * count}
    return json.dumps({"inputs": [tensor]}).encode()


LONG = gzip.compress(body(40_000))  # more than is unpacked at once


@asynccontextmanager
async def stuck(pool: Pool) -> AsyncIterator[None]:
    """All threads of a pool are busy in the block."""
    free = threading.Event()
    busy = [asyncio.create_task(pool.run(free.wait, 10)) for _ in range(max(2, usable_cores()))]
    await asyncio.sleep(0.02)
    try:
        yield
    finally:
        free.set()
        await asyncio.gather(*busy)


@pytest.mark.parametrize(
    ("pool", "path", "content", "headers"),
    [
        ("json", INFER, body(9000), {}),
        ("json", "/v2/repository/index", b'{"a":"' + b"a" * 70_000 + b'"}', {}),
        ("packing", INFER, LONG, GZIP),
        ("packing", CLASSIFY, LONG, PNG | GZIP),
        ("packing", INFER, body(9000), {"Accept-Encoding": "gzip"}),
        ("pictures", CLASSIFY, encoded(9, 9), PNG),
        ("pictures", "/v1/gates?model=digits", encoded(9, 9), PNG),
        ("gates", "/v1/gates?model=digits", encoded(9, 9), PNG),
        ("forms", CLASSIFY, b"--x\r\n", {"Content-Type": "multipart/form-data; boundary=x"}),
    ],
)
def test_waiting_for_a_thread_ends_with_the_deadline(
    places: tuple[ModelPath, ...], pool: str, path: str, content: bytes, headers: dict[str, str]
) -> None:
    async def use(client: httpx.AsyncClient, state: ServerState) -> None:
        async with stuck(getattr(state.pools, pool)):
            started = time.perf_counter()
            answer = await client.post(path, content=content, headers={"Accept-Encoding": "", **headers})
            assert (answer.status_code, answer.json()["error"]) == (504, LATE)
            assert time.perf_counter() - started < 2
            assert state.held == 0
        assert await getattr(state.pools, pool).run(int, "7") == 7  # it serves again

    talk(Settings(places, deadline=0.3, gates=True), use)


@pytest.mark.parametrize("pool", ["json", "packing", "pictures", "gates", "forms"])
def test_work_of_one_kind_keeps_no_other_waiting(places: tuple[ModelPath, ...], pool: str) -> None:
    asked: dict[str, tuple[str, bytes, dict[str, str]]] = {
        "json": (INFER, body(9000), {}),
        "packing": (INFER, LONG, GZIP),
        "pictures": (CLASSIFY, encoded(9, 9), PNG),
    }

    async def use(client: httpx.AsyncClient, state: ServerState) -> None:
        async with stuck(getattr(state.pools, pool)):
            for kind, (path, content, headers) in asked.items():
                if kind != pool:
                    answer = await client.post(path, content=content, headers={"Accept-Encoding": "", **headers})
                    assert answer.status_code == 200, (kind, answer.text)
            assert (await client.get("/v2/health/live")).status_code == 200

    talk(Settings(places, deadline=20), use)


def test_a_full_queue_is_told_at_once(places: tuple[ModelPath, ...]) -> None:
    async def use(client: httpx.AsyncClient, state: ServerState) -> None:
        async with stuck(state.pools.packing):
            waiting = [asyncio.create_task(client.post(INFER, content=LONG, headers=GZIP)) for _ in range(3)]
            await asyncio.sleep(0.1)
            answer = await client.post(INFER, content=LONG, headers=GZIP)
            assert (answer.status_code, answer.headers["Retry-After"]) == (429, "1")
            assert "packed bodies are waiting already" in answer.json()["error"]
        assert [one.status_code for one in await asyncio.gather(*waiting)] == [200] * 3

    talk(Settings(places, queue=3), use)


def test_time_that_the_body_took_is_part_of_it(places: tuple[ModelPath, ...]) -> None:
    """Whatever the body's own time is: 408, because it is the client that is late."""

    async def drip() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b" "
            await asyncio.sleep(0.05)

    async def use(client: httpx.AsyncClient, state: ServerState) -> None:
        for path in (INFER, CLASSIFY, "/v1/gates", "/v2/repository/index"):
            started = time.perf_counter()
            answer = await client.post(path, content=drip(), headers=PNG)
            assert (answer.status_code, answer.json()["error"]) == (408, "the body did not arrive within 0.3 s")
            assert time.perf_counter() - started < 1.5

    talk(Settings(places, deadline=0.3, body_timeout=30), use)


def test_the_model_has_what_is_left(places: tuple[ModelPath, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    async def drip() -> AsyncIterator[bytes]:
        await asyncio.sleep(0.4)
        yield body(1)

    run = Served.run

    def slow(*arguments: Any) -> Any:
        time.sleep(0.3)
        return run(*arguments)

    async def use(client: httpx.AsyncClient, state: ServerState) -> None:
        monkeypatch.setattr(Served, "run", slow)
        assert (await client.post(INFER, content=body(1))).status_code == 200
        assert (await client.post(INFER, content=drip())).status_code == 504
        assert state.repository.get("root").stats.pending == 0

    talk(Settings(places[1:], deadline=0.6), use)


def test_loading_takes_as_long_as_it_takes(places: tuple[ModelPath, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Served.open

    def slow(*arguments: Any) -> Any:
        time.sleep(0.6)
        return opened(*arguments)

    async def use(client: httpx.AsyncClient, state: ServerState) -> None:
        monkeypatch.setattr(Served, "open", slow)
        answer = await client.post("/v2/repository/models/root/load", json={})
        assert answer.status_code == 200

    talk(Settings(places[1:], deadline=0.3), use)


def ask(began: float | None, deadline: float, app: Any) -> list[Any]:
    """What is sent by `app` behind the guard, for a request whose head began `began` seconds ago."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def go() -> None:
        guard = Deadline(app, ServerState(Settings(deadline=deadline, body_timeout=0.2)))
        token = context.current._var.set(RequestContext())
        state = {} if began is None else {BEGAN: asyncio.get_running_loop().time() - began}
        try:
            await guard({"type": "http", "path": "/x", "state": state}, send, send)  # type: ignore[arg-type]
        except Exception as fault:
            sent.append(fault)
        finally:
            context.current._var.reset(token)

    asyncio.run(go())
    return sent


def test_it_counts_from_the_first_byte_of_the_head() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(0.3)
        await send({"type": "http.response.start"})

    (fault,) = ask(1.0, 1.1, app)
    assert fault.status == 504
    assert ask(None, 1.1, app) == [{"type": "http.response.start"}]


def test_an_answer_has_its_own_time_to_be_taken() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start"})
        await asyncio.sleep(wait)
        await send({"type": "http.response.body"})

    wait = 0.1
    assert len(ask(None, 0.01, app)) == 2
    wait = 1.0
    assert type(ask(None, 0.01, app)[1]).__name__ == "ClientDisconnect"
