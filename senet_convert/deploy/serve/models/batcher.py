"""Micro-batching: requests that wait at the same time run together, in the order they came.

A run that nobody waits for any longer, since the deadlines have passed or the clients are gone, is ended. Its instance
is stuck until that has happened and for a moment after; a model with such an instance is not ready.

A free instance takes what is there. It waits for more only when there is reason to expect more: when the run before had
company. So a lone client never waits, and many clients find each other.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ...runtime.session import Run
from .. import context
from .errors import DeadlineExceeded, InstancesStuck, ModelError, ModelUnavailable, QueueFull, RunFailed
from .stats import Stats

Array = NDArray[Any]
Key = tuple[Any, ...]

_RETRY = 1  # seconds after which a full queue is worth another try
_REST = 1.0  # seconds for which an instance counts as stuck after its run has ended, unless it runs well before
_HOPELESS = 1.0  # seconds after which a run that does not end is waited for no longer
_log = logging.getLogger("senet_convert.serve")


class Runner(Protocol):
    """What the batcher needs of a model; `Served` is one."""

    @property
    def batched(self) -> bool: ...  # noqa: D102
    @property
    def max_batch(self) -> int: ...  # noqa: D102
    def run(  # noqa: D102
        self, instance: int, feeds: Mapping[str, Array], outputs: Sequence[str], run: Run
    ) -> dict[str, Array]: ...


@dataclass(frozen=True)
class Limits:
    """How long requests may wait, and how many.

    max_wait  seconds that a run waits for company
    queue     requests that may wait; more are refused
    deadline  seconds until a request must be answered, where it does not say itself
    """

    max_wait: float = 0.002
    queue: int = 128
    deadline: float = 30.0


@dataclass
class _Pending:
    feeds: Mapping[str, Array]
    outputs: tuple[str, ...]
    rows: int
    due: float
    done: asyncio.Future[dict[str, Array]]
    since: int = field(default_factory=time.perf_counter_ns)
    waited: int = 0  # ns in the queue
    computed: int = 0  # ns of the run that it was part of

    @property
    def key(self) -> Key:
        """Requests of one key can run together."""
        shapes = ((name, array.shape[1:]) for name, array in sorted(self.feeds.items()))
        return (self.outputs, *shapes)


class Batcher:
    """The queue before one version of a model, and the tasks that empty it. Lives on one event loop."""

    def __init__(self, runner: Runner, instances: int, limits: Limits, stats: Stats) -> None:
        """Start one task for each instance of `runner`."""
        self.runner = runner
        self.limits = limits
        self.stats = stats
        self._queue: deque[_Pending] = deque()
        self._arrived = asyncio.Condition()
        self._closed = False
        self._running = 0
        self._stuck: dict[int, float] = {}  # instance -> when its run was told to end, by the loop's clock
        self._pool = ThreadPoolExecutor(instances, thread_name_prefix="run")
        self._tasks = [asyncio.create_task(self._serve(instance)) for instance in range(instances)]

    @property
    def stuck(self) -> int:
        """Instances whose run was told to end, and has not or just now."""
        return len(self._stuck)

    @property
    def running(self) -> int:
        """Runs that are under way."""
        return self._running

    @property
    def hopeless(self) -> bool:
        """Is every instance busy with a run that does not end?"""
        before = asyncio.get_running_loop().time() - _HOPELESS
        return len(self._stuck) == len(self._tasks) and all(told < before for told in self._stuck.values())

    async def submit(
        self, feeds: Mapping[str, Array], outputs: Sequence[str], rows: int, timeout: float | None = None
    ) -> dict[str, Array]:
        """The outputs for `feeds`, which hold `rows` items; `timeout` in seconds, at most the limits' deadline.

        Raises QueueFull, InstancesStuck, DeadlineExceeded, RunFailed, and ModelUnavailable when closing.
        """
        if self._closed:
            raise ModelUnavailable("the model is being unloaded or the server shuts down", _RETRY)
        if len(self._queue) >= self.limits.queue:
            self.stats.failed(0, QueueFull)
            raise QueueFull(f"{len(self._queue)} requests are waiting already; try again", _RETRY)
        if self.hopeless:
            self.stats.failed(0, InstancesStuck)
            raise InstancesStuck("every instance of the model is busy with a run that does not end", _RETRY)
        seconds = min(timeout or self.limits.deadline, self.limits.deadline)
        loop = asyncio.get_running_loop()
        due = min(loop.time() + seconds, context.current.get().due)
        item = _Pending(feeds, tuple(outputs), rows, due, loop.create_future())
        self._queue.append(item)
        self.stats.pending += 1
        try:
            async with self._arrived:
                self._arrived.notify()
            async with asyncio.timeout_at(item.due):
                found = await item.done
        except TimeoutError:
            self.stats.failed(time.perf_counter_ns() - item.since, DeadlineExceeded)
            raise DeadlineExceeded(f"no answer within {seconds:g} s: the deadline has passed") from None
        except ModelError as fault:
            self.stats.failed(time.perf_counter_ns() - item.since, type(fault))
            raise
        except asyncio.CancelledError:
            self.stats.canceled(time.perf_counter_ns() - item.since)
            raise
        finally:
            self.stats.pending -= 1
        self.stats.answered(time.perf_counter_ns() - item.since, item.waited)
        context.current.get().ran(item.waited, item.computed)
        return found

    async def close(self, grace: float) -> None:
        """Take no more, finish what waits within `grace` seconds, refuse the rest. Can be called twice."""
        self._closed = True
        async with self._arrived:
            self._arrived.notify_all()
        _, late = await asyncio.wait(self._tasks, timeout=grace)
        _turn_away(self._queue)
        self._queue.clear()
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _serve(self, instance: int) -> None:
        company = False
        while (batch := await self._take(company)) is not None:
            company = len(batch) > 1
            if batch:
                await self._run(instance, batch)

    async def _take(self, expect_more: bool) -> list[_Pending] | None:
        """The next requests that run together, perhaps none; None when closed and empty."""
        async with self._arrived:
            await self._arrived.wait_for(lambda: self._queue or self._closed)
        if not self._queue:
            return None if self._closed else []
        if expect_more and self.limits.max_wait and not self._closed:
            await self._wait_for_company()
        return self._front()

    async def _wait_for_company(self) -> None:
        def enough() -> bool:
            return self._closed or sum(item.rows for item in self._queue) >= self.runner.max_batch

        try:
            async with asyncio.timeout(self.limits.max_wait), self._arrived:
                await self._arrived.wait_for(enough)
        except TimeoutError:
            return

    def _front(self) -> list[_Pending]:
        """From the front of the queue what fits together; what nobody waits for any longer is dropped."""
        taken: list[_Pending] = []
        rows = 0
        while self._queue:
            item = self._queue[0]
            if not item.done.done():
                full = rows + item.rows > self.runner.max_batch or not self.runner.batched
                if taken and (full or item.key != taken[0].key):
                    break
                taken.append(item)
                rows += item.rows
            self._queue.popleft()
        now = time.perf_counter_ns()
        for item in taken:
            item.waited = now - item.since
        return taken

    async def _run(self, instance: int, batch: list[_Pending]) -> None:
        run = Run()
        watch = self._watch(instance, batch, run)
        loop = asyncio.get_running_loop()
        try:
            try:
                results, took = await loop.run_in_executor(self._pool, self._compute, instance, batch, run)
            finally:
                watch()
        except asyncio.CancelledError:
            run.end()
            _turn_away(batch)
            raise
        except Exception as fault:  # onnxruntime raises a class for each kind of fault, without a common base
            if run.ended:
                return
            if len(batch) > 1:  # each alone, so that the one at fault is the one that fails
                for item in batch:
                    if not item.done.done():
                        await self._run(instance, [item])
            elif not batch[0].done.done():
                batch[0].done.set_exception(RunFailed(f"the model cannot be run on this input: {fault}"))
            return
        self.stats.executed(sum(item.rows for item in batch), [item.waited for item in batch], took)
        for item, result in zip(batch, results, strict=True):
            item.computed = sum(took.values())
            if not item.done.done():
                item.done.set_result(result)

    def _watch(self, instance: int, batch: list[_Pending], run: Run) -> Callable[[], None]:
        """End the run when nobody waits for it any longer. Gives what is to be called when it is over."""
        loop = asyncio.get_running_loop()
        waiting, over = len(batch), False

        def gone(_: object) -> None:
            nonlocal waiting
            waiting -= 1
            if not waiting and not over:
                run.end()
                self._stuck[instance] = loop.time()
                _log.warning("nobody waits any longer for a run of %s, instance %d: it is ended", self.runner, instance)

        def done() -> None:
            nonlocal over
            over = True
            told = self._stuck.get(instance)
            if run.ended and told is not None:
                _log.info("the run of %s, instance %d, ended after %.2f s", self.runner, instance, loop.time() - told)
                loop.call_later(_REST, self._rested, instance, told)
            elif told is not None:
                del self._stuck[instance]  # it runs well again

        for item in batch:
            item.done.add_done_callback(gone)
        return done

    def _rested(self, instance: int, told: float) -> None:
        if self._stuck.get(instance) == told:
            del self._stuck[instance]

    def _compute(self, instance: int, batch: list[_Pending], run: Run) -> tuple[list[dict[str, Array]], dict[str, int]]:
        """In the instance's thread: join, run, cut. Gives each request's outputs and the ns of each stage."""
        self._running += 1  # a thread's own: who cancels the task that waits for it does not end it
        try:
            return self._computed(instance, batch, run)
        finally:
            self._running -= 1

    def _computed(
        self, instance: int, batch: list[_Pending], run: Run
    ) -> tuple[list[dict[str, Array]], dict[str, int]]:
        started = time.perf_counter_ns()
        feeds = batch[0].feeds
        if len(batch) > 1:
            feeds = {name: np.concatenate([item.feeds[name] for item in batch]) for name in feeds}
        joined = time.perf_counter_ns()
        outputs = self.runner.run(instance, feeds, batch[0].outputs, run)
        ran = time.perf_counter_ns()
        results = [outputs]
        if len(batch) > 1:
            ends = np.cumsum([item.rows for item in batch])
            if any(len(value) != ends[-1] for value in outputs.values()):
                raise ValueError("an output has not one row for each item: requests cannot run together")
            results = [
                {name: value[end - item.rows : end] for name, value in outputs.items()}
                for item, end in zip(batch, ends, strict=True)
            ]
        cut = time.perf_counter_ns()
        return results, {"compute_input": joined - started, "compute_infer": ran - joined, "compute_output": cut - ran}


def _turn_away(items: Iterable[_Pending]) -> None:
    for item in items:
        if not item.done.done():
            item.done.set_exception(ModelUnavailable("the server shut down before this request was done", _RETRY))
