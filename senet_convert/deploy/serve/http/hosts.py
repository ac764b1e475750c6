"""Names under which the server may be asked, and the proxy's prefix before its paths."""

from __future__ import annotations

from fnmatch import fnmatchcase
from ipaddress import ip_address

from starlette.responses import RedirectResponse
from starlette.types import Receive, Scope, Send

from ..errors import MISDIRECTED, RequestError
from .asgi import HttpMiddleware, headers


class Host(HttpMiddleware):
    """A server that only this machine can reach answers to names of this machine, and to those that are allowed.

    A page elsewhere can let its own name point to 127.0.0.1 (DNS rebinding): its visitors' browsers then take this
    server for the page's own. What gives it away is the Host header.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI. Raises RequestError: MISDIRECTED."""
        settings = self.state.settings
        if settings.local or settings.allowed_hosts:
            host = headers(scope).get("host")
            if host is not None and not allowed(host, settings.allowed_hosts):
                told = f"this server is not called '{host[:200]}'; --allowed-hosts is where that name can be allowed"
                raise RequestError(MISDIRECTED, told)
        await self.app(scope, receive, send)


class Prefix(HttpMiddleware):
    """Behind a proxy's prefix (`--root-path`), paths may come with it or without it."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        prefix, path = self.state.settings.root_path, scope["path"]
        if prefix and path == prefix:  # the page's links are relative to what ends in a slash
            await RedirectResponse(f"{prefix}/", 308)(scope, receive, send)
            return
        if prefix and path.startswith(f"{prefix}/"):
            raw = scope.get("raw_path") or path.encode()
            scope = {**scope, "path": path[len(prefix) :], "raw_path": raw[len(prefix) :]}
        await self.app(scope, receive, send)


def allowed(host: str, patterns: tuple[str, ...]) -> bool:
    """Whether a Host header names this machine, or fits one of the patterns, such as '*.example.org'."""
    name = host.strip().lower()
    name = name[: name.index("]") + 1] if name.startswith("[") and "]" in name else name.partition(":")[0]
    name = name.rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        if ip_address(name.strip("[]")).is_loopback:
            return True
    except ValueError:
        pass
    return any(fnmatchcase(name, pattern.lower()) for pattern in patterns)
