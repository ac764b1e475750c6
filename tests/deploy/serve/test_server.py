"""A server's life: start, signals, draining, faults in words."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from senet_convert.deploy.serve import server as server_module
from senet_convert.deploy.serve.models.model_paths import parse
from senet_convert.deploy.serve.models.served import Served
from senet_convert.deploy.serve.server import Server
from senet_convert.deploy.serve.settings.settings import Settings

from .process import Process

INFER = "/v2/models/digits-image/infer"


def body() -> bytes:
    image = np.zeros((1, 32, 32, 3), np.uint8)
    given = {"name": "image", "datatype": "UINT8", "shape": list(image.shape), "data": image.ravel().tolist()}
    return json.dumps({"inputs": [given]}).encode()


def test_says_where_it_listens_and_ends_with_0(bundle: Path) -> None:
    with Process(bundle, "--linger", 0) as server:
        assert f"serving digits on {server.url}" in server.log
        assert httpx.get(f"{server.url}/v2/health/ready").status_code == 200
        assert server.stop() == 0
        assert "every request was answered" in server.log


def test_not_ready_while_it_lingers_but_still_answering(image_bundle: Path) -> None:
    with Process(image_bundle, "--linger", 1) as server, httpx.Client(base_url=server.url) as client:
        client.get("/v2/health/live")
        server.signal(signal.SIGTERM)
        server.wait_for("SIGTERM")
        ready = client.get("/v2/health/ready")
        assert ready.status_code == 503
        assert ready.headers["connection"] == "close"
        assert client.get("/v2/health/live").status_code == 200
        assert client.post(INFER, content=body()).status_code == 200
        assert server.ended() == 0


def test_ctrl_c_does_not_linger(bundle: Path) -> None:
    with Process(bundle, "--linger", 30) as server:
        started = time.monotonic()
        server.signal(signal.SIGINT)
        assert server.ended() == 0
        assert time.monotonic() - started < 10


def test_a_second_signal_ends_it_at_once(bundle: Path) -> None:
    with Process(bundle, "--linger", 60) as server:
        server.signal(signal.SIGTERM)
        server.wait_for("SIGTERM")
        server.signal(signal.SIGTERM)
        assert server.ended(10) == 128 + signal.SIGTERM


@dataclass
class Tally:
    answered: int = 0
    lost: list[str] = field(default_factory=list)


async def caller(port: int, until: asyncio.Event, tally: Tally) -> None:
    """Requests on a connection that is kept; a new one when told to close. Ends when nothing listens any more."""
    request = b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s" % (
        INFER.encode(),
        len(body()),
        body(),
    )
    while True:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            assert until.is_set(), "refused while it serves"
            return
        try:
            close = False
            while not close:
                writer.write(request)
                await writer.drain()
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = next(line for line in head.split(b"\r\n") if line.startswith(b"content-length"))
                await reader.readexactly(int(length.split(b":")[1]))
                if head.startswith(b"http/1.1 200"):
                    tally.answered += 1
                else:
                    tally.lost.append(head.decode())
                close = b"connection: close" in head
        except (OSError, asyncio.IncompleteReadError) as fault:
            tally.lost.append(repr(fault))
        finally:
            writer.close()


@pytest.mark.parametrize("linger", [0, 0.3])
def test_every_accepted_request_is_answered_under_load(image_bundle: Path, linger: float) -> None:
    async def storm(server: Process) -> Tally:
        tally, told = Tally(), asyncio.Event()
        callers = [asyncio.create_task(caller(server.port, told, tally)) for _ in range(24)]
        await asyncio.sleep(1)
        told.set()
        server.signal(signal.SIGTERM)
        async with asyncio.timeout(30):
            await asyncio.gather(*callers)
        return tally

    with Process(image_bundle, "--linger", linger, "--no-access-log") as server:
        tally = asyncio.run(storm(server))
        assert server.ended() == 0
    assert tally.answered > 50
    assert tally.lost == []


def test_every_call_of_grpc_is_answered_under_load(image_bundle: Path) -> None:
    client = pytest.importorskip("tritonclient.grpc.aio")
    from tritonclient.utils import InferenceServerException

    refused: list[str] = []

    async def call(port: int) -> int:
        given = client.InferInput("image", [1, 32, 32, 3], "UINT8")
        given.set_data_from_numpy(np.zeros((1, 32, 32, 3), np.uint8))
        answered = 0
        async with client.InferenceServerClient(f"127.0.0.1:{port}") as caller:
            while True:
                try:
                    await caller.infer("digits-image", [given])
                    answered += 1
                except InferenceServerException as fault:
                    refused.append(f"{fault.status()}: {fault.message()}")
                    return answered

    async def storm(server: Process) -> int:
        callers = [asyncio.create_task(call(server.grpc_port)) for _ in range(16)]
        await asyncio.sleep(1)
        server.signal(signal.SIGTERM)
        async with asyncio.timeout(30):
            return sum(await asyncio.gather(*callers))

    with Process(image_bundle, "--grpc-port", 0, "--linger", 0.3) as server:
        answered = asyncio.run(storm(server))
        assert server.ended() == 0
        assert server.log.count("status=OK") == answered > 50
    assert set(refused) == {"StatusCode.UNAVAILABLE: the server shuts down"}


def test_the_grace_bounds_it(image_bundle: Path) -> None:
    """A body that never ends keeps its connection busy; what it was is said."""
    with Process(image_bundle, "--linger", 0, "--grace", 0.5) as server:
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999\r\n\r\n{" % INFER.encode())
            time.sleep(0.3)
            started = time.monotonic()
            assert server.stop() == 1
            assert time.monotonic() - started < 5
        assert "1 requests were not answered within 0.5 s" in server.log


def test_an_idle_connection_does_not_hold_it(bundle: Path) -> None:
    with (
        Process(bundle, "--linger", 0) as server,
        httpx.Client(base_url=server.url) as client,
        socket.create_connection(("127.0.0.1", server.port)) as mute,
    ):
        client.get("/v2/health/live")
        started = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - started < 5
        assert mute.recv(1) == b""


@contextmanager
def slow_loading(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Models are loaded when the event is set, at the latest at the end."""
    loaded = threading.Event()
    open_now = Served.open

    def late(*args: Any) -> Served:
        assert loaded.wait(30)
        return open_now(*args)

    monkeypatch.setattr(Served, "open", late)
    try:
        yield loaded
    finally:
        loaded.set()


