"""uvicorn, with the start and stop in our hands: it accepts, parses and answers HTTP."""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import cast

import uvicorn
from starlette.types import ASGIApp

from ..settings.settings import Settings
from .acceptor import Acceptor
from .protocol import BoundedProtocol, protocol
from .sockets import unread

_LOOK = 0.02  # seconds between two looks at who is still there
_QUIET = 0.5  # seconds that a connection has, when nothing more is accepted, for a request that is on its way


class Listener:
    """HTTP on sockets that are bound already."""

    def __init__(self, app: ASGIApp, settings: Settings, tls: ssl.SSLContext | None) -> None:
        self._kind = protocol(settings)
        self._settings = settings
        self._acceptor: Acceptor | None = None
        self._config = uvicorn.Config(
            app,
            http=self._kind,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=bool(settings.trusted_proxies),
            forwarded_allow_ips=list(settings.trusted_proxies),
        )
        self._config.load()
        self._tls = tls
        self._server = uvicorn.Server(self._config)
        self._ticking: asyncio.Task[None] | None = None

    @property
    def connections(self) -> list[BoundedProtocol]:
        """Those that are open."""
        return cast(list[BoundedProtocol], list(self._server.server_state.connections))

    @property
    def busy(self) -> int:
        """Requests that are not answered yet."""
        return sum(not connection.idle for connection in self.connections)

    async def start(self, sockets: list[socket.socket]) -> None:
        """Accept."""
        self._acceptor = Acceptor(sockets, self._settings, self._tls, self._connection)
        self._server.lifespan = self._config.lifespan_class(self._config)
        self._acceptor.start()
        self._ticking = asyncio.create_task(self._server.main_loop())  # keeps the Date header right

    async def stop_accepting(self) -> None:
        """Take what the kernel has accepted already, and close the door before it can accept more."""
        if self._acceptor is not None:
            await self._acceptor.stop(_QUIET)

    def _connection(self) -> BoundedProtocol:
        return self._kind(self._config, self._server.server_state, {}, asyncio.get_running_loop())

    async def finished(self, ends: float) -> None:
        """Wait until every request is answered, but not beyond `ends` of the loop's clock.

        A connection without one is closed a moment later, and when nothing that it sent is left unread: closed before,
        the request that its client was just sending would be answered by a reset.
        """
        loop = asyncio.get_running_loop()
        patient = loop.time() + _QUIET
        while open_ones := [connection for connection in self.connections if not connection.over]:
            for connection in open_ones:
                if connection.idle and loop.time() >= patient and not unread(connection.number):
                    connection.transport.close()
            if loop.time() >= ends:
                return
            await asyncio.sleep(_LOOK)

    async def close(self) -> None:
        """Hang up on whoever is left."""
        if self._acceptor is not None:
            self._acceptor.close()
        self._server.should_exit = True
        if self._ticking is not None:
            await self._ticking
