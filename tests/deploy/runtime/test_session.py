from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import permutations
from pathlib import Path
from threading import Barrier, BrokenBarrierError
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from senet_convert.deploy.runtime import providers
from senet_convert.deploy.runtime.binding import Binding
from senet_convert.deploy.runtime.providers import PROVIDERS, Tuning
from senet_convert.deploy.runtime.session import BOUND, Run, Session, newest_opset
from senet_convert.errors import ConvertError

BATCH = np.random.RandomState(0).standard_normal((3, 3, 32, 32)).astype(np.float32) * 50


def lacks(provider: str) -> str:
    """Why a provider cannot be exercised here; empty where it can."""
    if PROVIDERS[provider] not in ort.get_available_providers():
        return f"the installed onnxruntime has no {provider}"
    return "" if provider == "openvino" or Path("/proc/driver/nvidia").exists() else "there is no NVIDIA GPU"


@pytest.fixture(scope="module")
def file(bundle: Path) -> Path:
    return bundle / "model.onnx"


def test_what_a_session_tells(file: Path) -> None:
    session = Session(file, threads=1)
    assert (session.inputs, session.outputs, session.provider, session.threads) == (("data",), ("prob",), "cpu", 1)
    assert session.shapes == {"data": ["batch", 3, 32, 32]}
    assert session.output_shapes == {"prob": ["batch", 10]}
    assert session.metadata["class_order"] == "as the labels given"
    assert session.buckets == ()


def test_options_change_no_result(file: Path) -> None:
    plain = Session(file).run({"data": BATCH})["prob"]
    assert np.allclose(plain.sum(axis=1), 1)
    for other in (Session(file, spin=False), Session(file, arena=False), Session(file, provider="auto")):
        assert np.array_equal(other.run({"data": BATCH}, ["prob"])["prob"], plain)


def test_bound_buffers_give_the_same_and_leave_the_feeds_alone(file: Path) -> None:
    session = Session(file)
    first: np.ndarray[tuple[int, ...], np.dtype[np.float32]] | None = None
    for factor in (1, 0.5, 2):
        feed = BATCH * np.float32(factor)
        before = feed.copy()
        found = session.run_bound({"data": feed}, ["prob"], "cpu")["prob"]
        assert np.array_equal(found, session.run({"data": feed})["prob"])
        assert np.array_equal(feed, before)
        first = found if first is None else first
    assert first is not None
    assert np.array_equal(first, session.run({"data": BATCH})["prob"]), "an output is overwritten by later runs"
    assert session.run_bound({"data": BATCH[:1]}, ["prob"], "cpu")["prob"].shape == (1, 10)


def bind(session: Session, batch: int, names: list[str]) -> dict[str, Any]:
    return session.run_bound({"data": BATCH[:1].repeat(batch, 0)}, names, "cpu")


def test_the_order_of_the_outputs_costs_no_further_buffers(file: Path, tmp_path: Path) -> None:
    network = onnx.load(str(file))
    for name in ("double", "half"):
        factor = onnx.numpy_helper.from_array(np.array([2 if name == "double" else 0.5], np.float32), f"{name}/factor")
        network.graph.initializer.append(factor)
        network.graph.node.append(onnx.helper.make_node("Mul", ["prob", factor.name], [name]))
        value = onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", 10])
        network.graph.output.append(value)
    onnx.save(network, str(tmp_path / "model.onnx"))
    session = Session(tmp_path / "model.onnx")
    expected = session.run({"data": BATCH[:1]})
    for names in permutations(session.outputs):
        found = bind(session, 1, [*names, names[0]])
        assert list(found) == list(names)
        assert all(np.array_equal(found[name], expected[name]) for name in names)
    assert len(session._bindings) == 1


def test_buffers_are_kept_for_the_last_shapes_only(file: Path) -> None:
    session = Session(file)
    for batch in range(1, BOUND + 1):
        bind(session, batch, ["prob"])
    first, second, *_ = session._bindings
    bind(session, 1, ["prob"])
    assert bind(session, BOUND + 1, ["prob"])["prob"].shape == (BOUND + 1, 10)
    assert len(session._bindings) == BOUND
    assert first in session._bindings
    assert second not in session._bindings


def test_buffers_are_used_by_one_run_at_a_time(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both, met = Barrier(2), []
    run = Binding.run

    def slowly(binding: Binding, feeds: dict[str, Any], options: Any) -> dict[str, Any]:
        with suppress(BrokenBarrierError):
            met.append(both.wait(0.3))
        return run(binding, feeds, options)

    monkeypatch.setattr(Binding, "run", slowly)
    session = Session(file)
    feeds: list[np.ndarray] = [BATCH, BATCH / 2]
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda feed: session.run_bound({"data": feed}, ["prob"], "cpu")["prob"], feeds))
    assert met == []
    for feed, given in zip(feeds, found, strict=True):
        assert np.array_equal(given, session.run({"data": feed})["prob"])


