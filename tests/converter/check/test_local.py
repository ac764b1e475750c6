"""The local error of an engine: what is held against exact arithmetic on its own values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from senet_convert.converter.check.compare import Check, Subject, compare
from senet_convert.converter.check.local import GIVEN, WIDE, judged_locally, part
from senet_convert.converter.check.tolerance import FACTOR, FLOOR, GENERIC, ONNX, Judged, judged
from senet_convert.converter.export.onnx import all_blobs, export
from senet_convert.converter.graph.graph import Graph
from senet_convert.converter.runner import lower
from tests.nets import write

Values = dict[str, NDArray[np.float32]]

DATA = 'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 8 dim: 6 dim: 6 } } }\n'
CANCEL = """layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
        convolution_param { num_output: 8 kernel_size: 3 } }
layer { name: "fc" type: "InnerProduct" bottom: "conv" top: "fc" inner_product_param { num_output: 2 } }
"""
# What float32 leaves of `far` is its rounding, of which the gates are made; `conv` reads what they let through.
GATED = """layer { name: "far" type: "Power" bottom: "data" top: "far" power_param { scale: 3 shift: 100000 } }
layer { name: "near" type: "Power" bottom: "far" top: "near" power_param { shift: -100000 } }
layer { name: "gate" type: "Sigmoid" bottom: "near" top: "gate" }
layer { name: "gated" type: "Eltwise" bottom: "gate" bottom: "data" top: "gated" eltwise_param { operation: PROD } }
layer { name: "conv" type: "Convolution" bottom: "gated" top: "conv"
        convolution_param { num_output: 8 kernel_size: 3 bias_term: false } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
"""
X = np.random.default_rng(1).normal(0, 1, (2, 8, 6, 6)).astype(np.float32)


def graph(folder: Path, text: str) -> Graph:
    """Of outputs that nearly cancel, where there is an `fc`, so that its budget is wide."""
    found = write(folder, DATA + text).graph()
    arrays = dict(found.accounts.arrays)
    if "fc/weight" in arrays:
        weight = np.array(arrays["fc/weight"])
        weight[:, 1::2] = -weight[:, ::2]
        arrays["fc/weight"] = weight
    return with_arrays(found, arrays)


def with_arrays(one: Graph, arrays: Mapping[str, NDArray[np.float32]]) -> Graph:
    return replace(one, accounts=replace(one.accounts, arrays=arrays))


def with_one_weight_off(one: Graph, key: str, by: float) -> Graph:
    weight = np.array(one.accounts.arrays[key])
    weight.flat[np.abs(weight).argmax()] *= np.float32(1 + by)
    return with_arrays(one, {**one.accounts.arrays, key: weight})


def run(built: Graph, x: NDArray[np.float32] = X) -> Values:
    with torch.inference_mode():
        return {value: top.numpy() for value, top in lower(built).steps(torch.from_numpy(x))}


def judge(built: Graph, values: Values, x: NDArray[np.float32] = X) -> dict[str, Judged]:
    found = judged(lower(built), [torch.from_numpy(x)], {ONNX: values}, ())
    return found | judged_locally(lower(built), ONNX, {"data": x, **values}, found)


def faults(found: Mapping[str, Judged]) -> list[str]:
    return [fault for item in found.values() for fault in item.faults.values()]


def test_a_fault_behind_gates_of_rounding_is_found(tmp_path: Path) -> None:
    """Its effect is far less than what the gates' errors make of the same blob."""
    built = graph(tmp_path, GATED)
    assert faults(judge(built, run(built))) == []
    values = run(with_one_weight_off(built, "conv/weight", 1e-3))
    found = judge(built, values)
    item = found[built.blobs["conv"]].check
    assert item.errors[ONNX] < item.budget / 4, "the case does not show the problem"
    (fault,) = faults(found)
    assert f"blob 'conv' of layer 'relu': {ONNX} is off by" in fault
    assert "of the largest value from what its own values above make" in fault
    assert item.over() == [ONNX]


def test_the_check_finds_it_in_the_onnx_file(tmp_path: Path) -> None:
    built = graph(tmp_path, GATED)

    def check(exported: Graph) -> Check:
        path = tmp_path / "all.onnx"
        export(exported, outputs=all_blobs(built)).write(path)
        runner = lower(built)
        return compare(Subject(built, runner, None, runner, path, path), {"data": X}, "random values")

    assert check(built).passed
    found = check(with_one_weight_off(built, "conv/weight", 1e-3))
    assert not found.passed
    assert found.first_divergence == "layer 'relu', blob 'conv' (onnxruntime)"


def test_a_fault_of_a_sum_that_cancels_is_found(tmp_path: Path) -> None:
    built, x = graph(tmp_path, CANCEL), X + np.float32(100)
    values = run(built, x)
    found = judge(built, values, x)
    assert faults(found) == []
    check = found["fc"].check
    off = (check.local[ONNX].budget + check.budget) / 2
    assert 2 * check.errors[ONNX] < check.local[ONNX].budget < 0.6 * check.budget
    found = judge(built, {**values, "fc": values["fc"] + np.float32(off * check.scale)}, x)
    (fault,) = faults(found)
    assert f"layer 'fc': {ONNX} is off by" in fault


def test_errors_of_the_bottoms_are_no_faults_of_the_layer(tmp_path: Path) -> None:
    """They are judged where they come from."""
    built, x = graph(tmp_path, CANCEL), X + np.float32(100)
    values = run(built, x)
    check = judge(built, values, x)["conv"].check
    values["conv"] = values["conv"] + np.float32(0.5 * check.budget * check.scale)
    weight, bias = (torch.from_numpy(built.accounts.arrays[key]) for key in built.accounts.keys["fc"])
    values["fc"] = (torch.from_numpy(values["conv"]).flatten(1) @ weight.T + bias).numpy()
    assert faults(judge(built, values, x)) == []


def test_only_wide_budgets_ask_for_it(tmp_path: Path) -> None:
    built = graph(tmp_path, GATED)
    found = judge(built, run(built))
    for item in found.values():
        of_plain = max(FLOOR, FACTOR * item.check.errors[GENERIC])
        assert (ONNX in item.check.local) == (item.check.budget > WIDE * of_plain)
    assert {ONNX in item.check.local for item in found.values()} == {True, False}
    conv = found[built.blobs["conv"]].check
    assert conv.local[ONNX].budget < conv.budget / 10


def test_a_part_reads_what_is_given_next_above(tmp_path: Path) -> None:
    built = graph(tmp_path, GATED)
    conv = built.blobs["conv"]
    found = part(built, {"data", "far", "near", "gate", "gated", conv}, [conv, "gate"])
    assert [node.name for node in found.nodes] == ["gate", "conv", "relu"]
    assert sorted(found.inputs) == [f"{GIVEN}gated", f"{GIVEN}near"]
    assert set(found.accounts.arrays) == {"conv/weight"}
    whole = part(built, {"data"}, [conv])
    assert [node.name for node in whole.nodes] == [node.name for node in built.nodes]
    assert whole.inputs == (f"{GIVEN}data",)


THRESHOLD = """layer { name: "t" type: "Threshold" bottom: "data" top: "t" threshold_param { threshold: 0.5 } }
layer { name: "late" type: "Power" bottom: "t" top: "late" power_param { scale: 2 } }
"""


@pytest.mark.parametrize(("given", "kept"), [({"data"}, []), ({"data", "t"}, ["late"])])
def test_nothing_is_said_behind_a_decision_that_is_not_given(tmp_path: Path, given: set[str], kept: list[str]) -> None:
    built = graph(tmp_path, THRESHOLD)
    found = part(built, given, ["t", "late"])
    assert [node.name for node in found.nodes] == kept
    assert list(found.blobs) == kept


def test_a_sum_of_inputs_may_be_off_by_the_rounding_of_each(tmp_path: Path) -> None:
    """Of a large one that has no weight nothing comes down."""
    text = 'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 2 } } }\n'
    text += 'layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc"\n'
    text += "        inner_product_param { num_output: 1 bias_term: false } }\n"
    built = with_arrays(write(tmp_path, text).graph(), {"fc/weight": np.array([[0, 1]], np.float32)})
    x = np.array([[1000, 1]], np.float32)
    assert judged(lower(built), [torch.from_numpy(x)], {}, ())["fc"].check.budget == FLOOR
