"""The HTTP application: routes of every kind, one way of telling faults, and the middleware around them all."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute

from .classify import routes as classify
from .errors import ServeError
from .http import middleware
from .observe import metrics
from .openapi import document
from .state import ServerState
from .v2 import http

ROUTES = (http, classify, document, metrics)  # in this order they are asked for a route


def build(state: ServerState) -> Starlette:
    """The application over `state`; its models are loaded by who runs it."""
    routes: list[BaseRoute] = [route for module in ROUTES for route in module.routes()]
    app = Starlette(
        routes=routes,
        middleware=middleware.middleware(state),
        exception_handlers={ServeError: _refuse, HTTPException: _no_route},
    )
    app.router.redirect_slashes = False  # it would lose the prefix of a proxy
    app.state.server = state
    state.metrics.learn(routes)
    return app


async def _refuse(_: Request, fault: Exception) -> Response:
    """Faults as the protocol has them: {"error": ...}."""
    if not isinstance(fault, ServeError):
        raise fault
    return middleware.answer(fault)


async def _no_route(request: Request, fault: Exception) -> Response:
    """Starlette's own: no such path, or not by this method."""
    if not isinstance(fault, HTTPException):
        raise fault
    message = f"{fault.detail}: {request.method} {request.url.path[:200]}"
    return JSONResponse({"error": message}, fault.status_code, fault.headers)
