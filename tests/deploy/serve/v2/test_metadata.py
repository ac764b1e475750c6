"""What is told of models, in Triton's shape."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest

from senet_convert.deploy.serve.errors import UNKNOWN, ServeError
from senet_convert.deploy.serve.http.statuses import status
from senet_convert.deploy.serve.models.inference import Question, infer
from senet_convert.deploy.serve.models.model_paths import ModelPath
from senet_convert.deploy.serve.settings.settings import Settings
from senet_convert.deploy.serve.state import ServerState
from senet_convert.deploy.serve.v2 import metadata

from .. import toys


def over(folder: Path, work: Callable[[ServerState], Awaitable[None]]) -> None:
    toys.plus(folder / "plus" / "1" / "model.onnx", 1)
    toys.plus(folder / "plus" / "3" / "model.onnx", 3)
    toys.plus(folder / "fixed.onnx", 1, (2, 3))
    models = (ModelPath("plus", folder / "plus"), ModelPath("fixed", folder / "fixed.onnx"))

    async def main() -> None:
        state = ServerState(Settings(models=models, threads=1, max_batch=8))
        await state.repository.start()
        await work(state)
        await state.repository.close()

    asyncio.run(main())


def test_a_model_and_its_versions(tmp_path: Path) -> None:
    async def work(state: ServerState) -> None:
        found = metadata.model(state.repository, "plus")
        assert found == {
            "name": "plus",
            "versions": ["1", "3"],
            "platform": "onnxruntime_onnx",
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}],
            "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 3]}],
        }
        assert metadata.model(state.repository, "plus", "1") == {**found, "versions": ["1"]}
        with pytest.raises(ServeError) as caught:
            metadata.model(state.repository, "nix")
        assert status(caught.value) == UNKNOWN

    over(tmp_path, work)


def test_the_configuration_says_what_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(state: ServerState) -> None:
        found = metadata.config(state.repository, "plus")
        assert found["max_batch_size"] == 8
        assert found["input"] == [{"name": "x", "data_type": "TYPE_FP32", "dims": [3]}]
        assert found["instance_group"] == [{"name": "plus", "count": 1, "kind": "KIND_CPU"}]
        assert found["dynamic_batching"]["preferred_batch_size"] == []
        assert found["dynamic_batching"]["max_queue_delay_microseconds"] == 2000
        assert found["dynamic_batching"]["default_queue_policy"]["default_timeout_microseconds"] == 30_000_000
        fixed = metadata.config(state.repository, "fixed")
        assert fixed["max_batch_size"] == 0
        assert fixed["input"][0]["dims"] == [2, 3]
        assert "dynamic_batching" not in fixed
        monkeypatch.setattr(state.repository.get("plus").served.sessions[0], "provider", "cuda")
        found = metadata.config(state.repository, "plus")
        assert found["instance_group"] == [{"name": "plus", "count": 1, "kind": "KIND_GPU", "gpus": [0]}]
        assert found["dynamic_batching"]["preferred_batch_size"] == [1, 2, 4, 8]

    over(tmp_path, work)


def test_statistics_of_one_of_some_and_of_all(tmp_path: Path) -> None:
    async def work(state: ServerState) -> None:
        for _ in range(2):
            await infer(state.repository, Question("plus", {"x": np.zeros((3, 3), np.float32)}))
        everything = metadata.statistics(state.repository)["model_stats"]
        assert sorted((one["name"], one["version"]) for one in everything) == [
            ("fixed", "1"),
            ("plus", "1"),
            ("plus", "3"),
        ]
        assert [one["version"] for one in metadata.statistics(state.repository, "plus")["model_stats"]] == ["1", "3"]
        (found,) = metadata.statistics(state.repository, "plus", "3")["model_stats"]
        assert (found["inference_count"], found["execution_count"]) == (6, 2)
        assert found["inference_stats"]["success"]["count"] == 2
        assert found["inference_stats"]["cache_hit"] == {"count": 0, "ns": 0}
        assert [(one["batch_size"], one["compute_infer"]["count"]) for one in found["batch_stats"]] == [(3, 2)]
        assert found["last_inference"] > 1_700_000_000_000

    over(tmp_path, work)


def test_readiness_and_the_index(tmp_path: Path) -> None:
    async def work(state: ServerState) -> None:
        assert metadata.model_ready(state, "plus")
        assert metadata.model_ready(state, "plus", "3")
        assert not metadata.model_ready(state, "plus", "2")
        assert not metadata.model_ready(state, "nix")
        await state.repository.unload("fixed")
        assert not metadata.model_ready(state, "fixed")
        assert [(one["name"], one["state"]) for one in metadata.index(state.repository)] == [
            ("fixed", "UNAVAILABLE"),
            ("plus", "READY"),
            ("plus", "READY"),
        ]
        assert {one["name"] for one in metadata.index(state.repository, ready=True)} == {"plus"}
        state.draining = True
        assert not metadata.model_ready(state, "plus")

    over(tmp_path, work)


def test_the_server() -> None:
    found = metadata.server()
    assert found["name"] == "senet-convert"
    assert "binary_tensor_data" in found["extensions"]
