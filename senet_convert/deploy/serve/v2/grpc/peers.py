"""Who calls, by connection, and whose answers lie there untaken."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import unquote

import grpc

from ...errors import LATE, SLOW, RequestError
from .connections import Peer

_KNOWN = 16_384  # connections that are remembered for having called; the oldest is forgotten first
_HEAD, _FRAMES = (
    1024,
    64,
)  # bytes of a call beside its message: headers, and a part of it for the frames of HTTP/2 and TLS


class Peers:
    """Every connection that calls. Lives on one event loop."""

    def __init__(self) -> None:
        self.known: dict[Peer, None] = {}
        self._untaken: dict[int, tuple[float, Peer]] = {}  # by the context's id, the oldest first
        self._lost: set[Peer] = set()
        self._waiting: Counter[Peer] = Counter()  # messages that are awaited
        self._arrived: Counter[Peer] = Counter()  # bytes of those that came, and what goes with a call
        self._beside: dict[Peer, int] = {}  # bytes that came and were none of a message

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

    async def read(self, context: Any, within: float | None) -> bytes | None:
        """The next message as bytes, None after the last. Raises RequestError: SLOW, not there `within` seconds."""
        peer = parse(context.peer())
        self._waiting[peer] += 1
        try:
            async with asyncio.timeout(within):
                data = await context.read()
        except TimeoutError:
            raise RequestError(SLOW, f"the message did not arrive within {within:g} s") from None
        finally:
            self._waiting[peer] -= 1
        if data is grpc.aio.EOF:
            return None
        self._arrived[peer] += _HEAD + len(data) + len(data) // _FRAMES
        return data  # type: ignore[no-any-return]  # grpc is untyped

    def reading(self) -> bool:
        """Is any message awaited, or is it time to forget who is gone?"""
        return any(self._waiting.values()) or len(self._arrived) > _KNOWN

    def heaviest(self, received: Mapping[Peer, int], most: int) -> set[Peer]:
        """Connections to end so that the messages that have come in part hold at most so many bytes together.

        gRPC keeps what came of a message to itself until it is whole: it is what the connection `received` and no
        message had. Those that are gone are forgotten.
        """
        parts: dict[Peer, int] = {}
        for peer, size in received.items():
            beside = size - self._arrived[peer]
            if not self._waiting[peer]:
                self._beside[peer] = beside
            parts[peer] = max(0, beside - self._beside.get(peer, 0))
        self._waiting = Counter({peer: count for peer, count in self._waiting.items() if count})
        self._arrived = Counter({peer: self._arrived[peer] for peer in received})
        self._beside = {peer: size for peer, size in self._beside.items() if peer in received}
        found: set[Peer] = set()
        while parts and sum(parts.values()) > most:
            worst = max(parts, key=parts.__getitem__)
            del parts[worst]
            found.add(worst)
        return found

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
