"""What the numbers of a report mean; that its keys are documented says test_report_docs.py."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from senet_convert.converter.check.compare import Check
from senet_convert.converter.check.tolerance import ONNX, REFERENCE, BlobCheck
from senet_convert.converter.check.written_weights import Landed
from senet_convert.converter.export.onnx import export
from senet_convert.converter.graph.build import build
from senet_convert.converter.graph.graph import Graph
from senet_convert.converter.report import report
from senet_convert.deploy.labels.classes import Classes
from tests.nets import INPUT, SE_NET, definition, write

CONV = 6 * 3 * 3 * 3  # one value of each
SHARED = INPUT + "".join(
    f'layer {{ name: "{name}" type: "InnerProduct" bottom: "data" top: "{name}" param {{ name: "w" }}\n'
    "inner_product_param { num_output: 4 } }\n"
    for name in "ab"
)


@pytest.fixture
def graph(tmp_path: Path) -> Graph:
    return write(tmp_path).graph()


def blob(name: str, errors: dict[str, float], budget: float = 2e-6) -> BlobCheck:
    return BlobCheck(name, "layer", (2, 7), 3.0, budget, errors, max(budget, 5e-5), nonfinite=1)


def made(graph: Graph, check: Check | None, *weights: Landed) -> dict[str, Any]:
    loaded = SimpleNamespace(graph=graph, match=None)
    found = report.make((), loaded, None, Classes(), export(graph), check, weights, ("a warning",), {})
    json.dumps(found, allow_nan=False)
    return found


def test_parameters_and_statistics_are_told_from_the_definition_alone(tmp_path: Path) -> None:
    """The factor of a BatchNorm is a statistic too: no solver learns it."""
    graph = build(definition(tmp_path, SE_NET), None)
    assert report.parameters(graph) == {
        "conv": (CONV, 0),
        "bn": (0, 6 + 6 + 1),
        "scale": (6 + 6, 0),
        "down": (6 * 6 + 6, 0),
        "fc": (7 * 180 + 7, 0),
    }


def test_shared_weights_count_once(tmp_path: Path) -> None:
    values = 3 * 12 * 10 * 4
    graph = build(definition(tmp_path, SHARED), None)
    assert report.parameters(graph) == {"a": (values + 4, 0), "b": (4, 0)}
    assert report.describe(graph)["learnable_parameters"] == values + 8


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_multiplications_are_counted_per_image(batch: int, tmp_path: Path) -> None:
    found = report.describe(build(definition(tmp_path, SE_NET.replace("dim: 2 dim: 3", f"dim: {batch} dim: 3")), None))
    expected = CONV * 12 * 10 + 6 * 6 + 7 * 180
    assert (found["macs_per_image"], found["gflops_2xmac_per_image"]) == (expected, round(2e-9 * expected, 4))
    assert found["inputs"] == {"data": [batch, 3, 12, 10]}


def test_a_layer_without_weights_has_none_of_its_namesake(tmp_path: Path) -> None:
    graph = build(definition(tmp_path, SE_NET.replace('name: "relu"', 'name: "conv"')), None)
    rows = [row for row in report.layers(graph) if row["name"] == "conv"]
    assert [(row["type"], row["learnable_parameters"]) for row in rows] == [("Convolution", CONV), ("ReLU", 0)]


def test_errors_stand_with_the_layer_that_leaves_a_blob_as_it_is(graph: Graph) -> None:
    check = Check("x", (ONNX,), (blob("conv", {ONNX: 1e-6}), blob("prob", {ONNX: 1e-5, REFERENCE: 1e-5})))
    rows = {row["name"]: row["errors"] for row in report.layers(graph, check)}
    assert {name for name, errors in rows.items() if errors} == {"relu", "prob"}
    (inner,), (last,) = rows["relu"], rows["prob"]
    assert (inner["blob"], inner["over_budget"], inner["reference_budget"]) == ("conv", [], None)
    assert (last["engines"], last["over_budget"]) == ({ONNX: 1e-5, REFERENCE: 1e-5}, [ONNX])
    assert (last["budget"], last["reference_budget"], last["nonfinite_values"]) == (2e-6, 5e-5, 1)
    assert not any("errors" in row for row in report.layers(graph))


def test_the_verdict_is_on_values_and_weights(graph: Graph) -> None:
    good, bad = Landed("model.onnx", 9, 1000), Landed("model.safetensors", 9, 1000, ("fc.weight differs",))
    holds = Check("x", (ONNX,), (blob("prob", {ONNX: 1e-6}),))
    fails = Check("x", (ONNX,), (blob("prob", {ONNX: np.inf}),), faults=("prob is off",))
    assert (made(graph, None)["verdict"], made(graph, None)["check"]) == ("unchecked", None)
    assert (made(graph, holds, good)["verdict"], made(graph, holds, good)["faults"]) == ("passed", [])
    lost = made(graph, holds, good, bad)
    assert (lost["verdict"], lost["faults"]) == ("failed", ["fc.weight differs"])
    assert [file["bit_exact"] for file in lost["weights"]["files"]] == [True, False]
    both = made(graph, fails, bad)
    assert (both["verdict"], both["faults"]) == ("failed", ["prob is off", "fc.weight differs"])


def test_what_is_not_finite_is_null(graph: Graph) -> None:
    found = made(graph, Check("x", (ONNX,), (blob("fc", {ONNX: 1e-6}), blob("prob", {ONNX: np.inf}))))
    assert found["check"]["worst"][ONNX] == {"blob": "prob", "error": None, "budget": 2e-6, "of_budget": None}
