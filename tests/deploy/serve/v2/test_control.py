"""Loading and unloading on request: who may, and what is said."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from senet_convert.deploy.serve.errors import BAD, FORBIDDEN, UNKNOWN, RequestError
from senet_convert.deploy.serve.settings.settings import Settings
from senet_convert.deploy.serve.state import Hub
from senet_convert.deploy.serve.v2 import control

from .. import toys


def over(root: Path, work: Callable[[Hub], Awaitable[None]], word: str = "auto") -> None:
    toys.plus(root / "plus" / "model.onnx", 1)

    async def main() -> None:
        hub = Hub(Settings(repository=root, threads=1, control=word))
        await hub.repository.start()
        await work(hub)
        await hub.repository.close()

    asyncio.run(main())


async def fault(work: Awaitable[None]) -> tuple[int, str]:
    with pytest.raises(RequestError) as caught:
        await work
    return caught.value.status, caught.value.message


def test_unload_and_load(tmp_path: Path) -> None:
    async def work(hub: Hub) -> None:
        await control.unload(hub, "plus", ["unload_dependents"])
        assert hub.repository.index()[0]["state"] == "UNAVAILABLE"
        await control.load(hub, "plus")
        assert hub.repository.index()[0]["state"] == "READY"
        assert (await fault(control.load(hub, "nix")))[0] == UNKNOWN
        assert (await fault(control.unload(hub, "nix")))[0] == UNKNOWN

    over(tmp_path, work)


def test_parameters_that_would_change_a_model_are_refused(tmp_path: Path) -> None:
    async def work(hub: Hub) -> None:
        status, message = await fault(control.load(hub, "plus", ["file:1/model.onnx", "config"]))
        assert status == BAD
        assert message.endswith("parameters are not supported: config, file:1/model.onnx")
        assert (await fault(control.unload(hub, "plus", ["force"])))[0] == BAD

    over(tmp_path, work)


def test_a_model_that_cannot_be_loaded_is_the_request_s_fault(tmp_path: Path) -> None:
    async def work(hub: Hub) -> None:
        (tmp_path / "plus" / "model.onnx").write_bytes(b"nonsense")
        status, message = await fault(control.load(hub, "plus"))
        assert status == BAD
        assert message.startswith("model 'plus' cannot be loaded: ")
        assert hub.repository.get("plus")

    over(tmp_path, work)


def test_it_can_be_switched_off(tmp_path: Path) -> None:
    async def work(hub: Hub) -> None:
        assert (await fault(control.load(hub, "plus")))[0] == FORBIDDEN
        assert (await fault(control.unload(hub, "plus")))[0] == FORBIDDEN
        assert hub.repository.get("plus")

    over(tmp_path, work, "off")
