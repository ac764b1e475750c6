"""Accepting connections within bounds that hold before anything else is done, a TLS handshake too.

Where there is no room for one more, the connection that has been silent for longest makes it: first those that never
sent a request, then those that were answered. Only where every connection has a request under way is the newcomer
refused. So neither silent nor slow clients keep others out.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import ssl
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from ..settings import Settings
from .protocol import Guarded, refusal

Made = Callable[[], Guarded]

_AT_ONCE = 64  # connections that are accepted before others have their turn
_PAUSE = 0.05  # seconds without accepting where the system has no files left
_NO_FILES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_log = logging.getLogger("senet_convert.serve")


@dataclass(eq=False)
class _Open:
    """A connection from the moment it is accepted."""

    address: str
    socket: socket.socket
    handshake: asyncio.Task[None] | None = None
    protocol: Guarded | None = None

    @property
    def silent(self) -> bool:
        """Has it no request under way?"""
        return self.protocol is None or self.protocol.idle

    @property
    def fresh(self) -> bool:
        """Has it never had one?"""
        return self.protocol is None or self.protocol.cycle is None

    def hang_up(self) -> None:
        """Close it at once."""
        if self.handshake is not None:
            self.handshake.cancel()
        if self.protocol is None or self.protocol.transport is None:
            self.socket.close()
        else:
            self.protocol.transport.abort()


class Acceptor:
    """Accepts on listening sockets; `make` makes the protocol of a connection. Lives on one event loop."""

    def __init__(self, doors: list[socket.socket], settings: Settings, tls: ssl.SSLContext | None, make: Made) -> None:
        self._doors = doors
        self._settings = settings
        self._tls = tls
        self._make = make
        self._trusted = _networks(settings.trusted_proxies)
        self._open: dict[_Open, None] = {}  # the oldest first
        self._leaving = 0

    def start(self) -> None:
        """Accept from now on."""
        for door in self._doors:
            asyncio.get_running_loop().add_reader(door, self._accept, door, _AT_ONCE)

    async def stop(self, patience: float) -> None:
        """Take what the kernel has accepted already, close the doors, and wait for handshakes that have begun."""
        for door in self._doors:
            asyncio.get_running_loop().remove_reader(door)
            self._accept(door)
            door.close()
        begun = [one.handshake for one in self._open if one.handshake is not None]
        if begun:
            await asyncio.wait(begun, timeout=patience)

    def close(self) -> None:
        """Hang up on whoever is left."""
        for door in self._doors:
            if door.fileno() >= 0:
                asyncio.get_running_loop().remove_reader(door)
                door.close()
        for one in list(self._open):
            one.hang_up()

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
                self._wait_for_files(door)
                return
            accepted.setblocking(False)
            self._take(_Open(address[0] if isinstance(address, tuple) else "", accepted))

    def _wait_for_files(self, door: socket.socket) -> None:
        _log.warning("no files are left for connections: the most silent one is closed (ulimit -n)")
        self._make_room(self._open)
        loop = asyncio.get_running_loop()
        loop.remove_reader(door)

        def again() -> None:
            if door.fileno() >= 0:
                loop.add_reader(door, self._accept, door, _AT_ONCE)

        loop.call_later(_PAUSE, again)

    def _take(self, one: _Open) -> None:
        told = self._refusal(one.address)
        if told:
            self._turn_away(one.socket, told)
            return
        self._open[one] = None
        one.handshake = asyncio.create_task(self._connect(one))

    def _turn_away(self, one: socket.socket, told: bytes) -> None:
        """Say it, and hang up a moment later: with a request unread, the kernel would take the answer back."""
        if self._tls is not None or self._leaving >= _AT_ONCE:
            one.close()
            return
        self._leaving += 1

        def leave() -> None:
            self._leaving -= 1
            with suppress(OSError):
                one.recv(65536)
            one.close()

        with suppress(OSError):
            one.send(told)
            one.shutdown(socket.SHUT_WR)
        asyncio.get_running_loop().call_later(_PAUSE, leave)

    def _refusal(self, address: str) -> bytes:
        """Make room for one more of this address; what is sent to it where there is none."""
        limits = self._settings
        if len(self._open) >= limits.max_connections and not self._make_room(self._open):
            return refusal(503, "too many connections; try again", "Retry-After: 1\r\n")
        if self._is_trusted(address):
            return b""
        own = [one for one in self._open if one.address == address]
        if len(own) >= limits.max_connections_per_client and not self._make_room(own):
            return refusal(503, "too many connections from this address; try again", "Retry-After: 1\r\n")
        return b""

    def _make_room(self, among: Iterable[_Open]) -> bool:
        """Close the connection that was silent for longest. False where all are busy."""
        silent = [one for one in among if one.silent]
        chosen = next((one for one in silent if one.fresh), silent[0] if silent else None)
        if chosen is None:
            return False
        chosen.hang_up()
        self._open.pop(chosen, None)
        return True

    def _is_trusted(self, address: str) -> bool:
        """A Unix socket's clients, which have no address, and proxies, which bring many clients."""
        return not address or any(ip_address(address.partition("%")[0]) in network for network in self._trusted)

    async def _connect(self, one: _Open) -> None:
        made = self._make()
        made.lost = partial(self._open.pop, one, None)
        patience = self._settings.header_timeout if self._tls else None
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: made, one.socket, ssl=self._tls, ssl_handshake_timeout=patience
            )
            one.protocol = made
        except OSError:  # it has left, or TLS is not to its taste, or late
            one.socket.close()
            self._open.pop(one, None)
        finally:
            one.handshake = None


def _networks(words: tuple[str, ...]) -> list[IPv4Network | IPv6Network]:
    """Those of the trusted proxies that are addresses or networks."""
    found: list[IPv4Network | IPv6Network] = []
    for word in words:
        with suppress(ValueError):
            found.append(ip_network(word, strict=False))
    return found
