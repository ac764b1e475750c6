"""Who calls, and what of their messages has come in part."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from senet_convert.deploy.serve.v2.grpc.peers import Peers, parse

ONE, TWO = ("127.0.0.1", 1), ("127.0.0.1", 2)


class Context:
    """A call whose message comes when it is told to."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.message: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def peer(self) -> str:
        return f"ipv4:127.0.0.1:{self.number}"

    async def read(self) -> bytes:
        return await self.message

    def add_done_callback(self, _: Any) -> None: ...


@pytest.mark.parametrize(
    ("peer", "found"),
    [
        ("ipv4:127.0.0.1:5000", ("127.0.0.1", 5000)),
        ("ipv6:%5B::1%5D:5000", ("::1", 5000)),
        ("ipv6:%5B::ffff:10.0.0.1%5D:5000", ("10.0.0.1", 5000)),
        ("unix:", ("", 0)),
    ],
)
def test_addresses_as_grpc_writes_them(peer: str, found: tuple[str, int]) -> None:
    assert parse(peer) == found


def test_what_came_and_is_no_message_yet_counts_against_a_connection() -> None:
    async def main() -> None:
        peers, one, two = Peers(), Context(1), Context(2)
        reading = [asyncio.create_task(peers.read(context, None)) for context in (one, two)]
        await asyncio.sleep(0)
        assert peers.reading()
        received = {ONE: 300_000, TWO: 200_000}
        assert peers.heaviest(received, 600_000) == set()
        assert peers.heaviest(received, 400_000) == {ONE}
        assert peers.heaviest(received, 100_000) == {ONE, TWO}
        one.message.set_result(bytes(299_000))
        await reading[0]
        assert peers.heaviest(received, 250_000) == set(), "it came whole"
        two.message.set_result(b"")
        await reading[1]
        assert not peers.reading()
        assert peers.heaviest({TWO: 10**9}, 1) == set(), "nothing is awaited: those were headers"

    asyncio.run(main())


def test_answers_that_are_not_taken_are_found_by_their_age() -> None:
    async def main() -> None:
        peers, one = Peers(), Context(1)
        peers.answered(ONE, one)
        assert peers.stuck(10) == set()
        await asyncio.sleep(0.02)
        assert peers.stuck(0.01) == {ONE}

    asyncio.run(main())
