"""What a guard is: one ASGI middleware around HTTP requests."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from ..hub import Hub


class Guard:
    """Stands before `app`; what it refuses is a RequestError."""

    def __init__(self, app: ASGIApp, hub: Hub) -> None:
        self.app = app
        self.hub = hub

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        raise NotImplementedError


def headers(scope: Scope) -> dict[str, str]:
    """A request's headers, their names in lower case; of one that stands twice the last."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
