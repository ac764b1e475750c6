"""Models that come, change and go while requests run."""

from __future__ import annotations

import asyncio
import logging
import shutil
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from senet_convert.deploy.serve.errors import AWAY, BAD, UNKNOWN, ServeError
from senet_convert.deploy.serve.http.statuses import status
from senet_convert.deploy.serve.models.batcher import Limits
from senet_convert.deploy.serve.models.inference import Question, infer
from senet_convert.deploy.serve.models.model_paths import ModelPath
from senet_convert.deploy.serve.models.repository import Repository
from senet_convert.deploy.serve.models.served import Engine, Served
from senet_convert.errors import ConvertError
from tests.deploy.serve import toys

ENGINE = Engine(threads=1, max_batch=4)


def over(
    root: Path | None, work: Callable[[Repository], Awaitable[None]], models: list[ModelPath] | None = None
) -> Repository:
    """Start, do something, close."""
    found: list[Repository] = []

    async def main() -> None:
        repository = Repository(models or [], root, ENGINE, Limits(), grace=10)
        found.append(repository)
        try:
            await repository.start()
            await work(repository)
        finally:
            await repository.close()

    asyncio.run(asyncio.wait_for(main(), 60))
    return found[0]


async def ask(repository: Repository, value: float = 0.0, name: str = "plus", version: str = "") -> float:
    x = np.full((1, 3), value, np.float32)
    return float((await infer(repository, Question(name, {"x": x}, version))).outputs[0].data[0, 0])


async def fault(work: Awaitable[Any]) -> tuple[int, str]:
    with pytest.raises(ServeError) as caught:
        await work
    return status(caught.value), caught.value.message


async def look(repository: Repository, times: int = 2) -> None:
    for _ in range(times):
        await repository.refresh()


def put(root: Path, constant: float, version: str = "1", name: str = "plus") -> Path:
    """Write a version as it should be done: beside, then into its place."""
    aside = toys.plus(root / ".new" / "model.onnx", constant)
    place = root / name / version / "model.onnx"
    place.parent.mkdir(parents=True, exist_ok=True)
    return aside.rename(place)


def states(repository: Repository) -> dict[str, str]:
    return {f"{row['name']}:{row['version']}": row["state"] for row in repository.index()}


def test_versions_answer_side_by_side_and_the_highest_by_default(tmp_path: Path) -> None:
    for version in ("2", "10", "9"):
        put(tmp_path, float(version), version)

    async def work(repository: Repository) -> None:
        assert repository.ready
        assert repository.versions("plus") == ["2", "9", "10"]
        assert [await ask(repository, version=version) for version in ("2", "9", "")] == [2, 9, 10]
        assert await fault(ask(repository, name="nix")) == (UNKNOWN, "no model is called 'nix'; there is plus")
        assert await fault(ask(repository, version="3")) == (
            UNKNOWN,
            "model 'plus' has no version '3'; it has 2, 9, 10",
        )

    assert not over(tmp_path, work).ready


def test_nothing_starts_by_halves(tmp_path: Path) -> None:
    put(tmp_path, 1)
    toys.plus(tmp_path / "bad" / "model.onnx", 1).write_bytes(b"nonsense")

    async def work(_: Repository) -> None:
        raise AssertionError("it started")

    with pytest.raises(ConvertError, match=r"bad/model\.onnx"):
        over(tmp_path, work)


def test_two_models_of_one_name_are_refused(tmp_path: Path) -> None:
    file = toys.plus(tmp_path / "m.onnx", 1)
    with pytest.raises(ConvertError, match="several models are called net; tell them apart with NAME=PATH"):
        Repository([ModelPath("net", file), ModelPath("net", file)])


def test_a_replaced_model_answers_anew_and_no_request_is_dropped(tmp_path: Path) -> None:
    put(tmp_path, 1)
    answered: list[list[float]] = [[] for _ in range(8)]  # of each client, whose requests follow each other

    async def client(mine: list[float], repository: Repository, stop: asyncio.Event) -> None:
        while not stop.is_set():
            mine.append(await ask(repository))

    async def until_all_have(constant: float) -> None:
        while not all(mine and mine[-1] == constant for mine in answered):
            await asyncio.sleep(0.001)

    async def work(repository: Repository) -> None:
        stop = asyncio.Event()
        clients = [asyncio.create_task(client(mine, repository, stop)) for mine in answered]
        for constant in (2, 3, 4):
            await until_all_have(constant - 1)
            put(tmp_path, constant)
            await look(repository)
            assert await ask(repository) == constant
        await until_all_have(4)
        stop.set()
        await asyncio.gather(*clients)
        assert repository.get("plus").stats.fail.count == 0

    over(tmp_path, work)
    assert answered == [sorted(mine) for mine in answered], "an old answer after a new one"
    assert [set(mine) for mine in answered] == [{1, 2, 3, 4}] * 8