def test_it_lives_before_it_is_ready(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main(loaded: threading.Event) -> None:
        server = Server(Settings((parse(str(bundle)),), port=0, gates=False))
        running = asyncio.create_task(server.run())
        async with asyncio.timeout(30), httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as client:
            assert (await client.get("/v2/health/live")).status_code == 200
            assert (await client.get("/v2/health/ready")).status_code == 503
            early = await client.get("/v2/models/digits")
            assert (early.status_code, "being loaded" in early.json()["error"]) == (503, True)
            assert (await client.get("/v2/models/other")).status_code == 404
            loaded.set()
            while (await client.get("/v2/health/ready")).status_code != 200:
                await asyncio.sleep(0.01)
            assert (await client.get("/v2/models/digits")).status_code == 200
        server.stop(signal.SIGINT)
        await running
        assert server.abandoned == 0

    with slow_loading(monkeypatch) as loaded:
        asyncio.run(main(loaded))


def test_told_to_stop_while_it_loads(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading cannot be interrupted: the process ends without waiting for it."""

    def leave(code: int) -> None:
        raise InterruptedError(f"left with {code}")

    async def main(loaded: threading.Event) -> None:
        server = Server(Settings((parse(str(bundle)),), port=0, gates=False))
        running = asyncio.create_task(server.run())
        await asyncio.sleep(0.1)
        server.stop()
        with pytest.raises(InterruptedError, match="left with 0"):
            await running
        loaded.set()

    monkeypatch.setattr(server_module, "_leave", leave)
    with slow_loading(monkeypatch) as loaded:
        asyncio.run(main(loaded))


def test_api_keys_are_read_again(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("the-first-of-all-keys")
    with Process(bundle, "--api-keys", tmp_path / "keys", "--no-gates", "--linger", 0) as server:

        def asked(key: str) -> int:
            return httpx.get(f"{server.url}/v2", headers={"X-API-Key": key}).status_code

        assert [asked("the-first-of-all-keys"), asked("the-second-of-all-keys")] == [200, 401]
        (tmp_path / "keys").write_text("the-second-of-all-keys")
        server.hang_up()
        while asked("the-second-of-all-keys") != 200:
            time.sleep(0.02)
        assert asked("the-first-of-all-keys") == 401
        (tmp_path / "keys").write_text("")
        server.hang_up()
        server.wait_for("the API keys stay as they were")
        assert asked("the-second-of-all-keys") == 200


def test_a_hangup_signal_looks_for_new_models(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    with Process("--repository", tmp_path / "models", "--reload", 0, "--no-gates") as server:
        assert httpx.get(f"{server.url}/v2/models/new/ready").status_code == 404
        shutil.copytree(bundle, tmp_path / "models" / "new")
        server.signal(signal.SIGHUP)
        server.wait_for("model 'new' version 1: loaded")
        assert httpx.get(f"{server.url}/v2/models/new/ready").status_code == 200


@pytest.mark.parametrize(("options", "client"), [([], "127.0.0.1"), (["--trusted-proxies", "127.0.0.1"], "10.9.8.7")])
def test_who_asks_behind_a_proxy(bundle: Path, options: list[str], client: str) -> None:
    """A header that everybody can write counts only from those who are trusted."""
    with Process(bundle, *options, "--no-gates", "--linger", 0) as server:
        httpx.get(f"{server.url}/v2", headers={"X-Forwarded-For": "10.9.8.7"})
        server.wait_for(f"client={client} ")


@pytest.mark.parametrize("option", ["--port", "--grpc-port"])
def test_a_port_that_is_taken(bundle: Path, option: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with Process(bundle, option, port, wait=False) as server:
            assert server.ended() == 1
        assert str(port) in server.log
        assert "taken" in server.log
        assert "Traceback" not in server.log


def test_a_model_that_cannot_be_loaded(tmp_path: Path) -> None:
    (tmp_path / "torn.onnx").write_bytes(b"nonsense")
    with Process(tmp_path / "torn.onnx", wait=False) as server:
        assert server.ended() == 1
    assert "torn.onnx" in server.log
    assert "serving" not in server.log


def test_grpc_beside_http(image_bundle: Path) -> None:
    client = pytest.importorskip("tritonclient.grpc")
    with Process(image_bundle, "--grpc-port", 0, "--linger", 0) as server:
        assert server.grpc_port > 0
        with client.InferenceServerClient(f"127.0.0.1:{server.grpc_port}") as caller:
            assert caller.is_server_ready()
        assert server.stop() == 0
