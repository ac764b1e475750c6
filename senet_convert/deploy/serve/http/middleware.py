"""What stands around every HTTP request, from the outermost in: one visible tuple."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from fnmatch import fnmatchcase

from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .. import context
from ..context import RequestContext
from ..errors import FAULT, FORBIDDEN, NO_KEY, RequestError, ServeError
from ..observe import logs
from ..state import ServerState
from .asgi import HttpMiddleware, headers
from .bodies import Limits, Unread
from .deadline import Deadline
from .hosts import Host, Prefix
from .statuses import status

PROBES = ("/v2/health/live", "/v2/health/ready")
METRICS = "/metrics"
OPEN = ("/", "/static/*", "/docs", "/docs/*", "/openapi.json", "/favicon.ico", *PROBES)  # read without an API key
GONE = 499  # the client went away before it had an answer; stands in the log alone

_SAFE = ("GET", "HEAD", "OPTIONS")
_METHODS = ("GET", "HEAD", "POST")
_SENT = (
    "Authorization",
    "Content-Encoding",
    "Content-Type",
    "Inference-Header-Content-Length",
    "X-API-Key",
    "X-Request-ID",
)
_EXPOSED = ("Content-Encoding", "Inference-Header-Content-Length", "Retry-After", "X-Request-ID")
_HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
_PAGES = ("text/html", "image/svg+xml")  # what a browser may run scripts of
_PAGE_HEADERS = {
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
}
_log = logging.getLogger("senet_convert.serve")


class Identity(HttpMiddleware):
    """Opens the request's context; the answer carries its id, and what browsers are to heed."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        address = scope["client"][0] if scope.get("client") else ""
        one = RequestContext.opened(headers(scope).get("x-request-id", ""), address)
        context.current.set(one)

        async def give(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer = MutableHeaders(raw=message.setdefault("headers", []))
                answer["X-Request-ID"] = one.id
                page = answer.get("content-type", "").startswith(_PAGES)
                for name, value in (_HEADERS | _PAGE_HEADERS if page else _HEADERS).items():
                    answer.setdefault(name, value)
                if self.state.draining:
                    answer["Connection"] = "close"
            await send(message)

        await self.app(scope, receive, give)


class Record(HttpMiddleware):
    """A line in the log, and the counts of answers by route and status."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        started = time.perf_counter()
        status, size = GONE, 0

        async def give(message: Message) -> None:
            nonlocal status, size
            if message["type"] == "http.response.start":
                status = message["status"]
            else:
                size += len(message.get("body", b""))
            await send(message)

        try:
            await self.app(scope, receive, give)
        finally:
            took = time.perf_counter() - started
            self.state.metrics.http(scope, status, took)
            if self.state.settings.access_log:
                path = scope["path"]
                target = scope.get("raw_path", path.encode()).decode("ascii", "replace")
                quiet = path in (*PROBES, METRICS) and status < 400
                logs.access(context.current.get(), "http", f"{scope['method']} {target}", status, took, size, quiet)


class Trace(HttpMiddleware):
    """A span for each request but the probes, where traces are wanted."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        traces = self.state.traces
        if traces is None or scope["path"] in (*PROBES, METRICS):
            await self.app(scope, receive, send)
            return
        with traces.span(scope["method"], headers(scope)) as span:

            async def give(message: Message) -> None:
                if message["type"] == "http.response.start":
                    route = self.state.metrics.route(scope)
                    span.update_name(f"{scope['method']} {route}")
                    span.set_attributes({"http.route": route, "http.response.status_code": message["status"]})
                await send(message)

            await self.app(scope, receive, give)


class Faults(HttpMiddleware):
    """Every fault as an answer: known ones as they say, all others as 500, told in full in the log alone."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        begun = False

        async def give(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self.app(scope, receive, give)
        except ClientDisconnect:
            return
        except ServeError as fault:
            if begun:
                raise
            await answer(fault)(scope, receive, send)
        except Exception:
            number = context.current.get().id
            _log.exception("unexpected fault at %s %s", scope["method"], scope["path"])
            if begun:  # the answer is torn: the connection ends, so that nobody takes it for whole
                raise
            told = RequestError(FAULT, f"an unexpected fault of the server; its log tells more of request {number}")
            await answer(told)(scope, receive, send)


class Origin(HttpMiddleware):
    """Pages of other sites cannot make a person's browser change anything here."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI. Raises RequestError: FORBIDDEN."""
        given = headers(scope)
        if scope["method"] not in _SAFE and _foreign(given) and not self._invited(given):
            site = given.get("origin", "other sites")[:200]
            raise RequestError(FORBIDDEN, f"pages of {site} may not use this server")
        await self.app(scope, receive, send)

    def _invited(self, given: Mapping[str, str]) -> bool:
        origins = self.state.settings.cors_origin
        return "*" in origins or given.get("origin") in origins


class Key(HttpMiddleware):
    """Who has no API key is asked for one, except for what is open to everyone."""

    def __init__(self, app: ASGIApp, state: ServerState) -> None:
        super().__init__(app, state)
        self.open = (*OPEN, METRICS) if state.settings.open_metrics else OPEN

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI. Raises RequestError: NO_KEY."""
        if self.state.keys and not self._free(scope):
            self.state.admit(headers(scope))
        await self.app(scope, receive, send)

    def _free(self, scope: Scope) -> bool:
        return scope["method"] in _SAFE and any(fnmatchcase(scope["path"], pattern) for pattern in self.open)


class Rate(HttpMiddleware):
    """No client asks more often than it may."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI. Raises RequestError: BUSY."""
        if self.state.settings.rate and scope["path"] not in PROBES:
            self.state.limit_rate()
        await self.app(scope, receive, send)


MIDDLEWARE: tuple[type[HttpMiddleware], ...] = (
    Identity,
    Prefix,
    Record,
    Trace,
    Unread,
    Faults,
    Deadline,
    Host,
    Origin,
    Key,
    Rate,
    Limits,
)


def middleware(state: ServerState) -> list[Middleware]:
    """What stands around every request, as Starlette takes it; CORS around all that may refuse."""
    found = [Middleware(_http_only, kind=kind, state=state) for kind in MIDDLEWARE]
    if state.settings.cors_origin:
        cors = Middleware(
            CORSMiddleware,
            allow_origins=state.settings.cors_origin,
            allow_methods=_METHODS,
            allow_headers=_SENT,
            expose_headers=_EXPOSED,
        )
        found.insert(MIDDLEWARE.index(Unread), cors)
    return found


def _http_only(app: ASGIApp, kind: type[HttpMiddleware], state: ServerState) -> ASGIApp:
    around = kind(app, state)

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        await (around if scope["type"] == "http" else app)(scope, receive, send)

    return call


def answer(fault: ServeError) -> JSONResponse:
    """A fault as the protocol has it: {"error": ...}."""
    more = {"Retry-After": str(fault.retry_after)} if fault.retry_after is not None else {}
    code = status(fault)
    if code == NO_KEY:
        more["WWW-Authenticate"] = "Bearer"
    return JSONResponse({"error": fault.message}, code, more)


def _foreign(given: Mapping[str, str]) -> bool:
    """Did a page of another site make a browser send this? Browsers say so; other programs say nothing."""
    site = given.get("sec-fetch-site")
    if site is not None:
        return site not in ("same-origin", "none")
    origin = given.get("origin")
    return origin is not None and origin.partition("://")[2] != given.get("host", "")
