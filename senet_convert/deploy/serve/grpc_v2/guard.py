"""What stands around every call: its account, its API key, the rate limit, a span, and how faults are told."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import nullcontext, suppress
from typing import Any, NoReturn
from urllib.parse import unquote

import grpc

from ..faults import ABSENT, AWAY, BAD, BUSY, FAULT, FORBIDDEN, LATE, NO_KEY, TOO_LARGE, UNKNOWN, RequestError
from ..hub import Hub
from ..observe import account, logs
from ..observe.account import Account

CODES = {
    BAD: grpc.StatusCode.INVALID_ARGUMENT,
    NO_KEY: grpc.StatusCode.UNAUTHENTICATED,
    FORBIDDEN: grpc.StatusCode.PERMISSION_DENIED,
    UNKNOWN: grpc.StatusCode.NOT_FOUND,
    TOO_LARGE: grpc.StatusCode.RESOURCE_EXHAUSTED,  # as gRPC itself has it for a message that is too long
    BUSY: grpc.StatusCode.UNAVAILABLE,  # what clients try again by themselves; Triton has it so
    FAULT: grpc.StatusCode.INTERNAL,
    ABSENT: grpc.StatusCode.UNIMPLEMENTED,
    AWAY: grpc.StatusCode.UNAVAILABLE,
    LATE: grpc.StatusCode.DEADLINE_EXCEEDED,
}
PROBES = (  # for who watches over the server; they need no key and are not counted
    "/inference.GRPCInferenceService/ServerLive",
    "/inference.GRPCInferenceService/ServerReady",
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/Watch",
)
REQUEST_ID = "x-request-id"
BROKEN = "the message cannot be parsed as one of this call"
TOLD = 2000  # bytes of a message: a status travels in headers, whose size clients limit

Behaviour = Callable[[Any, Any], Awaitable[Any]]

_REFUSING = 0.5  # seconds in which calls are refused before the server stops
_log = logging.getLogger("senet_convert.serve")


class Guard(grpc.aio.ServerInterceptor):  # type: ignore[misc]  # grpc is untyped
    """An interceptor over the hub. Behaviours raise RequestError; clients get a status, see CODES."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._leaving = False
        self._busy = 0
        self._idle = asyncio.Event()

    async def drain(self, grace: float) -> None:
        """Refuse new calls, for a moment at least, and wait up to `grace` seconds until those before are answered."""
        self._leaving = True
        await asyncio.sleep(min(_REFUSING, grace))
        with suppress(TimeoutError):
            async with asyncio.timeout(grace):
                while self._busy:
                    self._idle.clear()
                    await self._idle.wait()

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], details: Any) -> Any:
        """The call's handler with everything around it. A call without a key is refused before its message is read."""
        headers = {name: value for name, value in details.invocation_metadata or () if isinstance(value, str)}
        account.current.set(Account.opened(headers.get(REQUEST_ID, ""), ""))
        try:
            if details.method not in PROBES:
                self._hub.admit(headers)
        except RequestError as fault:  # as a stream's handler, which need not read
            return grpc.stream_stream_rpc_method_handler(self._around(details.method, headers, _raising(fault)))
        handler = await continuation(details)
        if handler is None or (handler.response_streaming and not handler.request_streaming):
            return handler  # no such call, or a watcher's
        make, behaviour = (
            (grpc.stream_stream_rpc_method_handler, handler.stream_stream)
            if handler.response_streaming
            else (grpc.unary_unary_rpc_method_handler, handler.unary_unary)
        )
        around = self._around(details.method, headers, behaviour)
        return make(around, _lenient(handler.request_deserializer), handler.response_serializer)

    def _around(self, method: str, headers: Mapping[str, str], behaviour: Behaviour) -> Behaviour:
        async def call(request: Any, context: Any) -> Any:
            one = account.current.get()
            one.client = one.client or _address(context.peer())
            started, code, size = time.perf_counter(), grpc.StatusCode.OK, 0
            self._busy += 1
            context.set_trailing_metadata(((REQUEST_ID, one.id),))
            traces = self._hub.traces if method not in PROBES else None
            try:
                with traces.span(method, headers) if traces else nullcontext():
                    answer = await self._answer(method, behaviour, request, context)
                size = answer.ByteSize() if answer is not None else 0
                return answer
            except RequestError as fault:
                code = CODES.get(fault.status, grpc.StatusCode.INTERNAL)
                await _abort(context, code, _short(fault.message), trailing(one, fault))
            except asyncio.CancelledError:
                code = grpc.StatusCode.CANCELLED
                raise
            finally:
                self._busy -= 1
                self._idle.set()
                self._hub.release(one)
                record(self._hub, one, method, code, started, size)

        return call

    async def _answer(self, method: str, behaviour: Behaviour, request: Any, context: Any) -> Any:
        if self._leaving and method not in PROBES:
            raise RequestError(AWAY, "the server shuts down", 1)
        if self._hub.settings.rate and method not in PROBES:
            self._hub.limit_rate()
        if request is None:
            raise RequestError(BAD, BROKEN)
        try:
            if hasattr(request, "ByteSize"):  # a message; each of a stream's is held by itself
                self._hub.hold(request.ByteSize())
            return await behaviour(request, context)
        except RequestError:
            raise
        except Exception as fault:
            raise unexpected(method) from fault


def unexpected(method: str) -> RequestError:
    """What is told of a fault that nobody foresaw: the one that is being handled. The log alone tells it in full."""
    _log.exception("unexpected fault at %s", method)
    number = account.current.get().id
    return RequestError(FAULT, f"an unexpected fault of the server; its log tells more of request {number}")


def trailing(one: Account, fault: RequestError) -> tuple[tuple[str, str], ...]:
    """What goes with a fault: the request's id, and the seconds after which another try makes sense."""
    retry = (("retry-after", str(fault.retry_after)),) if fault.retry_after is not None else ()
    return ((REQUEST_ID, one.id), *retry)


def record(hub: Hub, one: Account, method: str, code: Any, started: float, size: int) -> None:
    """A line in the log for a call, or for a request of a stream; `started` by the performance counter."""
    if hub.settings.access_log:
        quiet = method in PROBES and code is grpc.StatusCode.OK
        logs.access(one, "grpc", method, code.name, time.perf_counter() - started, size, quiet)


async def _abort(context: Any, code: Any, message: str, metadata: tuple[tuple[str, str], ...]) -> NoReturn:
    try:
        await context.abort(code, message, metadata)
    except grpc.aio.InternalError:  # the client has just left, or its deadline has passed: nobody is there to be told
        raise asyncio.CancelledError from None
    raise AssertionError("abort returns to nobody")


def _lenient(parse: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """None for what cannot be parsed: raised here, the fault would be gRPC's, told as the server's own."""

    def read(data: bytes) -> Any:
        try:
            return parse(data)
        except Exception:  # protobuf's DecodeError, whose room this is not
            return None

    return read


def _short(message: str) -> str:
    words = message.encode()
    return message if len(words) <= TOLD else words[:TOLD].decode(errors="ignore") + "..."


def _raising(fault: RequestError) -> Behaviour:
    async def refuse(_: Any, __: Any) -> None:
        raise fault

    return refuse


def _address(peer: str) -> str:
    """'ipv4:127.0.0.1:5000' -> '127.0.0.1', 'ipv6:%5B::1%5D:5000' -> '::1'."""
    return unquote(peer).partition(":")[2].rpartition(":")[0].strip("[]")
