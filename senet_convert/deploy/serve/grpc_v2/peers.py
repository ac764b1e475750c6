"""Who calls, by connection, and whose answers lie there untaken."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import unquote

from ..faults import LATE, RequestError
from .connections import Peer

_KNOWN = 16_384  # connections that are remembered for having called; the oldest is forgotten first


class Peers:
    """Every connection that calls. Lives on one event loop."""

    def __init__(self) -> None:
        self.known: dict[Peer, None] = {}
        self._untaken: dict[int, tuple[float, Peer]] = {}  # by the context's id, the oldest first
        self._lost: set[Peer] = set()

    def calls(self, peer: Peer, context: Any, over: Callable[[], None]) -> None:
        """A call came; `over` is called when its answer was taken, or its client has left."""
        self.known.pop(peer, None)
        self.known[peer] = None
        if len(self.known) > _KNOWN:
            del self.known[next(iter(self.known))]

        def done(_: Any) -> None:
            self._untaken.pop(id(context), None)
            over()

        context.add_done_callback(done)

    def answered(self, peer: Peer, context: Any) -> None:
        """The call's answer goes out from now on."""
        self._untaken[id(context)] = (asyncio.get_running_loop().time(), peer)

    async def send(self, context: Any, data: bytes, within: float) -> None:
        """Write a message of a stream. Raises RequestError: LATE, it is not taken `within` seconds."""
        try:
            async with asyncio.timeout(within):
                await context.write(data)
        except TimeoutError:
            self._lost.add(parse(context.peer()))
            raise RequestError(LATE, f"the answer was not taken within {within:g} s") from None

    def stuck(self, within: float) -> set[Peer]:
        """Connections with an answer that was not taken `within` seconds; each is told once or more."""
        found, self._lost = self._lost, set()
        due = asyncio.get_running_loop().time() - within
        for since, peer in self._untaken.values():
            if since > due:
                break
            found.add(peer)
        return found


def parse(peer: str) -> Peer:
    """'ipv4:127.0.0.1:5000' -> ('127.0.0.1', 5000), 'ipv6:%5B::1%5D:5000' -> ('::1', 5000); 0 for no port."""
    address, _, port = unquote(peer).partition(":")[2].rpartition(":")
    number = 0
    with suppress(ValueError):
        number = int(port)
    return address.strip("[]").removeprefix("::ffff:"), number
