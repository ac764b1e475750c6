from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch

from senet_convert.converter.check import tolerance as room
from senet_convert.converter.check.runs import lockstep
from senet_convert.converter.check.tolerance import (
    AGAIN,
    DELIVERED,
    FACTOR,
    FLOOR,
    GENERIC,
    ONNX,
    REFERENCE,
    REFERENCE_FLOOR,
    judged,
)
from senet_convert.converter.runner import GraphModule, lower
from tests.nets import INPUT, write

TEXT = INPUT + (
    'layer { name: "large" type: "Exp" bottom: "data" top: "large" exp_param { scale: 100 } }\n'
    'layer { name: "half" type: "Power" bottom: "data" top: "half" power_param { scale: 0.5 } }\n'
)
X = np.random.default_rng(0).normal(0, 1, (2, 3, 12, 10)).astype(np.float32)


@pytest.fixture
def runner(tmp_path: Path) -> GraphModule:
    return lower(write(tmp_path, TEXT).graph())


def test_what_float32_cannot_hold_is_left_out(runner: GraphModule) -> None:
    """exp(100) is more than float32 holds, in Caffe too: the budget of a blob stays finite."""
    found = judged(runner, [torch.from_numpy(X)], {}, ())["large"].check
    assert found.nonfinite == (X.astype(np.float64) * 100 > np.log(np.finfo(np.float32).max)).sum() > 0
    assert np.isfinite(found.budget)
    assert found.over() == []


def test_faults_are_said_by_engine(runner: GraphModule) -> None:
    values = X * np.float32(0.5)
    engines = {
        ONNX: {"half": values + np.float32(1e-3)},
        DELIVERED: {"half": values[:1]},
        REFERENCE: {"half": values + np.float32(1e-5)},
    }
    found = judged(runner, [torch.from_numpy(X)], engines, ("half",))["half"]
    assert set(found.check.errors) == {GENERIC, ONNX, REFERENCE}  # what is delivered is no engine of its own
    assert (found.check.budget, found.check.reference_budget) == (FLOOR, REFERENCE_FLOOR)
    assert found.check.over() == [ONNX]
    assert found.faults[DELIVERED] == "output 'half' of the ONNX file gives shape 1x3x12x10, the graph 2x3x12x10"
    assert "of layer 'half': onnxruntime is off by" in found.faults[ONNX]
    np.testing.assert_array_equal(found.exact, X.astype(np.float64) * 0.5)


def test_one_engine_as_another_truth_judges_it(runner: GraphModule) -> None:
    values = X * np.float32(0.5)
    wrong = judged(runner, [torch.from_numpy(X)], {ONNX: {"half": values + np.float32(1)}}, ())["half"]
    right = judged(runner, [torch.from_numpy(X)], {ONNX: {"half": values}}, ())["half"]
    assert wrong.check.over() == [ONNX]
    found = wrong.with_engine(ONNX, replace(right, check=replace(right.check, budget=1e-3)))
    assert (found.faults, found.check.over(), found.check.budget) == ({}, [], 1e-3)
    assert found.check.errors[GENERIC] == wrong.check.errors[GENERIC]


def test_a_float32_run_that_overflows_is_a_fault_and_allows_nothing(tmp_path: Path) -> None:
    text = INPUT + (
        'layer { name: "big" type: "Power" bottom: "data" top: "big" power_param { scale: 1e25 } }\n'
        'layer { name: "tiny" type: "Power" bottom: "data" top: "tiny" power_param { scale: 0 shift: 1e-37 } }\n'
        'layer { name: "twice" type: "Eltwise" bottom: "big" bottom: "big" top: "twice"\n'
        "        eltwise_param { operation: PROD } }\n"
        'layer { name: "small" type: "Scale" bottom: "twice" bottom: "tiny" top: "small" scale_param { axis: 0 } }\n'
    )
    runner = lower(write(tmp_path, text).graph())
    found = judged(runner, [torch.from_numpy(X)], {}, ())["small"]
    assert found.check.budget == FLOOR
    assert "generic float32 is off by inf" in found.faults[GENERIC]


SATURATED = INPUT + (
    'layer { name: "far" type: "Power" bottom: "data" top: "far" power_param { scale: 100 } }\n'
    'layer { name: "near" type: "Power" bottom: "far" top: "near" power_param { shift: 100 } }\n'
    'layer { name: "gate" type: "Sigmoid" bottom: "near" top: "gate" }\n'
)


