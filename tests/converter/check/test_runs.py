from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from senet_convert.converter.check import runs as room
from senet_convert.converter.check.compare import Check, Subject, compare
from senet_convert.converter.check.runs import FewValues, Step, lockstep
from senet_convert.converter.export.onnx import all_blobs, export
from senet_convert.converter.graph.graph import Graph
from senet_convert.converter.layers.base import ULP
from senet_convert.converter.runner import lower
from tests.nets import INPUT, SE_NET, write

SUM = (
    'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3000 } } }\n'
    'layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc"\n'
    "        inner_product_param { num_output: 1 bias_term: false } }\n"
    'layer { name: "scaled" type: "Power" bottom: "fc" top: "scaled" power_param { scale: 100 shift: 1 } }\n'
)


def cancelling(folder: Path, seed: int) -> tuple[Graph, dict[str, np.ndarray]]:
    """One sum of 3000 products that nearly cancel."""
    graph = write(folder, SUM).graph()
    x = np.random.default_rng(seed).normal(0, 1, (1, 3000)).astype(np.float32)
    w = graph.accounts.arrays["fc/weight"].astype(np.float64)
    x[0, -1] -= np.float32((w @ x.T.astype(np.float64)).item() / w[0, -1])
    return graph, {"data": x}


def check(folder: Path, graph: Graph, inputs: dict[str, np.ndarray], exported: Graph | None = None) -> Check:
    path = folder / "all.onnx"
    export(exported or graph, outputs=all_blobs(graph)).write(path)
    runner = lower(graph)
    return compare(Subject(graph, runner, None, runner, path, path), inputs, "a sum that cancels")


def test_a_sum_that_cancels_is_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cases = [cancelling(tmp_path, seed) for seed in range(30)]
    assert all(check(tmp_path, *case).passed for case in cases)
    monkeypatch.setattr(room, "FEW", 0)
    monkeypatch.setattr(room, "_broken", lambda _: False)  # what the third run makes of the inputs may be enough too
    assert not all(check(tmp_path, *case).passed for case in cases), "the case does not show the problem"


@pytest.mark.parametrize("seed", range(5))
def test_a_wrong_weight_in_a_sum_that_cancels_is_found(tmp_path: Path, seed: int) -> None:
    graph, inputs = cancelling(tmp_path, seed)
    w = graph.accounts.arrays["fc/weight"].copy()
    w[0, np.abs(inputs["data"]).argmax()] *= np.float32(1.01)
    wrong = replace(graph, accounts=replace(graph.accounts, arrays={**graph.accounts.arrays, "fc/weight": w}))
    found = check(tmp_path, graph, inputs, wrong)
    assert found.first_divergence is not None
    assert found.first_divergence.startswith("layer 'fc', blob 'fc' (onnxruntime)")


def test_blobs_of_many_values_have_no_errors_drawn(tmp_path: Path) -> None:
    graph = write(tmp_path, SE_NET).graph()
    runner = lower(graph)
    few = FewValues(runner)
    x = torch.randn(2, 3, 12, 10, generator=torch.Generator().manual_seed(0))
    for step in lockstep(runner, [x]):
        drawn = few.error(step.value, step.exact)
        assert (drawn > 0) == (step.exact.size < room.FEW and step.value != "data")
        few.keep(step.value, step.exact, 1e-6)


def test_the_float32_runs_follow_what_the_exact_one_decides(tmp_path: Path) -> None:
    text = INPUT + 'layer { name: "t" type: "Threshold" bottom: "data" top: "t" threshold_param { threshold: 0.5 } }\n'
    text += 'layer { name: "late" type: "Power" bottom: "t" top: "late" power_param { scale: 2 } }\n'
    runner = lower(write(tmp_path, text).graph())
    x = torch.rand(2, 3, 12, 10, generator=torch.Generator().manual_seed(0))
    steps = {step.value: step for step in lockstep(runner, [x], lambda value, exact: 1 - exact)}
    for run in ("exact", "plain", "rounded"):
        np.testing.assert_array_equal(getattr(steps["t"], run), (x.numpy() <= 0.5).astype(float))
    np.testing.assert_array_equal(steps["late"].plain, 2.0 * (x.numpy() <= 0.5))
    assert np.abs(steps["late"].rounded - steps["late"].plain).max() < 1e-6
    assert [steps["t"].exact.dtype, steps["t"].plain.dtype] == [np.float64, np.float32]


