"""Models and a server that the gRPC tests share."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from senet_convert.deploy.runtime.session import Run
from senet_convert.deploy.serve.models.model_paths import ModelPath
from senet_convert.deploy.serve.models.served import Array, Served
from senet_convert.deploy.serve.settings.settings import Settings

from ... import toys
from .live import Live


@pytest.fixture(scope="session")
def echo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of every datatype."""
    return toys.echo(tmp_path_factory.mktemp("echo") / "echo.onnx")


@pytest.fixture(scope="session")
def plus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two versions: y = x + 1 and y = x + 2."""
    folder = tmp_path_factory.mktemp("plus")
    for version in (1, 2):
        toys.plus(folder / str(version) / "model.onnx", version)
    return folder


@pytest.fixture(scope="module")
def live(bundle: Path, echo: Path, plus: Path) -> Iterator[Live]:
    """A server with the demo and both toys."""
    models = (ModelPath("digits", bundle), ModelPath("echo", echo), ModelPath("plus", plus))
    with Live(Settings(models=models, threads=1)) as server:
        yield server


class Gate:
    """Runs of every model stop here while it is closed."""

    def __init__(self) -> None:
        self._open = threading.Event()
        self._open.set()
        self.reached = threading.Event()

    def close(self) -> None:
        self._open.clear()

    def open(self) -> None:
        self._open.set()

    def wait(self) -> None:
        self.reached.set()
        assert self._open.wait(20)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    found, run = Gate(), Served.run

    def gated(
        self: Served, instance: int, feeds: Mapping[str, Array], outputs: Sequence[str], one: Run
    ) -> dict[str, Array]:
        found.wait()
        return run(self, instance, feeds, outputs, one)

    monkeypatch.setattr(Served, "run", gated)
    yield found
    found.open()