def held_runs() -> tuple[threading.Event, threading.Event, Callable[..., Any]]:
    """A gate, an event that says that a run stands before it, and what takes `Served.run`'s place for that."""
    gate, reached = threading.Event(), threading.Event()
    run = Served.run

    def slow(self: Served, *args: Any) -> Any:
        reached.set()
        assert gate.wait(20)
        return run(self, *args)

    return gate, reached, slow


def test_requests_of_the_old_one_are_finished_by_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, 1)
    gate, reached, slow = held_runs()

    async def work(repository: Repository) -> None:
        old = repository.get("plus").served
        monkeypatch.setattr(Served, "run", slow)
        before = [asyncio.create_task(ask(repository)) for _ in range(6)]
        assert await asyncio.to_thread(reached.wait, 20)
        put(tmp_path, 2)
        await look(repository)
        assert repository.get("plus").served is not old
        after = asyncio.create_task(ask(repository))
        await asyncio.sleep(0)
        gate.set()
        assert [await one for one in before] == [1] * 6
        assert await after == 2

    over(tmp_path, work)


def test_a_broken_replacement_keeps_the_old_one_and_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = put(tmp_path, 1)

    async def work(repository: Repository) -> None:
        file.write_bytes(b"nonsense")
        await look(repository, 5)
        assert await ask(repository) == 1
        (row,) = repository.index()
        assert row["state"] == "READY"
        assert row["reason"].startswith(f"not loaded: {file}: onnxruntime")
        assert len([one for one in caplog.records if one.levelno == logging.ERROR]) == 1
        put(tmp_path, 2)
        await look(repository)
        assert await ask(repository) == 2
        assert repository.index()[0]["reason"] == ""

    over(tmp_path, work)


def test_a_model_that_cannot_run_does_not_end_the_watch(tmp_path: Path) -> None:
    put(tmp_path, 1)

    async def work(repository: Repository) -> None:
        watching = asyncio.create_task(repository.watch(0.01))
        toys.stubborn(tmp_path / ".s" / "model.onnx").rename(tmp_path / "plus" / "1" / "model.onnx")
        async with asyncio.timeout(20):
            while "cannot be run" not in repository.index()[0]["reason"]:
                await asyncio.sleep(0.01)
        assert await ask(repository) == 1
        put(tmp_path, 2)
        async with asyncio.timeout(20):
            while await ask(repository) != 2:
                await asyncio.sleep(0.01)
        assert not watching.done()
        watching.cancel()

    over(tmp_path, work)


def test_what_is_still_being_written_is_left_alone(tmp_path: Path) -> None:
    file = put(tmp_path, 1)
    whole = toys.plus(tmp_path / ".new" / "model.onnx", 2).read_bytes()

    async def work(repository: Repository) -> None:
        served = repository.get("plus").served
        for size in range(0, len(whole), 40):
            file.write_bytes(whole[:size])
            await repository.refresh()
            assert repository.get("plus").served is served
            assert repository.index()[0]["reason"] == ""
        file.write_bytes(whole)
        await repository.refresh()
        assert await ask(repository) == 1
        await repository.refresh()
        assert await ask(repository) == 2

    over(tmp_path, work)


def test_models_and_versions_come_and_go(tmp_path: Path) -> None:
    put(tmp_path, 1)

    async def work(repository: Repository) -> None:
        put(tmp_path, 2, "2")
        put(tmp_path, 5, "1", "other")
        await repository.refresh()
        assert repository.versions("plus") == ["1"]
        await repository.refresh()
        assert repository.versions("plus") == ["1", "2"]
        assert await ask(repository, name="other") == 5
        shutil.rmtree(tmp_path / "plus" / "2")
        shutil.rmtree(tmp_path / "other")
        await look(repository)
        assert repository.versions("plus") == ["1"]
        assert states(repository) == {"other:1": "UNAVAILABLE", "plus:1": "READY", "plus:2": "UNAVAILABLE"}
        assert await fault(ask(repository, name="other")) == (
            BAD,
            "model 'other' version 1 is not available: its file is gone",
        )
        put(tmp_path, 6, "1", "other")
        await look(repository)
        assert await ask(repository, name="other") == 6

    over(tmp_path, work)


def test_what_is_away_for_one_look_is_not_dropped(tmp_path: Path) -> None:
    file = put(tmp_path, 1)

    async def work(repository: Repository) -> None:
        served = repository.get("plus").served
        file.rename(tmp_path / "aside")
        await repository.refresh()
        (tmp_path / "aside").rename(file)
        await look(repository, 3)
        assert repository.get("plus").served is served

    over(tmp_path, work)


def test_unloaded_models_stay_away_until_they_are_loaded(tmp_path: Path) -> None:
    put(tmp_path, 1)
    put(tmp_path, 2, "2")

    async def work(repository: Repository) -> None:
        await repository.unload("plus")
        assert states(repository) == {"plus:1": "UNAVAILABLE", "plus:2": "UNAVAILABLE"}
        assert await fault(ask(repository)) == (BAD, "model 'plus' version 2 is not available: unloaded")
        put(tmp_path, 3, "2")
        await look(repository, 3)
        assert (await fault(ask(repository)))[0] == BAD
        await repository.load("plus")
        assert await ask(repository) == 3
        assert (await fault(repository.load("nix")))[0] == UNKNOWN
        assert (await fault(repository.unload("nix")))[0] == UNKNOWN

    over(tmp_path, work)


