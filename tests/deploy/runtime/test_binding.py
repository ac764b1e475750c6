from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from senet_convert.deploy.runtime.binding import Binding

BATCH = np.random.default_rng(0).normal(0, 50, (3, 3, 32, 32)).astype(np.float32)


@pytest.fixture(scope="module")
def session(bundle: Path) -> ort.InferenceSession:
    return ort.InferenceSession(str(bundle / "model.onnx"), providers=["CPUExecutionProvider"])


def plain(session: ort.InferenceSession, batch: np.ndarray) -> np.ndarray:
    (found,) = session.run(["prob"], {"data": batch})
    return np.asarray(found)


def test_every_run_computes_its_own_feeds(session: ort.InferenceSession) -> None:
    binding = Binding(session, {"data": BATCH}, ["prob"], "cpu")
    for batch in (BATCH / 2, BATCH, np.asfortranarray(BATCH * 2)):
        assert np.array_equal(binding.run({"data": batch})["prob"], plain(session, np.ascontiguousarray(batch)))


def test_the_buffers_are_not_the_callers_arrays(session: ort.InferenceSession) -> None:
    """The first feeds are as they were when later ones have gone through the same buffers."""
    first = BATCH.copy()
    binding = Binding(session, {"data": first}, ["prob"], "cpu")
    binding.run({"data": first})
    binding.run({"data": BATCH * 2})
    assert np.array_equal(first, BATCH)


def test_results_outlive_the_next_run(session: ort.InferenceSession) -> None:
    binding = Binding(session, {"data": BATCH}, ["prob"], "cpu")
    found = binding.run({"data": BATCH})["prob"]
    binding.run({"data": BATCH * 2})
    assert np.array_equal(found, plain(session, BATCH))
    found[:] = 0  # the caller may write to it
    assert np.array_equal(binding.run({"data": BATCH})["prob"], plain(session, BATCH))
