"""Loading and unloading on request: who may, and what is said."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from senet_convert.deploy.serve.errors import BAD, FORBIDDEN, UNKNOWN, ServeError
from senet_convert.deploy.serve.http.statuses import status
from senet_convert.deploy.serve.settings.settings import Settings
from senet_convert.deploy.serve.state import ServerState
from senet_convert.deploy.serve.v2 import control

from .. import toys


def over(root: Path, work: Callable[[ServerState], Awaitable[None]], word: str = "auto") -> None:
    toys.plus(root / "plus" / "model.onnx", 1)

    async def main() -> None:
        state = ServerState(Settings(repository=root, threads=1, control=word))
        await state.repository.start()
        await work(state)
        await state.repository.close()

    asyncio.run(main())


async def fault(work: Awaitable[None]) -> tuple[int, str]:
    with pytest.raises(ServeError) as caught:
        await work
    return status(caught.value), caught.value.message


def test_unload_and_load(tmp_path: Path) -> None:
    async def work(state: ServerState) -> None:
        await control.unload(state, "plus", ["unload_dependents"])
        assert state.repository.index()[0]["state"] == "UNAVAILABLE"
        await control.load(state, "plus")
        assert state.repository.index()[0]["state"] == "READY"
        assert (await fault(control.load(state, "nix")))[0] == UNKNOWN
        assert (await fault(control.unload(state, "nix")))[0] == UNKNOWN

    over(tmp_path, work)


def test_parameters_that_would_change_a_model_are_refused(tmp_path: Path) -> None:
    async def work(state: ServerState) -> None:
        status, message = await fault(control.load(state, "plus", ["file:1/model.onnx", "config"]))
        assert status == BAD
        assert message.endswith("parameters are not supported: config, file:1/model.onnx")
        assert (await fault(control.unload(state, "plus", ["force"])))[0] == BAD

    over(tmp_path, work)


def test_a_model_that_cannot_be_loaded_is_the_request_s_fault(tmp_path: Path) -> None:
    async def work(state: ServerState) -> None:
        (tmp_path / "plus" / "model.onnx").write_bytes(b"nonsense")
        status, message = await fault(control.load(state, "plus"))
        assert status == BAD
        assert message.startswith("model 'plus' cannot be loaded: ")
        assert state.repository.get("plus")

    over(tmp_path, work)


def test_it_can_be_switched_off(tmp_path: Path) -> None:
    async def work(state: ServerState) -> None:
        assert (await fault(control.load(state, "plus")))[0] == FORBIDDEN
        assert (await fault(control.unload(state, "plus")))[0] == FORBIDDEN
        assert state.repository.get("plus")

    over(tmp_path, work, "off")