def test_loading_anew_takes_what_is_there_now(tmp_path: Path) -> None:
    put(tmp_path, 1)
    put(tmp_path, 2, "2")

    async def work(repository: Repository) -> None:
        put(tmp_path, 5, "1")
        shutil.rmtree(tmp_path / "plus" / "2")
        await repository.load("plus")
        assert await ask(repository) == 5
        assert repository.versions("plus") == ["1"]

    over(tmp_path, work)


def test_one_version_that_cannot_be_loaded_does_not_keep_the_others(tmp_path: Path) -> None:
    broken = put(tmp_path, 1)
    put(tmp_path, 2, "2")

    async def work(repository: Repository) -> None:
        broken.write_bytes(b"nonsense")
        put(tmp_path, 7, "2")
        with pytest.raises(ConvertError, match=r"plus/1/model\.onnx"):
            await repository.load("plus")
        assert [await ask(repository, version=version) for version in ("1", "2")] == [1, 7]

    over(tmp_path, work)


def test_while_a_model_loads_it_is_said_when_to_come_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, 1)
    gate, reached = threading.Event(), threading.Event()
    opened = Served.open

    def slow(*args: Any) -> Served:
        reached.set()
        assert gate.wait(20)
        return opened(*args)

    async def work(repository: Repository) -> None:
        await repository.unload("plus")
        monkeypatch.setattr(Served, "open", slow)
        loading = asyncio.create_task(repository.load("plus"))
        assert await asyncio.to_thread(reached.wait, 20)
        assert await fault(ask(repository)) == (AWAY, "model 'plus' version 1 is being loaded")
        assert states(repository) == {"plus:1": "LOADING"}
        gate.set()
        await loading
        assert await ask(repository) == 1

    over(tmp_path, work)


def test_a_link_out_of_the_repository_is_refused_and_hinders_no_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path / "root"
    put(root, 1)
    outside = toys.plus(tmp_path / "outside" / "model.onnx", 9)

    async def work(repository: Repository) -> None:
        (root / "away").symlink_to(outside.parent)
        put(root, 2)
        put(root, 3, "1", "zebra")
        await look(repository, 4)
        assert await ask(repository) == 2
        assert await ask(repository, name="zebra") == 3
        assert (await fault(ask(repository, name="away")))[0] == UNKNOWN
        with pytest.raises(ConvertError, match="leads out of the repository"):
            await repository.load("away")
        assert sum("leads out of the repository" in one.getMessage() for one in caplog.records) == 1

    over(root, work)


def test_a_repository_that_is_away_for_a_while_keeps_what_is_loaded(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path / "root"
    put(root, 1)

    async def work(repository: Repository) -> None:
        watching = asyncio.create_task(repository.watch(0.005))
        root.rename(tmp_path / "aside")
        await asyncio.sleep(0.2)
        assert await ask(repository) == 1
        (tmp_path / "aside").rename(root)
        put(root, 2)
        async with asyncio.timeout(20):
            while await ask(repository) != 2:
                await asyncio.sleep(0.01)
        watching.cancel()

    over(root, work)
    assert sum("the repository cannot be read" in one.getMessage() for one in caplog.records) == 1


def test_models_of_the_command_line_come_before_the_repository_s(tmp_path: Path) -> None:
    root = tmp_path / "root"
    put(root, 1)
    file = toys.plus(tmp_path / "own.onnx", 8)

    async def work(repository: Repository) -> None:
        assert repository.names() == ["plus"]
        assert await ask(repository) == 8
        toys.plus(tmp_path / "new.onnx", 9).rename(file)
        await look(repository)
        assert await ask(repository) == 9

    over(root, work, [ModelPath("plus", file)])


def test_counts_go_on_when_a_model_is_replaced(tmp_path: Path) -> None:
    put(tmp_path, 1)

    async def work(repository: Repository) -> None:
        await ask(repository)
        put(tmp_path, 2)
        await look(repository)
        await ask(repository)
        ((name, version, stats),) = repository.totals()
        assert (name, version, stats.success.count) == ("plus", "1", 2)

    over(tmp_path, work)


def test_closing_answers_what_was_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, 1)
    gate, reached, slow = held_runs()

    async def work(repository: Repository) -> None:
        monkeypatch.setattr(Served, "run", slow)
        asked = [asyncio.create_task(ask(repository, float(number))) for number in range(10)]
        assert await asyncio.to_thread(reached.wait, 20)
        closing = asyncio.create_task(repository.close())
        await asyncio.sleep(0.01)
        assert not repository.ready
        assert (await fault(ask(repository)))[0] == AWAY
        gate.set()
        await closing
        assert [await one for one in asked] == [number + 1 for number in range(10)]

    over(tmp_path, work)
