"""What stands around every call: its context, its API key, the rate limit, a span, and how faults are told."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from typing import Any, NoReturn

import grpc

from ...context import RequestContext, current
from ...errors import (
    ABSENT,
    AWAY,
    FAULT,
    RequestError,
    ServeError,
)
from ...observe import logs
from ...observe.metrics import OTHER
from ...state import ServerState
from . import statuses
from .intake import Form, Intake
from .peers import Peers, parse

CALLS, STREAMS, PROBES, WATCHERS = "calls", "streams", "probes", "watchers"
SHARES = {CALLS: 1, STREAMS: 2, PROBES: 1, WATCHERS: 4}  # of `max_connections` at the same time: all, a half, a quarter
REQUEST_ID = "x-request-id"
TOLD = 2000  # bytes of a message: a status travels in headers, whose size clients limit

Behaviour = Callable[[Any, Any], Any]  # gives an awaitable, or for watchers an async iterator

_REFUSING = 0.5  # seconds in which calls are refused before the server stops
_QUIET = 0.1  # seconds without a call after which none is on its way any more
_PATH = 200  # signs of the name of a call that is not there
_log = logging.getLogger("senet_convert.serve")


@dataclass(frozen=True)
class Call:
    """A method as it is served: `behaviour` takes a message, or a stream's as bytes, and the context.

    `kind` is one of SHARES. Probes are for who watches over the server: they need no key and are counted apart.
    """

    method: str
    kind: str
    behaviour: Behaviour
    form: Form | None

    @property
    def probe(self) -> bool:
        """Does it watch over the server?"""
        return self.kind in (PROBES, WATCHERS)


@dataclass(frozen=True)
class Refusal:
    """What a client is told: the request's id goes with it, and the seconds after which another try makes sense."""

    code: Any
    message: str
    metadata: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, fault: ServeError, one: RequestContext) -> Refusal:
        """For a fault of a request."""
        retry = (("retry-after", str(fault.retry_after)),) if fault.retry_after is not None else ()
        return cls(statuses.code(fault), _short(fault.message), ((REQUEST_ID, one.id), *retry))


