"""The calls of GRPCInferenceService, by the stubs of tritonclient. They raise ServeError: see handlers.py."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc
from tritonclient.grpc import service_pb2 as pb

from ...context import RequestContext, current
from ...errors import ABSENT, AWAY, RequestError, ServeError
from ...models.inference import infer
from ...state import ServerState
from .. import control, encoded_pictures, metadata
from . import messages
from .handlers import Behaviour, Refusal, record, unexpected
from .intake import Form, Intake
from .peers import Peers

AHEAD = 32  # requests of one stream that are read before their answers are sent
WITHOUT = {  # calls that are answered with UNIMPLEMENTED, and what is not there
    "SystemSharedMemoryStatus": "system shared memory",
    "SystemSharedMemoryRegister": "system shared memory",
    "SystemSharedMemoryUnregister": "system shared memory",
    "CudaSharedMemoryStatus": "CUDA shared memory",
    "CudaSharedMemoryRegister": "CUDA shared memory",
    "CudaSharedMemoryUnregister": "CUDA shared memory",
    "TraceSetting": "traces in Triton's form; see the server's own tracing",
    "LogSettings": "changing the log while the server runs",
}

_STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"
_FINAL = "triton_final_response"  # stands in the last answer to a request; some clients wait for it


class Service:
    """Messages in, messages out: each call asks what HTTP asks too."""

    def __init__(self, state: ServerState, intake: Intake, peers: Peers) -> None:
        self._state = state
        self._intake = intake
        self._peers = peers
        self._form = Form.of(pb.ModelInferRequest)
        self._readers: dict[asyncio.Task[None], float] = {}  # since when they wait, by the loop's clock
        self._ended = False
        for name, what in WITHOUT.items():
            setattr(self, name, _without(what))

    def end_streams(self) -> None:
        """Read no more from streams; what was read is answered, then they end."""
        self._ended = True
        for reader in self._readers:
            reader.cancel()

    def end_idle_streams(self, idle: float) -> None:
        """End the stream that has sent nothing for longest, where that is more than `idle` seconds."""
        now = asyncio.get_running_loop().time()
        reader = min(self._readers, key=self._readers.__getitem__, default=None)
        if reader is not None and now - self._readers[reader] > idle:
            reader.cancel()

    async def ServerLive(self, request: Any, context: Any) -> Any:
        """It answers: it lives."""
        return pb.ServerLiveResponse(live=True)

    async def ServerReady(self, request: Any, context: Any) -> Any:
        """May requests be sent?"""
        return pb.ServerReadyResponse(ready=self._state.ready)

    async def ModelReady(self, request: Any, context: Any) -> Any:
        """Does a version of a model answer?"""
        return pb.ModelReadyResponse(ready=metadata.model_ready(self._state, request.name, request.version))

    async def ServerMetadata(self, request: Any, context: Any) -> Any:
        """Name, version, extensions."""
        return pb.ServerMetadataResponse(**metadata.server())

    async def ModelMetadata(self, request: Any, context: Any) -> Any:
        """Versions, inputs, outputs."""
        return pb.ModelMetadataResponse(**metadata.model(self._state.repository, request.name, request.version))

    async def ModelConfig(self, request: Any, context: Any) -> Any:
        """How the model is run."""
        return pb.ModelConfigResponse(config=metadata.config(self._state.repository, request.name, request.version))

    async def ModelStatistics(self, request: Any, context: Any) -> Any:
        """Counts and durations."""
        return pb.ModelStatisticsResponse(**metadata.statistics(self._state.repository, request.name, request.version))

    async def RepositoryIndex(self, request: Any, context: Any) -> Any:
        """Every version that is known."""
        return pb.RepositoryIndexResponse(models=metadata.index(self._state.repository, request.ready))

    async def RepositoryModelLoad(self, request: Any, context: Any) -> Any:
        """Load a model, or load it anew."""
        await control.load(self._state, request.model_name, request.parameters)
        return pb.RepositoryModelLoadResponse()

    async def RepositoryModelUnload(self, request: Any, context: Any) -> Any:
        """Take a model away."""
        await control.unload(self._state, request.model_name, request.parameters)
        return pb.RepositoryModelUnloadResponse()

    async def ModelInfer(self, request: Any, context: Any) -> Any:
        """One request, one answer."""
        ask = (messages.question, self._state.repository, request, context.time_remaining())
        question = await self._intake.aside(*ask) if messages.long(request) else ask[0](*ask[1:])
        served = self._state.repository.get(question.model, question.version).served
        question = await encoded_pictures.decoded(self._state, served, question)
        return messages.response(await infer(self._state.repository, question))

    async def ModelStreamInfer(self, requests: AsyncIterator[bytes], context: Any) -> None:
        """An answer for each request, in the requests' order; a fault is an answer too, and the stream goes on."""
        try:
            ended = await self._stream(requests, context)
        except ExceptionGroup as several:
            raise several.exceptions[0] from None
        if self._ended:
            raise RequestError(AWAY, "the server shuts down; what it had read is answered", 1)
        if ended:
            raise RequestError(AWAY, "others want a stream, and this one was idle for longest", 1)

    async def _stream(self, requests: AsyncIterator[bytes], context: Any) -> bool:
        """Answer it; was it ended before its client did?"""
        asked: asyncio.Queue[asyncio.Task[bytes] | None] = asyncio.Queue()
        room = asyncio.Semaphore(AHEAD)
        now = asyncio.get_running_loop().time

        async def read() -> None:
            try:
                async for request in requests:
                    self._readers[reader] = now()
                    asked.put_nowait(group.create_task(self._answer_in_band(request, context)))
                    await room.acquire()
            finally:
                asked.put_nowait(None)

        async with asyncio.TaskGroup() as group:
            reader = group.create_task(read())
            self._readers[reader] = now()
            reader.add_done_callback(lambda one: self._readers.pop(one, None))
            while (answer := await asked.get()) is not None:
                await self._peers.send(context, await answer, self._state.settings.body_timeout)
                room.release()
        return reader.cancelled()

    async def _answer_in_band(self, data: bytes, context: Any) -> bytes:
        one = RequestContext(client=current.get().client)
        current.set(one)
        started, code, message = time.perf_counter(), grpc.StatusCode.OK, ""
        asked = pb.ModelInferRequest()
        try:
            asked = await self._intake.parse(data, self._form)
            if self._state.settings.rate:
                self._state.limit_rate()
            answer = await self.ModelInfer(asked, context)
        except Exception as fault:
            refusal = Refusal.of(fault if isinstance(fault, ServeError) else unexpected(_STREAM), one)
            code, message = refusal.code, refusal.message
            answer = pb.ModelInferResponse(model_name=asked.model_name, model_version=asked.model_version, id=asked.id)
        finally:
            self._state.release(one)
        answer.parameters[_FINAL].bool_param = True
        found: bytes = pb.ModelStreamInferResponse(error_message=message, infer_response=answer).SerializeToString()
        record(self._state, one, _STREAM, code, started, len(found))
        return found


def _without(what: str) -> Behaviour:
    async def refuse(_: Any, __: Any) -> None:
        raise RequestError(ABSENT, f"not supported: {what}")

    return refuse
