"""Accepting connections within bounds that hold before anything else is done, a TLS handshake too."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from ..settings.settings import Settings
from .connections import Connection, Connections
from .protocol import BoundedProtocol, refusal

Made = Callable[[], BoundedProtocol]

_AT_ONCE = 64  # connections that are accepted before others have their turn
_ROOM = 16  # connections that make room at once where the system has no files left
_PAUSE = 0.05  # seconds without accepting there
_QUIET = 10.0  # seconds between two lines of the log about it
_NO_FILES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_log = logging.getLogger("senet_convert.serve")


class Acceptor:
    """Accepts on listening sockets; `make` makes the protocol of a connection. Lives on one event loop."""

    def __init__(self, doors: list[socket.socket], settings: Settings, tls: ssl.SSLContext | None, make: Made) -> None:
        self._doors = doors
        self._settings = settings
        self._tls = tls
        self._make = make
        self._open = Connections(
            settings.max_connections, settings.max_connections_per_client, settings.trusted_proxies
        )
        self._beginning: set[asyncio.Task[None]] = set()
        self._leaving: set[socket.socket] = set()
        self._spare: int | None = None  # a file to give up where there are no others
        self._told = 0.0

    def start(self) -> None:
        """Accept from now on."""
        self._keep_spare()
        for door in self._doors:
            asyncio.get_running_loop().add_reader(door, self._accept, door, _AT_ONCE)

    async def stop(self, patience: float) -> None:
        """Take what the kernel has accepted already, close the doors, and wait for handshakes that have begun."""
        for door in self._doors:
            asyncio.get_running_loop().remove_reader(door)
            self._accept(door)
            door.close()
        if self._beginning:
            await asyncio.wait(self._beginning, timeout=patience)

    def close(self) -> None:
        """Hang up on whoever is left."""
        for door in self._doors:
            if door.fileno() >= 0:
                asyncio.get_running_loop().remove_reader(door)
                door.close()
        for one in self._open.every():
            one.hang_up()
        for leaving in self._leaving:
            leaving.close()
        self._drop_spare()

    def _accept(self, door: socket.socket, most: int | None = None) -> None:
        count = 0
        while most is None or count < most:
            count += 1
            try:
                accepted, address = door.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as fault:
                if fault.errno not in _NO_FILES:
                    continue  # the client has left already
                self._without_files(door)
                return
            self._take(accepted, address[0] if isinstance(address, tuple) else "")

    def _take(self, accepted: socket.socket, address: str) -> None:
        accepted.setblocking(False)
        client = self._open.client(address)
        told = self._open.make_room(client)
        if told:
            self._turn_away(accepted, told)
            return
        one = self._open.add(client, partial(_shut, accepted))
        task = asyncio.get_running_loop().create_task(self._begin(one, accepted))
        self._beginning.add(task)
        task.add_done_callback(self._beginning.discard)

    async def _begin(self, one: Connection, accepted: socket.socket) -> None:
        """Make it a connection of HTTP; with TLS there is a handshake before."""
        made = self._make()
        made.lost = partial(self._open.remove, one)
        made.at = partial(self._open.move, one)
        patience: dict[str, float] = {}
        if self._tls is not None:
            patience = {
                "ssl_handshake_timeout": self._settings.header_timeout,
                "ssl_shutdown_timeout": self._settings.body_timeout,
            }
        try:
            await asyncio.get_running_loop().connect_accepted_socket(lambda: made, accepted, ssl=self._tls, **patience)
            one.hang_up = made.give_way
        except OSError:  # it has left, made room, or TLS is not to its taste, or late
            accepted.close()
            self._open.remove(one)

    def _turn_away(self, one: socket.socket, told: str) -> None:
        """Say it, and hang up a moment later: with a request unread, the kernel would take the answer back."""
        if self._tls is not None or len(self._leaving) >= _AT_ONCE:
            one.close()
            return
        self._leaving.add(one)
        _say(one, told)
        asyncio.get_running_loop().call_later(_PAUSE, self._leave, one)

    def _leave(self, one: socket.socket) -> None:
        self._leaving.discard(one)
        with suppress(OSError):
            one.recv(65536)
        one.close()

    def _without_files(self, door: socket.socket) -> None:
        """Some connections make room; the next in line has the spare file, to be served or to be told."""
        loop = asyncio.get_running_loop()
        ended = self._open.end(_ROOM)
        if loop.time() > self._told:
            self._told = loop.time() + _QUIET
            _log.warning("no more files can be opened (ulimit -n): %d connections make room for others", ended)
        self._drop_spare()
        with suppress(OSError):
            accepted, address = door.accept()
            if ended:
                self._take(accepted, address[0] if isinstance(address, tuple) else "")
            else:
                if self._tls is None:
                    accepted.setblocking(False)
                    _say(accepted, "too many files are open; try again")
                accepted.close()
        loop.remove_reader(door)
        loop.call_later(_PAUSE, self._again, door)

    def _again(self, door: socket.socket) -> None:
        self._keep_spare()
        if door.fileno() >= 0:
            asyncio.get_running_loop().add_reader(door, self._accept, door, _AT_ONCE)

    def _keep_spare(self) -> None:
        if self._spare is None:
            with suppress(OSError):
                self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def _drop_spare(self) -> None:
        if self._spare is not None:
            os.close(self._spare)
            self._spare = None


def _shut(one: socket.socket) -> None:
    """End a connection that is just beginning: whoever waits on its socket sees the end, and closes it."""
    with suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)


def _say(one: socket.socket, told: str) -> None:
    with suppress(OSError):
        one.send(refusal(503, told, "Retry-After: 1\r\n"))
        one.shutdown(socket.SHUT_WR)