class Handlers:
    """Makes gRPC's handlers of calls. Behaviours raise ServeError; clients get a status, see statuses.py."""

    def __init__(self, state: ServerState, intake: Intake, peers: Peers) -> None:
        self._state = state
        self._intake = intake
        self.leaving = False
        self._running: Counter[str] = Counter()
        self._idle = asyncio.Event()
        self._last = 0.0  # when a call came, by the loop's clock
        self.peers = peers

    async def drain(self, grace: float) -> None:
        """Refuse new calls, for a moment at least, and wait up to `grace` seconds until those before are answered."""
        self.leaving = True
        await asyncio.sleep(min(_REFUSING, grace))
        with suppress(TimeoutError):
            async with asyncio.timeout(grace):
                while self._running[CALLS] or self._running[STREAMS]:
                    self._idle.clear()
                    await self._idle.wait()
                while (quiet := asyncio.get_running_loop().time() - self._last) < _QUIET:
                    await asyncio.sleep(_QUIET - quiet)

    def full(self, kind: str) -> bool:
        """Is there no room for one more?"""
        return self._running[kind] >= self._most(kind)

    def _most(self, kind: str) -> int:
        return max(1, self._state.settings.max_connections // SHARES[kind])

    def handler(self, call: Call) -> Any:
        """The call's handler with everything around it: bytes in, bytes out. Nothing is read before it may be."""
        streams = call.kind in (STREAMS, WATCHERS)
        make = grpc.stream_stream_rpc_method_handler if streams else grpc.stream_unary_rpc_method_handler

        async def around(_: Any, context: Any) -> bytes | None:
            return await self._around(call, context)

        return make(around)

    def unknown(self, method: str) -> Any:
        """The handler of a method that is not there."""

        async def refuse(_: Any, __: Any) -> NoReturn:
            raise RequestError(ABSENT, f"no call is named {method[:_PATH]}")

        return self.handler(Call(OTHER, CALLS, refuse, None))

    async def _around(self, call: Call, context: Any) -> bytes | None:
        headers = {name: value for name, value in context.invocation_metadata() or () if isinstance(value, str)}
        peer = parse(context.peer())
        one = RequestContext.opened(headers.get(REQUEST_ID, ""), peer[0])
        current.set(one)
        started, code, size = time.perf_counter(), grpc.StatusCode.OK, 0
        self._running[call.kind] += 1
        self._last = asyncio.get_running_loop().time()
        context.set_trailing_metadata(((REQUEST_ID, one.id),))
        traces = self._state.traces if not call.probe else None
        self.peers.calls(peer, context, lambda: self._state.release(one))
        refusal: Refusal | None = None
        try:
            with traces.span(call.method, headers) if traces else nullcontext():
                answer = await self._answer(call, headers, context)
            if answer is not None:
                size = len(answer)
                self._state.release(one)  # the request
                with suppress(RequestError):  # it was computed: it goes out; those that come now are refused
                    self._state.hold(size)
            return answer
        except ServeError as fault:
            refusal = Refusal.of(fault, one)
            code = refusal.code
        except asyncio.CancelledError:
            code = grpc.StatusCode.CANCELLED
            raise
        finally:
            self._running[call.kind] -= 1
            self._idle.set()
            self.peers.answered(peer, context)
            record(self._state, one, call.method, code, started, size, call.probe)
        # Out here: gRPC keeps what abort raises, and in there with it every frame that the fault came through.
        return await _abort(context, refusal)

    async def _answer(self, call: Call, headers: Mapping[str, str], context: Any) -> bytes | None:
        settings = self._state.settings
        if not call.probe:
            self._state.admit(headers)
            if self.leaving:
                raise RequestError(AWAY, "the server shuts down", 1)
        if self._running[call.kind] > self._most(call.kind):
            raise RequestError(AWAY, f"more than {self._most(call.kind)} {call.kind} at once; try again", 1)
        if settings.rate and not call.probe:
            self._state.limit_rate()
        try:
            if call.kind == STREAMS:
                await call.behaviour(self._requests(context), context)
                return None
            within = settings.header_timeout if call.probe else settings.body_timeout
            request = await self._intake.message(context, call.form, within) if call.form else None
            if call.kind == WATCHERS:
                await self._watched(call, request, context)
                return None
            answer: bytes = (await call.behaviour(request, context)).SerializeToString()
            return answer
        except ServeError:
            raise
        except Exception as fault:
            raise unexpected(call.method) from fault

    async def _requests(self, context: Any) -> AsyncIterator[bytes]:
        """The messages of a stream; the first comes within the time that a body has."""
        within: float | None = self._state.settings.body_timeout
        while True:
            data = await self.peers.read(context, within)
            if data is None:
                return
            yield data
            within = None

    async def _watched(self, call: Call, request: Any, context: Any) -> None:
        async for answer in call.behaviour(request, context):
            await self.peers.send(context, answer.SerializeToString(), self._state.settings.body_timeout)


def unexpected(method: str) -> RequestError:
    """What is told of a fault that nobody foresaw: the one that is being handled. The log alone tells it in full."""
    _log.exception("unexpected fault at %s", method)
    number = current.get().id
    return RequestError(FAULT, f"an unexpected fault of the server; its log tells more of request {number}")


def record(
    state: ServerState, one: RequestContext, method: str, code: Any, started: float, size: int, probe: bool = False
) -> None:
    """Count a call, or a request of a stream, and log it; `started` by the performance counter."""
    took = time.perf_counter() - started
    state.metrics.grpc(method, code.name, took)
    if state.settings.access_log:
        logs.access(one, "grpc", method, code.name, took, size, probe and code is grpc.StatusCode.OK)


async def _abort(context: Any, refusal: Refusal) -> NoReturn:
    try:
        await context.abort(refusal.code, refusal.message, refusal.metadata)
    except grpc.aio.InternalError:  # the client has just left, or its deadline has passed: nobody is there to be told
        raise asyncio.CancelledError from None
    raise AssertionError("abort returns to nobody")


def _short(message: str) -> str:
    words = message.encode()
    return message if len(words) <= TOLD else words[:TOLD].decode(errors="ignore") + "..."
