"""The page at / and its files: package data, read once, with nothing from elsewhere."""

from __future__ import annotations

from importlib import resources

from starlette.routing import BaseRoute, Route

from ..openapi.operation import Operation
from ..openapi.static_files import StaticFile

HTML = "text/html"
FILES = {
    "style.css": "text/css",
    "page.js": "text/javascript",
    "server.js": "text/javascript",
    "results.js": "text/javascript",
    "gates.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}


def routes() -> list[BaseRoute]:
    """The page, and under /static/ what it needs."""
    page = Operation(
        "GET",
        "/",
        _file("index.html", HTML).send,
        "A page to drop a picture on",
        tag="pictures",
        answers={200: {HTML: {"type": "string"}}},
    )
    return [page, *(Route(f"/static/{name}", _file(name, kind).send) for name, kind in FILES.items())]


def _file(name: str, kind: str) -> StaticFile:
    return StaticFile(kind, resources.files(__package__).joinpath("page", name).read_bytes)
