"""The page at / and its files: package data, read once, with nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import cache
from hashlib import sha256
from importlib import resources

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from ..openapi.operation import Operation

HTML = "text/html"
FILES = {
    "style.css": "text/css",
    "page.js": "text/javascript",
    "server.js": "text/javascript",
    "results.js": "text/javascript",
    "gates.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}
_POLICY = (
    "default-src 'self'; img-src 'self' blob:; object-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
_HEADERS = {
    "Cache-Control": "no-cache",  # kept, and asked for anew by its ETag
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": _POLICY,
}

Endpoint = Callable[[Request], Awaitable[Response]]


def routes() -> list[BaseRoute]:
    """The page, and under /static/ what it needs."""
    page = Operation(
        "GET",
        "/",
        _sender("index.html", HTML),
        "A page to drop a picture on",
        tag="pictures",
        answers={200: {HTML: {"type": "string"}}},
    )
    return [page, *(Route(f"/static/{name}", _sender(name, kind)) for name, kind in FILES.items())]


def _sender(name: str, kind: str) -> Endpoint:
    async def send(request: Request) -> Response:
        content, tag = _file(name)
        headers = {**_HEADERS, "ETag": tag}
        if tag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(content, media_type=kind, headers=headers)

    return send


@cache
def _file(name: str) -> tuple[bytes, str]:
    content = resources.files(__package__).joinpath("page", name).read_bytes()
    return content, f'"{sha256(content).hexdigest()[:32]}"'
