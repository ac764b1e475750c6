"""Files of pages: read once, kept by browsers and asked for anew by their ETag."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import cached_property
from hashlib import sha256

from starlette.requests import Request
from starlette.responses import Response

Endpoint = Callable[[Request], Awaitable[Response]]


class StaticFile:
    """A file as an endpoint: `read` gives its bytes when it is first asked for, `kind` is its media type."""

    def __init__(self, kind: str, read: Callable[[], bytes]) -> None:
        self._kind = kind
        self._read = read

    @cached_property
    def _content(self) -> tuple[bytes, str]:
        content = self._read()
        return content, f'"{sha256(content).hexdigest()[:32]}"'

    async def send(self, request: Request) -> Response:
        """The file, or 304 where the browser has it."""
        content, tag = self._content
        headers = {"Cache-Control": "no-cache", "ETag": tag}
        if tag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(content, media_type=self._kind, headers=headers)
