"""Runs that nobody waits for any longer are ended, and the model is not ready meanwhile."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from senet_convert.deploy.runtime.session import Run
from senet_convert.deploy.serve.models import batcher as room
from senet_convert.deploy.serve.models.batcher import Batcher, Limits
from senet_convert.deploy.serve.models.errors import DeadlineExceeded, InstancesStuck
from senet_convert.deploy.serve.models.served import Engine, Served
from senet_convert.deploy.serve.models.stats import Stats

from .. import toys

Array = NDArray[Any]


def feeds(rounds: int) -> dict[str, Array]:
    return {"rounds": np.array([rounds], np.int64), "x": np.ones(1, np.float32)}


def test_a_run_past_its_deadline_is_ended_and_its_instance_is_of_use_again(tmp_path: Path) -> None:
    served = Served.open("endless", "1", toys.endless(tmp_path / "model.onnx"), Engine(threads=1))

    async def use() -> None:
        batcher = Batcher(served, 1, Limits(), Stats())
        with pytest.raises(DeadlineExceeded):
            await batcher.submit(feeds(2**50), ("y",), 1, timeout=0.2)
        await asyncio.sleep(0)
        assert batcher.stuck == 1
        found = await batcher.submit(feeds(3), ("y",), 1, timeout=20)
        assert (list(found["y"]), batcher.stuck) == ([1], 0)
        await batcher.close(1)

    asyncio.run(use())


def test_a_run_whose_client_is_gone_is_ended(tmp_path: Path) -> None:
    served = Served.open("endless", "1", toys.endless(tmp_path / "model.onnx"), Engine(threads=1))

    async def use() -> None:
        batcher = Batcher(served, 1, Limits(deadline=600), Stats())
        gone = asyncio.create_task(batcher.submit(feeds(2**50), ("y",), 1))
        await asyncio.sleep(0.1)
        gone.cancel()
        assert list((await batcher.submit(feeds(1), ("y",), 1, timeout=20))["y"]) == [1]
        await batcher.close(1)

    asyncio.run(use())


class Deaf:
    """A model whose runs do not heed that they are told to end."""

    batched = False
    max_batch = 1

    def __init__(self) -> None:
        self.over = threading.Event()

    def run(self, instance: int, feeds: Mapping[str, Array], outputs: Sequence[str], run: Run) -> dict[str, Array]:
        self.over.wait(30)
        return dict.fromkeys(outputs, feeds["x"])


def test_where_no_instance_is_left_requests_are_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_HOPELESS", 0.1)
    monkeypatch.setattr(room, "_REST", 0.0)
    model = Deaf()

    async def use() -> None:
        batcher = Batcher(model, 1, Limits(), Stats())
        for why in (DeadlineExceeded, InstancesStuck):
            started = time.monotonic()
            with pytest.raises(why):
                await batcher.submit(feeds(1), ("y",), 1, timeout=0.3)
            await asyncio.sleep(0.2)
        assert time.monotonic() - started < 0.3
        assert (batcher.hopeless, batcher.stuck) == (True, 1)
        model.over.set()
        await asyncio.sleep(0.2)
        assert (batcher.hopeless, batcher.stuck) == (False, 0)
        await batcher.close(1)

    asyncio.run(use())


def test_a_batch_is_ended_only_when_all_of_its_clients_are_gone() -> None:
    model = Deaf()
    model.batched, model.max_batch = True, 8

    async def use() -> None:
        batcher = Batcher(model, 1, Limits(), Stats())
        first = asyncio.create_task(batcher.submit(feeds(1), ("y",), 1, timeout=20))
        await asyncio.sleep(0.05)
        gone = [asyncio.create_task(batcher.submit(feeds(1), ("y",), 1, timeout=20)) for _ in range(2)]
        await asyncio.sleep(0.05)
        gone[0].cancel()
        await asyncio.sleep(0.05)
        assert batcher.stuck == 0
        model.over.set()
        assert [list(found["y"]) for found in await asyncio.gather(first, gone[1])] == [[1], [1]]
        assert batcher.stuck == 0
        await batcher.close(1)

    asyncio.run(use())