GATES = """layer { name: "sum" type: "Convolution" bottom: "data" top: "sum"
        convolution_param { num_output: 3 kernel_size: 1 bias_term: false } }
layer { name: "gate" type: "Sigmoid" bottom: "sum" top: "gate" }
layer { name: "gated" type: "Eltwise" bottom: "gate" bottom: "sum" top: "gated" eltwise_param { operation: PROD } }
"""


def inherited(tmp_path: Path, weights: float) -> dict[str, Step]:
    """The steps of a network whose gates are shut, but for one value that is near 0 where sums cancel."""
    module = lower(write(tmp_path, INPUT + GATES).graph())
    with torch.no_grad():
        for weight in module.parameters():
            weight.fill_(weights)
    x = torch.full((2, 3, 12, 10), -1.0)
    x[0, :, 0, 0] = torch.tensor([1.1, -0.7, -0.4000001])  # of very large numbers only their rounding is left
    return {step.value: step for step in lockstep(module, [x])}


def test_a_pointwise_layer_inherits_its_bottoms_error_through_its_steepness(tmp_path: Path) -> None:
    """The gate is anything between 0 and 1 there, and every engine right: two runs alone may not show it."""
    steps = inherited(tmp_path, 1e7)
    bottom = float(np.abs(steps["sum"].plain - steps["sum"].exact).max())
    assert bottom > 0.01
    x = float(steps["sum"].exact[0, 0, 0, 0])
    steepest = max(abs(sigmoid(x + side) - sigmoid(x)) for side in (bottom, -bottom))
    assert steps["gate"].inherited == pytest.approx(steepest, rel=1e-6)
    assert np.abs(steps["gate"].rounded - steps["gate"].exact).max() > steepest / 4


def test_what_many_values_feel_is_left_to_the_runs(tmp_path: Path) -> None:
    module = lower(write(tmp_path, INPUT + GATES).graph())
    x = torch.randn(2, 3, 12, 10, generator=torch.Generator().manual_seed(0))
    steps = {step.value: step for step in lockstep(module, [x])}
    assert steps["gate"].inherited > 0
    assert np.abs(steps["gate"].rounded - steps["gate"].exact).max() < 2 * steps["gate"].inherited


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_inputs_are_rounded_once_more_unless_they_are_whole_numbers(tmp_path: Path) -> None:
    """A sum of them may cancel too, and all that is computed from it share what its rounding makes."""
    module = lower(write(tmp_path, INPUT + GATES).graph())
    x = torch.rand(2, 3, 12, 10, generator=torch.Generator().manual_seed(0))
    for given, moved in ((x, True), ((255 * x).round(), False)):
        first = next(step for step in lockstep(module, [given]) if step.value == "data")
        np.testing.assert_array_equal(first.plain, first.exact)
        assert (first.rounded != first.exact).any() == moved
        np.testing.assert_allclose(first.rounded, first.exact, rtol=2 * ULP)


def test_what_a_sigmoid_is_approximated_to_is_multiplied_by_a_swish(tmp_path: Path) -> None:
    text = INPUT + 'layer { name: "swish" type: "Swish" bottom: "data" top: "swish" }\n'
    module = lower(write(tmp_path, text).graph())
    steps = {step.value: step for step in lockstep(module, [torch.full((2, 3, 12, 10), -9.0)])}
    assert steps["swish"].inherited == pytest.approx(9 * ULP)
