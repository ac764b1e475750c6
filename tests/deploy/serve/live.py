"""The application behind a real socket, for clients that need one."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import uvicorn

from senet_convert.deploy.serve.app import build
from senet_convert.deploy.serve.settings.settings import Settings
from senet_convert.deploy.serve.state import ServerState


@dataclass(frozen=True)
class Live:
    """A server that runs; `address` is host:port."""

    address: str
    state: ServerState


@contextmanager
def serving(settings: Settings) -> Iterator[Live]:
    """Runs in a thread until the end of the block."""
    state = ServerState(settings)
    server = uvicorn.Server(uvicorn.Config(build(state), log_config=None, lifespan="off"))
    listening = socket.socket(proto=socket.IPPROTO_TCP)  # said, so that asyncio sets TCP_NODELAY
    listening.bind(("127.0.0.1", 0))
    faults: list[BaseException] = []

    async def run() -> None:
        await state.repository.start()
        await server.serve([listening])
        await state.repository.close()

    def go() -> None:
        try:
            asyncio.run(run())
        except BaseException as fault:
            faults.append(fault)
            raise

    thread = threading.Thread(target=go)
    thread.start()
    try:
        while not server.started:
            if not thread.is_alive():
                raise RuntimeError("the server did not start") from (faults[0] if faults else None)
            thread.join(0.01)
        yield Live(f"127.0.0.1:{listening.getsockname()[1]}", state)
    finally:
        server.should_exit = True
        thread.join(30)
        listening.close()
