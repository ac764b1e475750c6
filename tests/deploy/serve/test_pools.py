"""Threads by kind of work: who waits, for how long, and what is left of those who are gone."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable

import pytest

from senet_convert.deploy.serve.errors import AWAY, BUSY, RequestError
from senet_convert.deploy.serve.pools import Pool, Steps, drain

MUCH = 2**21  # bytes
Use = Callable[[Pool, threading.Event], Awaitable[None]]


def held(use: Use, queue: int = 2) -> None:
    """Run `use` with a pool whose only thread is busy until the event is set."""

    async def go() -> None:
        pool, free = Pool("pictures", 1, queue), threading.Event()
        busy = asyncio.create_task(pool.run(free.wait, 10))
        await asyncio.sleep(0.01)
        try:
            await use(pool, free)
        finally:
            free.set()
            await busy

    asyncio.run(go())


def counting(steps: int, seen: list[str], name: str, size: int = 0) -> Steps[str]:
    for _ in range(steps):
        seen.append(name)
        yield size
    return name


def test_more_than_may_wait_are_told_so() -> None:
    async def use(pool: Pool, free: threading.Event) -> None:
        tasks = [asyncio.create_task(pool.run(int, "7")) for _ in range(3)]
        await asyncio.sleep(0.01)
        free.set()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert found[:2] == [7, 7]
        assert isinstance(found[2], RequestError)
        assert (found[2].status, found[2].message) == (BUSY, "2 pictures are waiting already; try again")

    held(use)


def test_who_is_gone_waits_no_longer_and_nothing_of_it_is_done() -> None:
    async def use(pool: Pool, free: threading.Event) -> None:
        seen: list[int] = []
        for _ in range(5):  # more than may wait: each leaves its place
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await pool.run(seen.append, 1)
        free.set()
        assert await pool.run(int, "7") == 7
        assert seen == []

    held(use)


def test_a_thread_is_taken_until_its_work_is_done_whoever_waits() -> None:
    async def go() -> None:
        pool, free = Pool("pictures", 1, 0), threading.Event()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await pool.run(free.wait, 10)
        with pytest.raises(RequestError, match="0 pictures are waiting"):
            await pool.run(int)
        free.set()
        await asyncio.sleep(0.05)
        assert await pool.run(int, "7") == 7

    asyncio.run(go())


def test_long_work_takes_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("senet_convert.deploy.serve.pools._TURN", 0.0)

    async def go() -> None:
        pool, seen = Pool("forms", 1, 9), list[str]()
        hold = list[int]().append
        found = await asyncio.gather(*(pool.finish(counting(50, seen, name), hold) for name in "ab"))
        assert found == ["a", "b"]
        assert seen.index("b") < 5
        assert 50 - seen.count("b") == 0

    asyncio.run(go())


def test_what_is_taken_is_held_before_it_is_taken() -> None:
    async def go() -> None:
        pool, seen, sizes = Pool("forms", 1, 9), list[str](), list[int]()
        for size in (100, MUCH):
            sizes.clear()
            assert await pool.finish(counting(3, seen, "a", size), sizes.append) == "a"
            assert sum(sizes) == 3 * size

        def refuse(size: int) -> None:
            raise RequestError(AWAY, "too much")

        seen.clear()
        with pytest.raises(RequestError, match="too much"):
            await pool.finish(counting(3, seen, "a", MUCH), refuse)
        assert seen == ["a"]

    asyncio.run(go())


def test_faults_of_the_work_are_its_callers() -> None:
    def broken() -> Steps[None]:
        yield 0
        raise ZeroDivisionError

    async def go() -> None:
        pool = Pool("forms", 1, 9)
        with pytest.raises(ZeroDivisionError):
            await pool.finish(broken(), lambda _: None)
        assert await pool.run(int, "7") == 7

    asyncio.run(go())


def test_short_work_is_done_at_once() -> None:
    sizes: list[int] = []
    assert drain(counting(2, [], "a", 5), sizes.append) == "a"
    assert sizes == [5, 5]


def test_the_first_steps_can_be_done_on_the_loop() -> None:
    async def use(pool: Pool, free: threading.Event) -> None:
        sizes: list[int] = []
        assert await pool.finish(counting(2, [], "a", 5), sizes.append, at_once=3) == "a"
        assert sizes == [5, 5]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await pool.finish(counting(2, [], "a", 5), sizes.append, at_once=2)

    held(use)
