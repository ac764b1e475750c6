"""A gRPC server that runs in a thread, for clients that wait."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import grpc
import numpy as np
import tritonclient.grpc as triton
from numpy.typing import NDArray
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub
from tritonclient.utils import np_to_triton_dtype

from senet_convert.deploy.serve.settings.settings import Settings
from senet_convert.deploy.serve.state import ServerState
from senet_convert.deploy.serve.v2.grpc import start
from senet_convert.deploy.serve.v2.grpc.server import GrpcServer

Array = NDArray[Any]
Result = TypeVar("Result")

PATIENCE = 30  # seconds after which a test gives up


class Live:
    """The state, and the server before it, on an event loop of their own."""

    state: ServerState
    server: GrpcServer

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Do something on the server's loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(PATIENCE)

    def __enter__(self) -> Live:
        self._thread.start()
        try:
            self.run(self._start())
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.run(self.stop())
        finally:
            self._end()

    async def _start(self) -> None:
        self.state = ServerState(self._settings)
        await self.state.repository.start()
        self.server = await start(self.state, self._settings.host, 0)

    async def stop(self, grace: float = 5) -> None:
        """As the server stops."""
        self.state.draining = True
        await self.server.stop(grace)
        await self.state.repository.close(grace)

    def _end(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server.port}"

    @contextmanager
    def client(self, **options: Any) -> Iterator[triton.InferenceServerClient]:
        """The published client, as it comes."""
        client = triton.InferenceServerClient(self.address, **options)
        try:
            yield client
        finally:
            client.close()

    @contextmanager
    def stub(self) -> Iterator[GRPCInferenceServiceStub]:
        """The bare calls: for requests that the client would not send."""
        with grpc.insecure_channel(self.address) as channel:
            yield GRPCInferenceServiceStub(channel)


def tensor(name: str, array: Array) -> triton.InferInput:
    """An input as the client takes it."""
    return triton.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype)).set_data_from_numpy(array)


def until(condition: Callable[[], bool]) -> None:
    """Wait for something to come true."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def rows(*values: float) -> Array:
    """A batch for `toys.plus`, a row for each value."""
    return np.repeat(np.array(values, np.float32)[:, None], 3, axis=1)
