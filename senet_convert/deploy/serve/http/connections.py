"""Which connections are open, and which of them makes room where there is none for one more.

First those that never had an answer, then those that wait for a next request, each the longest silent first; then those
whose request, or whose taking of an answer, has been under way for seconds. One whose answer is being computed stays.
Every step costs the same however many connections there are.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import IntEnum
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

_SLOW = 5.0  # seconds that a body may take to arrive, or an answer to be taken, without making room for others


class Stage(IntEnum):
    """What a connection is doing; the earlier ones make room first."""

    SILENT = 0  # it never had an answer
    IDLE = 1  # it waits for its next request
    RECEIVING = 2  # a body is arriving
    STUCK = 3  # its client does not take what it is sent
    BUSY = 4  # an answer is being made


@dataclass(eq=False)
class Connection:
    """One from the moment it is accepted; `hang_up` ends it at once. `client` is empty where nobody is counted."""

    client: str
    hang_up: Callable[[], object]
    stage: Stage = Stage.SILENT
    since: float = field(default_factory=time.monotonic)  # when the stage began


class _Order:
    """Some connections by their stages, each stage in the order in which they came to it."""

    def __init__(self) -> None:
        self.stages: tuple[OrderedDict[Connection, None], ...] = tuple(OrderedDict() for _ in Stage)

    def __len__(self) -> int:
        return sum(map(len, self.stages))

    def first(self) -> Connection | None:
        """The one that makes room."""
        for stage in Stage:
            one = next(iter(self.stages[stage]), None)
            if one is None or stage == Stage.BUSY:
                continue
            if stage < Stage.RECEIVING or time.monotonic() - one.since > _SLOW:
                return one
        return None


class Connections:
    """At most `most`, and at most `share` of one client: an IPv4 address or 64 bits of an IPv6 one."""

    def __init__(self, most: int, share: int, trusted: tuple[str, ...] = ()) -> None:
        """`trusted` proxies, addresses or networks, are not counted apart: they bring many clients."""
        self._most = most
        self._share = share
        self._trusted = _networks(trusted)
        self._all = _Order()
        self._clients: dict[str, _Order] = {}

    def __len__(self) -> int:
        return len(self._all)

    def every(self) -> list[Connection]:
        """All of them."""
        return [one for stage in self._all.stages for one in stage]

    def client(self, address: str) -> str:
        """Whom an address counts for; empty for proxies that are trusted, and Unix sockets, which have no address."""
        if not address:
            return ""
        found = ip_address(address.partition("%")[0])
        if any(found in network for network in self._trusted):
            return ""
        return str(ip_network((found, 64), strict=False)) if isinstance(found, IPv6Address) else address

    def make_room(self, client: str) -> str:
        """Make room for one more of a client; where there is none to be made, why, in words."""
        own = self._clients.get(client)
        if own is not None and len(own) >= self._share and not self._end(own):
            return "too many connections from this address; try again"
        if len(self._all) >= self._most and not self._end(self._all):
            return "too many connections; try again"
        return ""

    def end(self, count: int) -> int:
        """Hang up on up to so many that make room; gives how many these were."""
        return next((ended for ended in range(count) if not self._end(self._all)), count)

    def add(self, client: str, hang_up: Callable[[], object]) -> Connection:
        """One more."""
        one = Connection(client, hang_up)
        if client and client not in self._clients:
            self._clients[client] = _Order()
        for order in self._orders(one):
            order.stages[one.stage][one] = None
        return one

    def move(self, one: Connection, stage: Stage) -> None:
        """It has come to another stage."""
        if stage == one.stage or one not in self._all.stages[one.stage]:
            return
        for order in self._orders(one):
            del order.stages[one.stage][one]
            order.stages[stage][one] = None
        one.stage, one.since = stage, time.monotonic()

    def remove(self, one: Connection) -> None:
        """It is gone; one that is gone already may be named again."""
        if one not in self._all.stages[one.stage]:
            return
        for order in self._orders(one):
            del order.stages[one.stage][one]
        if one.client and not self._clients[one.client]:
            del self._clients[one.client]

    def _orders(self, one: Connection) -> tuple[_Order, ...]:
        return (self._all, self._clients[one.client]) if one.client else (self._all,)

    def _end(self, order: _Order) -> bool:
        one = order.first()
        if one is None:
            return False
        self.remove(one)
        one.hang_up()
        return True


def _networks(words: tuple[str, ...]) -> list[IPv4Network | IPv6Network]:
    """Those of the trusted proxies that are addresses or networks."""
    found: list[IPv4Network | IPv6Network] = []
    for word in words:
        with suppress(ValueError):
            found.append(ip_network(word, strict=False))
    return found
