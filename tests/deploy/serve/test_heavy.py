"""Bodies that are made to cost much, against a real process: refused as they should be, and nobody else waits."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bench.heavy import Heavy, any_shape, bodies, send, watched
from bench.running import Server, serving

SIZE = 2_000_000
GENEROUS = 1.0  # seconds that liveness may take where other tests run beside
GROWTH = 200.0  # MiB


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("heavy")
    model = f"any={any_shape(folder / 'any.onnx')}"
    with serving(model, "--linger", 0, log=folder / "log") as started:
        yield started


@pytest.mark.parametrize("one", bodies("any", SIZE), ids=lambda one: one.name)
def test_heavy_bodies(server: Server, one: Heavy) -> None:
    found: list[int] = []
    before = server.memory()
    took = watched(server.port, lambda: found.append(send(server.port, one.request)))
    assert found[0] in one.answers
    assert max(took) < GENEROUS
    assert server.memory() - before < GROWTH