@pytest.mark.parametrize(("shape", "bound"), [(["batch", 3, "height", "width"], 0), (["batch", 3, 32, 32], 1)])
def test_buffers_are_kept_where_only_the_batch_is_free(
    shape: list[int | str], bound: int, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = onnx.load(str(file))
    dims = network.graph.input[0].type.tensor_type.shape.dim
    for dim, size in zip(dims, shape, strict=True):
        dim.Clear()
        setattr(dim, "dim_param" if isinstance(size, str) else "dim_value", size)
    onnx.save(network, str(tmp_path / "model.onnx"))
    session = Session(tmp_path / "model.onnx")
    kept: list[str] = []

    def run_bound(feeds: dict[str, Any], names: list[str], device: str, run: Run | None) -> dict[str, Any]:
        kept.append(device)
        return {}

    monkeypatch.setattr(session, "provider", "cuda")
    monkeypatch.setattr(session, "run_bound", run_bound)
    session.run({"data": BATCH})
    assert kept == ["cuda"] * bound


def test_warm_up_runs_the_batch_sizes(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = Session(file)
    seen: list[tuple[int, ...]] = []
    monkeypatch.setattr(session, "run", lambda feeds, run: seen.append(feeds["data"].shape))
    session.warm_up()
    session.warm_up([2, 5])
    assert seen == [(1, 3, 32, 32), (2, 3, 32, 32), (5, 3, 32, 32)]


def test_a_file_that_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no model")
    with pytest.raises(ConvertError, match=r"model\.onnx: onnxruntime .* cannot load it"):
        Session(tmp_path / "model.onnx")


def test_tensorrt_refuses_a_file_that_is_no_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its inputs are looked at before it starts."""
    monkeypatch.setattr(ort, "get_available_providers", lambda: list(PROVIDERS.values()))
    (tmp_path / "model.onnx").write_bytes(b"no model")
    with pytest.raises(ConvertError, match=r"model\.onnx: onnxruntime .* cannot load it"):
        Session(tmp_path / "model.onnx", provider="tensorrt")


def test_tensorrt_is_told_the_shapes_of_a_model_in_memory(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[dict[str, list[Any]]] = []

    def arguments(provider: str, tuning: Tuning, shapes: dict[str, list[Any]], threads: int) -> list[Any]:
        told.append(shapes)
        return ["CPUExecutionProvider"]

    monkeypatch.setattr(ort, "get_available_providers", lambda: list(PROVIDERS.values()))
    monkeypatch.setattr(providers, "arguments", arguments)
    with pytest.raises(ConvertError, match="'tensorrt' did not start"):
        Session(tmp_path / "nowhere.onnx", provider="tensorrt", model=file.read_bytes())
    assert told == [{"data": ["batch", 3, 32, 32]}]


def test_a_provider_that_does_not_start_is_an_error(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """onnxruntime would go on with the CPU: built in, but no driver."""

    class Fallen(ort.InferenceSession):  # type: ignore[misc]
        def __init__(self, path: str, options: object, providers: object) -> None:
            super().__init__(path, options, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(ort, "InferenceSession", Fallen)
    monkeypatch.setattr(ort, "get_available_providers", lambda: list(PROVIDERS.values()))
    with pytest.raises(ConvertError, match="'cuda' did not start"):
        Session(file, provider="cuda")
    assert Session(file, provider="auto").provider == "cpu"


@pytest.mark.parametrize("provider", ["cuda", "tensorrt", "openvino"])
def test_other_providers_compute_the_same(provider: str, file: Path, tmp_path: Path) -> None:
    if reason := lacks(provider):
        pytest.skip(reason)
    session = Session(file, provider=provider, tuning=Tuning(buckets=(1, 4), cache=tmp_path / "engines"))
    session.warm_up()
    assert session.provider == provider
    assert session.buckets == ((1, 4) if provider in providers.GPU else ())
    for feed in (BATCH, BATCH / 2):
        assert np.abs(session.run({"data": feed})["prob"] - Session(file).run({"data": feed})["prob"]).max() < 1e-4


def test_newest_opset() -> None:
    assert newest_opset(17) == 17
    with pytest.raises(ConvertError, match="no opset up to 0"):
        newest_opset(0)
