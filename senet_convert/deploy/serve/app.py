"""The HTTP application: routes of every kind, one way of telling faults, and what guards them all."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute

from .faults import RequestError
from .hub import Hub


def build(hub: Hub) -> Starlette:
    """The application over `hub`; its models are loaded by who runs it."""
    routes: list[BaseRoute] = []
    app = Starlette(routes=routes, exception_handlers={RequestError: _refuse})
    app.state.hub = hub
    return app


async def _refuse(_: Request, fault: Exception) -> Response:
    """Faults as the protocol has them: {"error": ...}."""
    if not isinstance(fault, RequestError):
        raise fault
    headers = {"Retry-After": str(fault.retry_after)} if fault.retry_after is not None else None
    return JSONResponse({"error": fault.message}, fault.status, headers)
