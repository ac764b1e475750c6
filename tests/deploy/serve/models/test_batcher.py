"""The queue: who runs with whom, who waits, who is refused."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from senet_convert.deploy.runtime.session import Run
from senet_convert.deploy.serve.models.batcher import Array, Batcher, Limits
from senet_convert.deploy.serve.models.errors import DeadlineExceeded, ModelUnavailable, QueueFull, RunFailed
from senet_convert.deploy.serve.models.stats import Stats

DOUBLE = ("y",)


class Doubler:
    """y = 2x. Runs stop at `gate` while it is closed; a value below zero is a fault."""

    def __init__(self, max_batch: int = 4, batched: bool = True) -> None:
        self.max_batch = max_batch
        self.batched = batched
        self.gate = threading.Event()
        self.gate.set()
        self.runs: list[list[float]] = []

    def run(self, instance: int, feeds: Mapping[str, Array], outputs: Sequence[str], run: Run) -> dict[str, Array]:
        assert self.gate.wait(10)
        x = feeds["x"]
        self.runs.append([float(value) for value in x.reshape(len(x), -1)[:, 0]])
        if (x < 0).any():
            raise ValueError("below zero")
        return dict.fromkeys(outputs, 2 * x)


def x(*values: float, width: int = 1) -> dict[str, Array]:
    return {"x": np.repeat(np.array(values, np.float32)[:, None], width, axis=1)}


def with_batcher(
    use: Callable[[Batcher], Awaitable[None]], runner: Doubler, limits: Limits | None = None, instances: int = 1
) -> Stats:
    """Run `use` on a loop of its own, close the batcher, and give what was counted."""

    async def main() -> Stats:
        stats = Stats()
        batcher = Batcher(runner, instances, limits or Limits(), stats)
        try:
            await use(batcher)
        finally:
            runner.gate.set()
            await batcher.close(5)
        return stats

    return asyncio.run(main())


def ask(batcher: Batcher, *values: float, **more: Any) -> Coroutine[Any, Any, dict[str, Array]]:
    return batcher.submit(x(*values), DOUBLE, len(values), **more)


async def settle() -> None:
    """Let every task go as far as it can without another thread."""
    for _ in range(20):
        await asyncio.sleep(0)


def test_each_request_gets_its_own_answer() -> None:
    async def use(batcher: Batcher) -> None:
        found = await asyncio.gather(*(ask(batcher, k, k + 0.5) for k in range(50)))
        for k, answer in enumerate(found):
            assert answer["y"].tolist() == [[2 * k], [2 * k + 1]]

    stats = with_batcher(use, Doubler(max_batch=8))
    assert stats.success.count == 50
    assert stats.inferences == 100
    assert stats.executions == sum(part["compute_infer"].count for part in stats.batches.values())
    assert stats.stages["queue"].count == 50
    assert stats.pending == 0


def test_requests_that_wait_together_run_together_in_order() -> None:
    runner = Doubler(max_batch=4)

    async def use(batcher: Batcher) -> None:
        runner.gate.clear()
        first = asyncio.create_task(ask(batcher, 0))
        await asyncio.sleep(0.05)
        others = [asyncio.create_task(ask(batcher, k)) for k in (1, 2, 3, 4, 5)]
        await settle()
        runner.gate.set()
        await asyncio.gather(first, *others)

    with_batcher(use, runner)
    assert runner.runs == [[0], [1, 2, 3, 4], [5]]


def test_a_request_that_does_not_fit_waits_for_the_next_run() -> None:
    runner = Doubler(max_batch=4)

    async def use(batcher: Batcher) -> None:
        runner.gate.clear()
        first = asyncio.create_task(ask(batcher, 0))
        await asyncio.sleep(0.05)
        others = [asyncio.create_task(ask(batcher, *values)) for values in ((1, 1), (2, 2, 2), (3,))]
        await settle()
        runner.gate.set()
        await asyncio.gather(first, *others)

    with_batcher(use, runner)
    assert runner.runs == [[0], [1, 1], [2, 2, 2, 3]]


@pytest.mark.parametrize("other", ["shape", "outputs"])
def test_requests_of_other_shapes_or_outputs_run_apart(other: str) -> None:
    runner = Doubler()

    async def use(batcher: Batcher) -> None:
        runner.gate.clear()
        first = asyncio.create_task(ask(batcher, 0))
        await asyncio.sleep(0.05)
        different = (x(2, width=3), DOUBLE, 1) if other == "shape" else (x(2), ("z",), 1)
        others = [asyncio.create_task(job) for job in (ask(batcher, 1), batcher.submit(*different), ask(batcher, 3))]
        await settle()
        runner.gate.set()
        _, _, found, _ = await asyncio.gather(first, *others)
        assert list(found) == (["y"] if other == "shape" else ["z"])

    with_batcher(use, runner)
    assert runner.runs == [[0], [1], [2], [3]]


def test_a_model_without_a_free_batch_runs_requests_one_by_one() -> None:
    runner = Doubler(max_batch=1, batched=False)

    async def use(batcher: Batcher) -> None:
        await asyncio.gather(*(ask(batcher, k) for k in range(5)))

    with_batcher(use, runner)
    assert runner.runs == [[0], [1], [2], [3], [4]]


def test_a_lone_client_never_waits_for_company() -> None:
    async def use(batcher: Batcher) -> None:
        for k in range(5):
            async with asyncio.timeout(2):
                await ask(batcher, k)

    assert with_batcher(use, Doubler(), Limits(max_wait=60)).success.count == 5


def test_after_a_run_with_company_the_next_one_waits_for_more() -> None:
    runner = Doubler(max_batch=2)

    async def use(batcher: Batcher) -> None:
        runner.gate.clear()
        first = asyncio.create_task(ask(batcher, 0))
        await asyncio.sleep(0.05)
        pair = [asyncio.create_task(ask(batcher, k)) for k in (1, 2)]
        await settle()
        runner.gate.set()
        await asyncio.gather(first, *pair)
        third = asyncio.create_task(ask(batcher, 3))
        await asyncio.sleep(0.05)
        assert not third.done()
        await asyncio.gather(third, ask(batcher, 4))

    with_batcher(use, runner, Limits(max_wait=60))
    assert runner.runs == [[0], [1, 2], [3, 4]]


def test_a_full_queue_refuses() -> None:
    runner = Doubler(max_batch=1)

    async def use(batcher: Batcher) -> None:
        runner.gate.clear()
        tasks = [asyncio.create_task(ask(batcher, 0))]
        await asyncio.sleep(0.05)
        tasks += [asyncio.create_task(ask(batcher, k)) for k in (1, 2)]
        await settle()
        with pytest.raises(QueueFull, match="2 requests are waiting") as refused:
            await ask(batcher, 3)
        assert refused.value.retry_after == 1
        runner.gate.set()
        await asyncio.gather(*tasks)

    stats = with_batcher(use, runner, Limits(queue=2))
    assert runner.runs == [[0], [1], [2]]
    assert stats.success.count == 3


@pytest.mark.parametrize("running", [True, False])
def test_a_deadline_that_passes_is_told_at_once_and_what_still_waits_is_not_run(running: bool) -> None:
    runner = Doubler(max_batch=1)

    async def use(batcher: Batcher) -> None:
        runner.gate.clear()
        ahead = [] if running else [asyncio.create_task(ask(batcher, 0))]
        await asyncio.sleep(0.05)
        started = time.monotonic()
        with pytest.raises(DeadlineExceeded, match=r"0\.1 s"):
            await ask(batcher, 1, timeout=0.1)
        assert time.monotonic() - started < 5
        runner.gate.set()
        await asyncio.gather(*ahead)

    stats = with_batcher(use, runner)
    assert runner.runs == ([[1]] if running else [[0]])
    assert stats.fail.count == 1


def test_a_client_cannot_ask_for_more_time_than_the_server_gives() -> None:
    runner = Doubler()

    async def use(batcher: Batcher) -> None:
        runner.gate.clear()
        with pytest.raises(DeadlineExceeded, match=r"0\.1 s"):
            await ask(batcher, 1, timeout=1000)

    with_batcher(use, runner, Limits(deadline=0.1))


def test_who_no_longer_waits_is_not_run() -> None:
    runner = Doubler(max_batch=1)

    async def use(batcher: Batcher) -> None:
        runner.gate.clear()
        first = asyncio.create_task(ask(batcher, 0))
        await asyncio.sleep(0.05)
        gone = asyncio.create_task(ask(batcher, 1))
        await settle()
        gone.cancel()
        await settle()
        runner.gate.set()
        await first

    stats = with_batcher(use, runner)
    assert runner.runs == [[0]]
    assert stats.cancel.count == 1


def test_a_fault_is_its_senders_alone() -> None:
    runner = Doubler()

    async def use(batcher: Batcher) -> None:
        runner.gate.clear()
        first = asyncio.create_task(ask(batcher, 0))
        await asyncio.sleep(0.05)
        others = [asyncio.create_task(ask(batcher, k)) for k in (1, -1, 2)]
        await settle()
        runner.gate.set()
        _, one, bad, two = await asyncio.gather(first, *others, return_exceptions=True)
        assert isinstance(bad, RunFailed)
        assert "below zero" in bad.message
        assert isinstance(one, dict)
        assert isinstance(two, dict)
        assert (one["y"].item(), two["y"].item()) == (2, 4)

    stats = with_batcher(use, runner)
    assert (stats.success.count, stats.fail.count) == (3, 1)


def test_closing_answers_everything_that_was_taken() -> None:
    runner = Doubler(max_batch=2)

    async def use(batcher: Batcher) -> None:
        runner.gate.clear()
        tasks = [asyncio.create_task(ask(batcher, k)) for k in range(7)]
        await settle()
        closing = asyncio.create_task(batcher.close(10))
        await settle()
        with pytest.raises(ModelUnavailable, match="shuts down"):
            await ask(batcher, 9)
        runner.gate.set()
        await closing
        assert [(await task)["y"].item() for task in tasks] == [0, 2, 4, 6, 8, 10, 12]

    with_batcher(use, runner)


def test_closing_is_bounded() -> None:
    runner = Doubler(max_batch=1)

    async def use(batcher: Batcher) -> None:
        runner.gate.clear()
        tasks = [asyncio.create_task(ask(batcher, k)) for k in range(2)]
        await asyncio.sleep(0.05)
        await batcher.close(0.1)
        for task in tasks:
            with pytest.raises(ModelUnavailable):
                await task

    with_batcher(use, runner)


def test_instances_run_side_by_side() -> None:
    runner = Doubler(max_batch=1)
    inside = threading.Barrier(2, timeout=10)
    original = runner.run

    def together(instance: int, feeds: Mapping[str, Array], outputs: Sequence[str], run: Run) -> dict[str, Array]:
        inside.wait()
        return original(instance, feeds, outputs, run)

    runner.run = together  # type: ignore[method-assign]

    async def use(batcher: Batcher) -> None:
        await asyncio.gather(*(ask(batcher, k) for k in range(6)))

    assert with_batcher(use, runner, instances=2).success.count == 6
