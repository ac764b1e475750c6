"""One ASGI middleware around HTTP requests, and responses in pieces."""

from __future__ import annotations

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from ..state import ServerState

_PIECE = 256 * 1024  # bytes


class HttpMiddleware:
    """Stands before `app`; what it refuses is a RequestError."""

    def __init__(self, app: ASGIApp, state: ServerState) -> None:
        self.app = app
        self.state = state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        raise NotImplementedError


class InPieces(Response):
    """A response whose body is handed on as fast as it is taken: whole, the loop would copy all of it at once."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """ASGI."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        for at in range(0, len(self.body) or 1, _PIECE):
            more = at + _PIECE < len(self.body)
            await send({"type": "http.response.body", "body": self.body[at : at + _PIECE], "more_body": more})


def headers(scope: Scope) -> dict[str, str]:
    """A request's headers, their names in lower case; of one that stands twice the last."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
