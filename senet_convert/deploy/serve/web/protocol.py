"""Connections: what uvicorn's HTTP protocol leaves open to clients that are slow or send without end.

uvicorn closes a connection that is idle after an answer (keep-alive), and stops reading while a body is not taken. It
bounds neither the head of a request nor the time that it takes to arrive (before the first answer there is no timer at
all), nor how many requests are sent ahead, nor how long an answer lies there that nobody takes. These bounds are here,
and so is what HTTP forbids beyond what the parser refuses. A request that is refused behind others that are still being
answered is refused after their answers.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ..settings import Settings
from . import strictness
from .deadline import BEGAN

AHEAD = 64  # requests that may be under way on one connection
FIELDS = 100  # header fields of a request
CHUNKS = 8192  # pieces of bodies in what is read at once: each costs the loop a microsecond, whatever its length


class _TooMuchError(Exception):
    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


class Guarded(HttpToolsProtocol):
    """An HTTP connection whose every wait ends."""

    limits: Settings
    lost: Callable[[], object] | None = None  # called when the connection is gone

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._timer: asyncio.TimerHandle | None = None
        self._stuck: asyncio.TimerHandle | None = None
        self._in_head = False
        self._head = 0  # bytes of the head so far
        self._fruitless = 0  # bytes that came and gave neither a whole field nor a body: a field without end
        self._chunks = 0  # since something was read last
        self._excess: _TooMuchError | None = None
        self._later: tuple[HTTPStatus, str] | None = None  # a refusal that waits for the answers before it

    @property
    def idle(self) -> bool:
        """Is no request under way?"""
        return self.cycle is None or (self.cycle.response_complete and not self.pipeline)

    @property
    def number(self) -> int:
        """Of the socket's file; -1 when it is closed."""
        found: int = self.transport.get_extra_info("socket").fileno()
        return found

    @property
    def over(self) -> bool:
        """Closed, and everything handed to the kernel."""
        return self.transport.is_closing() and not self.transport.get_write_buffer_size()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client is there."""
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        super().connection_lost(exc)
        for timer in (self._timer, self._stuck):
            if timer is not None:
                timer.cancel()
        if self.lost is not None:
            self.lost()

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        if self.transport.is_closing() or self._later is not None:
            return
        if self._timer is None and self.idle:
            self._await_head()
        self._fruitless += len(data)
        self._chunks = 0
        super().data_received(data)
        if self._fruitless > self.limits.max_headers and not self.transport.is_closing():
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, self._too_long())

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self.scope["state"][BEGAN] = self.loop.time()
        self._in_head = True
        self._head = 0
        if not self.idle and len(self.pipeline) + 1 >= AHEAD:
            self._exceed(HTTPStatus.TOO_MANY_REQUESTS, f"more than {AHEAD} requests were sent ahead")

    def on_url(self, url: bytes) -> None:
        """A part of its target."""
        self._count(len(url), HTTPStatus.REQUEST_URI_TOO_LONG)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field of its head."""
        self._count(len(name) + len(value), HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        if len(self.headers) >= FIELDS:
            self._exceed(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"the request has more than {FIELDS} headers")
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Its head is there."""
        version, method = self.parser.get_http_version(), self.parser.get_method().decode("ascii")
        found = strictness.fault(version, method, self.url, self.headers)
        if found:
            self._exceed(*found)
        self._in_head = False
        self._fruitless = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A part of its body."""
        self._fruitless = 0
        self._chunks += 1
        if self._chunks > CHUNKS:
            self._exceed(HTTPStatus.BAD_REQUEST, "the body comes in chunks of a few bytes each; send larger ones")
        super().on_body(body)

    def on_message_complete(self) -> None:
        """It is there."""
        self._fruitless = 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """It is answered; an answer that stays in our buffer is given up after a while."""
        super().on_response_complete()
        if self._later is not None and self.idle and not self.transport.is_closing():
            self._refuse(*self._later)
        if self.transport.is_closing() and self.transport.get_write_buffer_size():
            self.pause_writing()

    def timeout_keep_alive_handler(self) -> None:
        """Nothing came after the last answer."""
        if self.transport.get_write_buffer_size():
            self.pause_writing()  # the answer has not even been taken
        super().timeout_keep_alive_handler()

    def pause_writing(self) -> None:
        """The client does not take what it is sent."""
        super().pause_writing()
        if self._stuck is None:
            self._stuck = self.loop.call_later(self.limits.body_timeout, self.transport.abort)

    def resume_writing(self) -> None:
        """It does again."""
        super().resume_writing()
        if self._stuck is not None and not self.transport.is_closing():
            self._stuck.cancel()
            self._stuck = None

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's own words
        """What cannot be parsed, or is too much."""
        told = (HTTPStatus.BAD_REQUEST, "this is not HTTP/1.1 as it should be")
        if self._excess is not None:
            told = (self._excess.status, str(self._excess))
        if self._in_head and not self.idle:
            self._later = told
            self.flow.pause_reading()
        else:
            self._refuse(*told)

    def _await_head(self) -> None:
        self._timer = self.loop.call_later(self.limits.header_timeout, self._head_is_late)

    def _head_is_late(self) -> None:
        self._timer = None
        if not self.idle or self.transport.is_closing():
            return
        if not self._in_head:  # opened in advance, as browsers do; or the rest of a body that is answered already
            self.transport.close()
        else:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, "no request came in time")

    def _count(self, size: int, status: HTTPStatus) -> None:
        self._head += size
        if self._head > self.limits.max_headers:
            self._exceed(status, self._too_long())

    def _too_long(self) -> str:
        return f"the request's head is longer than {self.limits.max_headers} bytes"

    def _exceed(self, status: HTTPStatus, message: str) -> None:
        self._excess = _TooMuchError(status, message)
        raise self._excess

    def _refuse(self, status: HTTPStatus, message: str) -> None:
        """Answer without the application, and hang up."""
        self.transport.write(refusal(status, message))
        self.transport.close()


def refusal(status: int, message: str, more: str = "") -> bytes:
    """An answer after which the connection ends; `more` are header lines."""
    body = json.dumps({"error": message})
    head = f"HTTP/1.1 {status:d} {HTTPStatus(status).phrase}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n{more}Connection: close\r\n\r\n{body}".encode()


def protocol(settings: Settings) -> type[Guarded]:
    """The class of connections with the bounds of `settings`."""
    return type("Connection", (Guarded,), {"limits": settings})