def test_two_lucky_runs_are_not_the_last_word(tmp_path: Path) -> None:
    """Of a saturated sigmoid one value counts here; how far float32 is off there takes more runs to tell."""
    runner = lower(write(tmp_path, SATURATED).graph())
    gate = runner.graph.blobs["gate"]
    for place in np.ndindex(1, 1, 12, 10):  # until the two runs are lucky
        x = np.full(X.shape, 3, np.float32)
        x[place] = -1.001
        tensors = [torch.from_numpy(x)]
        found = judged(runner, tensors, {}, ("gate",))["gate"]
        steps = [step for seed in range(1, AGAIN + 1) for step in lockstep(runner, tensors, seed=seed)]
        most = FACTOR * max(np.abs(step.rounded - step.exact).max() for step in steps if step.value == gate)
        if 1.5 * found.check.budget < most:
            break
    else:
        pytest.fail("never lucky")
    for error, over in [((found.check.budget + most) / 2, []), (most * 1.1, [ONNX]), (1e-3, [ONNX])]:
        assert found.exact is not None
        off = found.exact.copy()
        off[place] += error
        again = judged(runner, tensors, {ONNX: {"gate": off}}, ())["gate"]
        assert again.check.over() == over, error
        assert list(again.faults) == over


@pytest.mark.parametrize(("off", "over"), [(1e-3, [ONNX]), (0.0, [])])
def test_the_rest_of_a_blob_counts_where_some_values_are_not_finite(
    runner: GraphModule, off: float, over: list[str]
) -> None:
    tensors = [torch.from_numpy(X)]
    right = judged(runner, tensors, {}, ("large",))["large"]
    assert right.check.nonfinite > 0
    assert right.exact is not None
    given = right.exact.copy()
    largest = np.abs(given) == right.check.scale
    assert largest.sum() == 1
    given[largest] *= 1 + off
    found = judged(runner, tensors, {ONNX: {"large": given}}, ())["large"].check
    assert found.over() == over
    assert found.errors[ONNX] == pytest.approx(off)


@pytest.mark.parametrize(("off", "runs"), [(1e-6, 1), (5e-5, 1 + AGAIN), (1e-3, 1)])
def test_float32_is_measured_again_only_where_that_can_help(
    runner: GraphModule, off: float, runs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No run widens a budget to an error that is far off, and each costs as much as the check itself."""
    values = X * np.float32(0.5)
    given = values + np.float32(off) * np.abs(values).max()
    counted = Mock(wraps=lockstep)
    monkeypatch.setattr(room, "lockstep", counted)
    judged(runner, [torch.from_numpy(X)], {ONNX: {"half": given}}, ())
    assert counted.call_count == runs


FAR = INPUT + (
    'layer { name: "far" type: "Power" bottom: "data" top: "far" power_param { shift: 100000 } }\n'
    'layer { name: "near" type: "Power" bottom: "far" top: "near" power_param { shift: -100000 } }\n'
)


def test_what_one_more_rounding_makes_counts_in_full(tmp_path: Path) -> None:
    """Whole numbers have no error in a plain run; an engine that rounds otherwise is right all the same."""
    runner = lower(write(tmp_path, FAR).graph())
    x = np.arange(X.size, dtype=np.float32).reshape(X.shape)
    far = np.nextafter(x + np.float32(1e5), np.float32(np.inf))
    values = {"far": far, "near": far - np.float32(1e5)}
    found = judged(runner, [torch.from_numpy(x)], {ONNX: values}, ())
    assert found["near"].check.errors == {GENERIC: 0.0, ONNX: pytest.approx(1e5 * 2**-23 / x.max(), rel=0.5)}
    assert [item.check.over() for item in found.values()] == [[], []]


def test_what_float32_flushes_to_0_is_no_error(tmp_path: Path) -> None:
    text = (
        INPUT
        + 'layer { name: "tiny" type: "Power" bottom: "data" top: "tiny" power_param { scale: 1e-21 power: 2 } }\n'
    )
    runner = lower(write(tmp_path, text).graph())
    found = judged(runner, [torch.from_numpy(X)], {ONNX: {"tiny": np.zeros_like(X)}}, ())["tiny"].check
    assert 0 < found.scale < np.finfo(np.float32).tiny
    assert found.over() == []
