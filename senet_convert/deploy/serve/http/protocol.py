"""Connections: what uvicorn's HTTP protocol leaves open to clients that are slow or send without end.

uvicorn closes a connection that is idle after an answer (keep-alive), stops reading while a body is not taken or
requests wait, and answers what was sent ahead in order. It bounds neither the head of a request nor the time that it
takes to arrive (before the first answer there is no timer at all), nor what stands between the pieces of a body, nor
how many requests are sent ahead, nor how long an answer lies there that nobody takes. It loses the body of a request
that asks for another protocol, takes trailers for headers, and refuses in the middle of other answers. All this is
here, and so is what HTTP forbids beyond what the parser refuses.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ..settings.settings import Settings
from . import strictness
from .connections import Stage
from .deadline import BEGAN

AHEAD = 64  # requests that may be under way on one connection
FIELDS = 100  # header fields of a request
LINGER = 1.0  # seconds in which what still comes is thrown away after a refusal, so that the refusal is read
CHUNKS = 8192  # pieces of bodies in what is read at once: each costs the loop a microsecond, whatever its length


_VERSION = "Invalid HTTP version"  # the parser's words


class _TooMuchError(Exception):
    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


class BoundedProtocol(HttpToolsProtocol):
    """An HTTP connection whose every wait ends."""

    limits: Settings
    lost: Callable[[], object] | None = None  # called when the connection is gone
    at: Callable[[Stage], object] | None = None  # called when it comes to another stage

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._timer: asyncio.TimerHandle | None = None
        self._stuck: asyncio.TimerHandle | None = None
        self._in_head = False
        self._in_body = False
        self._head = 0  # bytes of the head so far
        self._fruitless = 0  # bytes that came and gave neither a head nor a body: a field without end, a chunk's extras
        self._chunks = 0  # since something was read last
        self._excess: _TooMuchError | None = None
        self._later: tuple[HTTPStatus, str] | None = None  # a refusal that waits for the answers before it
        self._deaf = False  # nothing more is read
        self._refused = False
        self._began: float | None = None  # when a request began that is parsed again

    @property
    def idle(self) -> bool:
        """Is no request under way?"""
        return self._refused or self.cycle is None or (self.cycle.response_complete and not self.pipeline)

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

    def give_way(self) -> None:
        """End at once, for others; a request that was only arriving is told."""
        if self.cycle is not None and self._in_body and not self.pipeline and not self.cycle.response_started:
            told = "there is no more room for a request that arrives so slowly; try again"
            self.transport.write(refusal(503, told, "Retry-After: 1\r\n"))
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        if self.transport.is_closing() or self._deaf:
            return
        self._unset_keepalive_if_required()
        if self._timer is None and self.idle:
            self._await_head()
        self._fruitless += len(data)
        self._chunks = 0
        try:
            self._parse(data)
        except httptools.HttpParserError as fault:
            self._give_up(*self._told(fault))
            return
        if self._fruitless > self.limits.max_headers:
            self._give_up(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, self._too_long())
        self._settle()

    def _parse(self, data: bytes) -> None:
        """A request that asks for another protocol is one like any other here: without that wish it is parsed again."""
        while True:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as upgrade:
                self._began = self.scope["state"][BEGAN]
                again = strictness.without_upgrade(self.parser.get_method(), self.url, self.headers)
                data = again + data[upgrade.args[0] :]
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self.scope["state"][BEGAN] = self.loop.time() if self._began is None else self._began
        self._began = None
        self._in_head, self._in_body = True, False
        self._head = 0
        if not self.idle and len(self.pipeline) + 1 >= AHEAD:
            self._exceed(HTTPStatus.TOO_MANY_REQUESTS, f"more than {AHEAD} requests were sent ahead")

    def on_url(self, url: bytes) -> None:
        """A part of its target."""
        self._count(len(url), HTTPStatus.REQUEST_URI_TOO_LONG)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field of its head, or behind its body, where nobody looks for one."""
        self._count(len(name) + len(value), HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        if not self._in_head:
            return
        if len(self.headers) >= FIELDS:
            self._exceed(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"the request has more than {FIELDS} headers")
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Its head is there."""
        version, method = self.parser.get_http_version(), self.parser.get_method().decode("ascii")
        found = strictness.fault(version, method, self.url, self.headers)
        if found:
            self._exceed(*found)
        if self.parser.should_upgrade():
            return
        self.url = strictness.origin_form(self.url)
        if version == "1.0":
            self.expect_100_continue = False  # such a client does not know the answer
        self._in_head, self._in_body = False, True
        self._fruitless = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A part of its body; what comes with it may be twice its size, and a little more."""
        self._fruitless = max(0, self._fruitless - 3 * len(body) - 16)
        self._chunks += 1
        if self._chunks > CHUNKS:
            self._exceed(HTTPStatus.BAD_REQUEST, "the body comes in chunks of a few bytes each; send larger ones")
        super().on_body(body)

    def on_message_complete(self) -> None:
        """It is there."""
        if self.parser.should_upgrade():
            return
        self._fruitless = 0
        self._in_body = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """It is answered; an answer that stays in our buffer is given up after a while."""
        super().on_response_complete()
        if self._later is not None and self.idle and not self.transport.is_closing():
            self._refuse(*self._later)
        if self.transport.is_closing() and self.transport.get_write_buffer_size():
            self.pause_writing()
        self._settle()

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
        self._settle()

    def resume_writing(self) -> None:
        """It does again."""
        super().resume_writing()
        if self._stuck is not None and not self.transport.is_closing():
            self._stuck.cancel()
            self._stuck = None
        self._settle()

    def _told(self, fault: httptools.HttpParserError) -> tuple[HTTPStatus, str]:
        """What cannot be parsed, or is too much, in words."""
        if self._excess is not None:
            return self._excess.status, str(self._excess)
        if str(fault) == _VERSION:
            return HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "this version of HTTP is not spoken here; send HTTP/1.1"
        why = "" if isinstance(fault, httptools.HttpParserCallbackError) else f": {fault}"
        return HTTPStatus.BAD_REQUEST, f"this is not HTTP/1.1 as it should be{why}"

    def _give_up(self, status: HTTPStatus, message: str) -> None:
        """Read no further, and refuse what was being read, once all before it is answered."""
        if self.transport.is_closing():
            return
        self._deaf = True
        if self._in_body and self.pipeline:  # in its turn

            async def refuse(*_: Any) -> None:
                self._refuse(status, message)

            self.pipeline[0] = (self.pipeline[0][0], refuse)
        elif self._in_body and self.cycle.response_started:
            self.transport.close()  # it was answered before its end
        elif self._in_body or self.idle:
            self._refuse(status, message)
        else:
            self._later = (status, message)

    def _settle(self) -> None:
        """Tell what the connection is doing now."""
        if self.at is None:
            return
        if self._stuck is not None:
            self.at(Stage.STUCK)
        elif self.idle:
            self.at(Stage.SILENT if self._refused or self.cycle is None else Stage.IDLE)
        else:
            self.at(Stage.RECEIVING if self.cycle.more_body and not self.pipeline else Stage.BUSY)

    def _await_head(self) -> None:
        self._timer = self.loop.call_later(self.limits.header_timeout, self._head_is_late)

    def _head_is_late(self) -> None:
        self._timer = None
        if not self.idle or self._refused or self.transport.is_closing():
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
        if self._in_body:
            return f"more than {self.limits.max_headers} bytes stand between the pieces of the body, or behind it"
        return f"the request's head is longer than {self.limits.max_headers} bytes"

    def _exceed(self, status: HTTPStatus, message: str) -> None:
        self._excess = _TooMuchError(status, message)
        raise self._excess

    def _refuse(self, status: HTTPStatus, message: str) -> None:
        """Answer without the application, and hang up: with bytes unread, the kernel would take the answer back."""
        self._refused = self._deaf = True
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self._unset_keepalive_if_required()
        self.transport.write(refusal(status, message))
        if self.transport.can_write_eof():
            self.transport.write_eof()
            self.flow.resume_reading()
            self.loop.call_later(LINGER, self.transport.close)
        else:
            self.transport.close()
        if self.transport.get_write_buffer_size():
            self.pause_writing()
        self._settle()


def refusal(status: int, message: str, more: str = "") -> bytes:
    """An answer after which the connection ends; `more` are header lines."""
    body = json.dumps({"error": message})
    head = f"HTTP/1.1 {status:d} {HTTPStatus(status).phrase}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n{more}Connection: close\r\n\r\n{body}".encode()


def protocol(settings: Settings) -> type[BoundedProtocol]:
    """The class of connections with the bounds of `settings`."""
    return type("Connection", (BoundedProtocol,), {"limits": settings})
