"""Bodies of requests: how large, how slow, how many bytes at once, and what becomes of those that nobody reads."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Iterable
from contextlib import suppress

from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send

from .. import context
from ..errors import SLOW, TOO_LARGE, RequestError
from ..state import ServerState
from . import compression
from .asgi import HttpMiddleware

_SMALL = 64 * 1024  # bytes that may be left unread while the connection is kept
_PATIENCE = 2.0  # seconds that an unread body may go on, so that its sender comes to read the answer


async def read(request: Request, state: ServerState, most: int | None = None) -> bytes:
    """The body whole, unpacked where it is packed; `most` bytes of it, where less are taken than the settings say.

    Raises RequestError: TOO_LARGE, BAD for a packing that is wrong or not known; AWAY when all hold too much.
    """
    limit = state.settings.max_body if most is None else most
    found = io.BytesIO()  # grows without copying all of it for every piece, and gives its bytes away without a copy
    async for piece in request.stream():
        found.write(piece)
        if found.tell() > limit:
            raise RequestError(TOO_LARGE, f"the body has more than {limit} bytes; this path takes no more")
    encoding = request.headers.get("content-encoding", "")
    if not encoding:
        return found.getvalue()
    unpacking = compression.unpack(found.getvalue(), encoding, limit)
    return await state.pools.packing.finish(unpacking, state.hold, at_once=2)  # all of a short one


class Unread(HttpMiddleware):
    """An answer before the body has ended: the rest is thrown away for a moment, then the connection is closed.

    Closed at once, the client's next packet would be answered by a reset, and the answer would be lost on it.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        expected = _expected(scope["headers"])
        if expected == 0:
            await self.app(scope, receive, send)
            return
        left, over, closing = expected, False, False

        async def take() -> Message:
            nonlocal left, over
            message = await receive()
            over = over or message["type"] == "http.disconnect" or not message.get("more_body")
            left -= len(message.get("body", b""))
            return message

        async def give(message: Message) -> None:
            nonlocal closing
            if message["type"] == "http.response.start":
                closing = not over and (message["status"] == SLOW or not 0 <= left <= _SMALL)
                if closing:
                    message["headers"] = [*message.get("headers", []), (b"connection", b"close")]
            elif closing:
                message = {**message, "more_body": True}
            await send(message)

        await self.app(scope, take, give)
        if closing:  # only now: what the request held is free
            with suppress(TimeoutError):
                async with asyncio.timeout(_PATIENCE):
                    while not over:
                        await take()
            await send({"type": "http.response.body"})


class Limits(HttpMiddleware):
    """No body is larger, slower, or together with all others heavier than the settings say."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI. Raises RequestError: TOO_LARGE; and from what is read SLOW, or AWAY when all hold too much."""
        expected = _expected(scope["headers"])
        if expected == 0:
            await self.app(scope, receive, send)
            return
        settings = self.state.settings
        if expected > settings.max_body:
            raise RequestError(TOO_LARGE, f"the body has {expected} bytes; at most {settings.max_body} are taken")
        due = min(asyncio.get_running_loop().time() + settings.body_timeout, context.current.get().due)
        length, over = 0, False

        async def take() -> Message:
            nonlocal length, over
            if over:
                return await receive()
            try:
                async with asyncio.timeout_at(due):
                    message = await receive()
            except TimeoutError:
                seconds = min(settings.body_timeout, settings.deadline)
                raise RequestError(SLOW, f"the body did not arrive within {seconds:g} s") from None
            size = len(message.get("body", b""))
            length += size
            over = message["type"] == "http.disconnect" or not message.get("more_body")
            if length > settings.max_body:
                raise RequestError(TOO_LARGE, f"the body has more than {settings.max_body} bytes")
            self.state.hold(size)
            return message

        try:
            await self.app(scope, take, send)
        finally:
            self.state.release(context.current.get())


def _expected(headers: Iterable[tuple[bytes, bytes]]) -> int:
    """Bytes of the body: 0 for none, -1 where they are not told beforehand."""
    length = 0
    for name, value in headers:
        if name == b"transfer-encoding":
            return -1
        if name == b"content-length":
            length = int(value)  # digits: the parser has refused everything else
    return length
