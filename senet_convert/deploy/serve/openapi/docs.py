"""The page at /docs: Swagger UI, as the package `offapi` carries it, over /openapi.json. Nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import resources
from importlib.util import find_spec
from pathlib import Path

from starlette.routing import BaseRoute, Route

from .operation import Operation
from .static_files import StaticFile

HTML = "text/html"
OURS = {"start.js": "text/javascript"}
SWAGGER_UI = {  # name here -> name in the package, media type
    "swagger-ui.js": ("swagger_bundle.js", "text/javascript"),
    "swagger-ui.css": ("swagger_style.css", "text/css"),
}


def routes() -> list[BaseRoute]:
    """The page, and what it needs."""
    index = StaticFile(HTML, _own("index.html"))
    page = Operation(
        "GET",
        "/docs",
        index.send,
        "The same as a page, to try it",
        tag="description",
        answers={200: {HTML: {"type": "string"}}},
    )
    files = {name: StaticFile(kind, _own(name)) for name, kind in OURS.items()}
    files |= {name: StaticFile(kind, partial(_packaged, file)) for name, (file, kind) in SWAGGER_UI.items()}
    return [page, *(Route(f"/docs/{name}", file.send) for name, file in files.items())]


def _own(name: str) -> Callable[[], bytes]:
    return resources.files(__package__).joinpath("page", name).read_bytes


def _packaged(file: str) -> bytes:
    """Without importing the package, which would read all of its nine megabytes."""
    spec = find_spec("offapi")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("no module named 'offapi', which the extra 'serve' brings", name="offapi")
    return Path(spec.submodule_search_locations[0], file).read_bytes()
