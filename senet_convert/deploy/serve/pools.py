"""Threads for what takes longer than a moment, a pool for each kind of work: slow pictures keep no JSON waiting.

Whoever waits for a thread waits on the event loop: when the request's deadline has passed, nothing of it is left in a
queue. Long work is done in turns, so that a short one behind it does not wait for its end.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar, cast

from .errors import BUSY, RequestError

Result = TypeVar("Result")
Steps = Generator[int, None, Result]  # work cut into steps of a few ms: yields the bytes of memory that it takes next
Hold = Callable[[int], None]  # counts memory; raises RequestError when there is too much of it

_TURN = 0.02  # seconds that a thread works for one request while others may wait
_LITTLE = 1024 * 1024  # bytes that are taken before they are held
_RETRY = 1  # seconds


class Pool:
    """`threads` for one kind of work; no more than `queue` wait for them. Lives on one event loop."""

    def __init__(self, name: str, threads: int, queue: int) -> None:
        """`name` is that of the work, in the plural: it stands in messages."""
        self.name = name
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._free = asyncio.Semaphore(threads)
        self._queue = queue
        self._waiting = 0

    async def run(self, work: Callable[..., Result], *arguments: Any) -> Result:
        """`work` in a thread. Raises RequestError: BUSY where too many wait."""
        if self._free.locked() and self._waiting >= self._queue:
            raise RequestError(BUSY, f"{self._waiting} {self.name} are waiting already; try again", _RETRY)
        return await self._in_turn(work, *arguments)

    async def finish(self, work: Steps[Result], hold: Hold, at_once: int = 0) -> Result:
        """`work` to its end, in turns; much memory is held before it is taken. Raises RequestError as `run` does.

        The first `at_once` steps are done on the loop: for those that are known to be short, and may be all.
        """
        for _ in range(at_once):
            try:
                hold(next(work))
            except StopIteration as end:
                return cast(Result, end.value)
        size, over, result = await self.run(_turn, work)
        hold(size)
        while not over:
            size, over, result = await self._in_turn(_turn, work)
            hold(size)
        return cast(Result, result)

    async def _in_turn(self, work: Callable[..., Result], *arguments: Any) -> Result:
        self._waiting += 1
        try:
            await self._free.acquire()
        finally:
            self._waiting -= 1
        future = asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)
        future.add_done_callback(self._done)
        return await asyncio.shield(future)  # a thread is free when its work is done, not when nobody waits for it

    def _done(self, future: asyncio.Future[Any]) -> None:
        self._free.release()
        if not future.cancelled():
            future.exception()  # has been looked at: whoever waited may be gone


class Pools:
    """The pools of a server, each with `threads` but those of work that holds the interpreter's lock."""

    def __init__(self, threads: int, queue: int) -> None:
        self.pictures = Pool("pictures", threads, queue)
        self.gates = Pool("gates", 2, queue)
        self.json = Pool("JSON bodies", threads, queue)
        self.packing = Pool("packed bodies", threads, queue)
        self.forms = Pool("forms", 1, queue)


def drain(work: Steps[Result], hold: Hold = lambda _: None) -> Result:
    """`work` to its end at once, for what is known to be short."""
    while True:
        try:
            hold(next(work))
        except StopIteration as end:
            return cast(Result, end.value)


def _turn(work: Steps[Any]) -> tuple[int, bool, Any]:
    """Steps until one takes much memory or the turn is over: (bytes that are taken, is it done, its result)."""
    ends, size = time.monotonic() + _TURN, 0
    try:
        while True:
            size += next(work)
            if size >= _LITTLE or time.monotonic() >= ends:
                return size, False, None
    except StopIteration as end:
        return size, True, end.value
