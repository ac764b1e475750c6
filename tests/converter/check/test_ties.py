"""ArgMax, Threshold, places and detections: what float32's error decides is no fault, what a wrong layer decides is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import ModelProto, numpy_helper

from senet_convert.converter.check.compare import Check, Subject, compare
from senet_convert.converter.check.runs import behind, jumping
from senet_convert.converter.check.ties import Side, exposed, needed
from senet_convert.converter.check.tolerance import DELIVERED, ONNX, REFERENCE
from senet_convert.converter.export.onnx import all_blobs, export
from senet_convert.converter.graph.graph import Graph
from senet_convert.converter.runner import lower, to_tensors
from tests.nets import write

from ..layers.running import network
from ..layers.test_detection_output import given, params

HEAD = 'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 32 dim: 12 dim: 10 } } }\n'
# Two sums of the same 32 products, in two orders: equal but for rounding, and rounding differs by engine.
EQUAL_SUMS = (
    HEAD
    + """
layer { name: "mixed" type: "ShuffleChannel" bottom: "data" top: "mixed" shuffle_channel_param { group: 4 } }
layer { name: "a" type: "Convolution" bottom: "data" top: "a"
        convolution_param { num_output: 1 kernel_size: 1 bias_term: false } }
layer { name: "b" type: "Convolution" bottom: "mixed" top: "b"
        convolution_param { num_output: 1 kernel_size: 1 bias_term: false } }
"""
)
ARGMAX = (
    EQUAL_SUMS
    + """
layer { name: "both" type: "Concat" bottom: "a" bottom: "b" top: "both" }
layer { name: "which" type: "ArgMax" bottom: "both" top: "which" argmax_param { axis: 1 } }
layer { name: "late" type: "Power" bottom: "which" top: "late" power_param { scale: 3 shift: 1 } }
"""
)
THRESHOLD = (
    EQUAL_SUMS
    + """
layer { name: "less" type: "Eltwise" bottom: "a" bottom: "b" top: "less" eltwise_param { coeff: 1 coeff: -1 } }
layer { name: "sign" type: "Threshold" bottom: "less" top: "TOP" threshold_param { threshold: 0 } }
layer { name: "late" type: "Power" bottom: "TOP" top: "late" power_param { scale: 3 shift: 1 } }
"""
)


def equal_sums(folder: Path, text: str) -> Graph:
    """The graph, with weights by which both convolutions compute the same."""
    graph = write(folder, text).graph()
    arrays = dict(graph.accounts.arrays)
    w = arrays["a/weight"]
    arrays["b/weight"] = np.ascontiguousarray(w.reshape(4, 8).T.reshape(w.shape))
    object.__setattr__(graph.accounts, "arrays", arrays)
    return graph


def subject(graph: Graph, folder: Path, change: Callable[[ModelProto], None] = lambda model: None) -> Subject:
    """With `change` made to both ONNX files."""
    paths = folder / "witness.onnx", folder / "model.onnx"
    for path, outputs in zip(paths, (all_blobs(graph), None), strict=True):
        export(graph, outputs=outputs).write(path)
        model = onnx.load(path)
        change(model)
        onnx.save(model, path)
    runner = lower(graph)
    return Subject(graph, runner, None, runner, *paths)


def random(graph: Graph, seed: int = 0) -> dict[str, np.ndarray]:
    dice = np.random.default_rng(seed)
    return {name: dice.normal(0, 1, graph.shapes[name]).astype(np.float32) for name in graph.inputs}


def run(graph: Graph, folder: Path, change: Callable[[ModelProto], None] = lambda model: None, **more: Any) -> Check:
    return compare(subject(graph, folder, change), random(graph), "random values", **more)


@pytest.mark.parametrize(
    "text",
    [ARGMAX, THRESHOLD.replace("TOP", "sign"), THRESHOLD.replace("TOP", "less")],
    ids=["ArgMax", "own", "in place"],
)
def test_near_ties_are_no_faults(tmp_path: Path, text: str) -> None:
    """The delivered file shows neither the decision nor what it is made by; in place not even the witness does."""
    graph = equal_sums(tmp_path, text)
    check = run(graph, tmp_path)
    assert check.passed, check.faults
    assert len(check.ties) == 2  # the witness, and the file that is delivered
    assert all("decides otherwise than exact arithmetic" in tie for tie in check.ties)
    late = next(blob for blob in check.blobs if blob.blob == "late")
    assert late.errors[ONNX] <= late.budget < 1e-5
    assert not list(tmp_path.glob("exposed-*"))


def other_operator(before: str, after: str) -> Callable[[ModelProto], None]:
    def change(model: ModelProto) -> None:
        (node,) = [node for node in model.graph.node if node.op_type == before]
        node.op_type = after

    return change


def moved_threshold(model: ModelProto) -> None:
    (node,) = [node for node in model.graph.node if node.op_type == "Greater"]
    (place,) = [item for item in model.graph.initializer if item.name == node.input[1]]
    place.CopyFrom(numpy_helper.from_array(np.asarray(0.01, np.float32), place.name))


@pytest.mark.parametrize(
    ("text", "change"),
    [
        (ARGMAX, other_operator("ArgMax", "ArgMin")),
        (THRESHOLD.replace("TOP", "sign"), other_operator("Greater", "Less")),
        (THRESHOLD.replace("TOP", "less"), other_operator("Greater", "Less")),
    ],
    ids=["ArgMax", "Threshold", "in place"],
)
def test_a_wrong_decision_is_found_among_near_ties(
    tmp_path: Path, text: str, change: Callable[[ModelProto], None]
) -> None:
    check = run(equal_sums(tmp_path, text), tmp_path, change)
    assert not check.passed
    assert any("output 'late' of the ONNX file is off" in fault for fault in check.faults)
    assert check.first_divergence is not None
    assert ONNX in check.first_divergence


PLAIN = HEAD + (
    'layer { name: "sign" type: "Threshold" bottom: "data" top: "sign" }\n'
    'layer { name: "late" type: "Power" bottom: "sign" top: "late" power_param { scale: 3 } }\n'
)


def test_a_slightly_wrong_threshold_is_found(tmp_path: Path) -> None:
    graph = write(tmp_path, PLAIN).graph()
    assert run(graph, tmp_path).passed
    check = run(graph, tmp_path, moved_threshold)
    assert check.first_divergence == "layer 'sign', blob 'sign' (onnxruntime)"
    assert check.ties == ()


def test_a_fault_behind_a_near_tie_is_found(tmp_path: Path) -> None:
    def change(model: ModelProto) -> None:
        (node,) = [node for node in model.graph.node if node.op_type == "Mul"]
        (place,) = [item for item in model.graph.initializer if item.name in node.input]
        place.CopyFrom(numpy_helper.from_array(np.asarray(3.001, np.float32), place.name))

    check = run(equal_sums(tmp_path, ARGMAX), tmp_path, change)
    assert check.first_divergence == "layer 'late', blob 'late' (onnxruntime)"
    assert len(check.ties) == 2


def test_places_of_a_maximum(tmp_path: Path) -> None:
    text = EQUAL_SUMS + (
        'layer { name: "both" type: "Concat" bottom: "a" bottom: "b" top: "both" concat_param { axis: 2 } }\n'
        'layer { name: "flat" type: "Reshape" bottom: "both" top: "flat"\n'
        "        reshape_param { shape { dim: 0 dim: 2 dim: 60 dim: 2 } axis: 0 } }\n"
        'layer { name: "pairs" type: "Permute" bottom: "flat" top: "pairs"\n'
        "        permute_param { order: 0 order: 2 order: 1 } }\n"
        'layer { name: "most" type: "Pooling" bottom: "pairs" top: "most" top: "places"\n'
        "        pooling_param { pool: MAX kernel_h: 2 kernel_w: 1 } }\n"
    )
    check = run(equal_sums(tmp_path, text), tmp_path)
    assert check.passed, check.faults
    assert check.ties
    assert "layer 'most' (Pooling)" in check.ties[0]


def test_a_persons_own_caffe_may_decide_otherwise_too(tmp_path: Path) -> None:
    graph = equal_sums(tmp_path, ARGMAX)
    inputs = random(graph)
    with torch.no_grad():
        tensors = to_tensors(graph, inputs, torch.float32)
        blobs = {value: tensor.numpy() for value, tensor in lower(graph).steps(*tensors)}
    swapped = dict(blobs)
    swapped["both"] = blobs["both"] + np.asarray([1e-7, -1e-7], np.float32).reshape(1, 2, 1, 1)
    swapped["which"] = np.argmax(swapped["both"][:, ::-1], 1, keepdims=True).astype(np.float32) * -1 + 1
    swapped["late"] = swapped["which"] * 3 + 1
    check = compare(subject(graph, tmp_path), inputs, "the reference", swapped)
    assert check.passed, check.faults
    assert any("reference decides otherwise" in tie for tie in check.ties)
    swapped["which"] = 1 - swapped["which"]
    swapped["late"] = swapped["which"] * 3 + 1
    check = compare(subject(graph, tmp_path), inputs, "the reference", swapped)
    assert any("'which'" in fault and REFERENCE in fault for fault in check.faults)


# ---- detections ------------------------------------------------------------------------------------------------------


def detecting(folder: Path, **blobs: np.ndarray) -> Graph:
    """Offsets and scores pass a Power of 1.5 first, so that they are computed."""
    text = "".join(
        f'layer {{ name: "p{i}" type: "Power" bottom: "x{i}" top: "p{i}" power_param {{ scale: 1.5 }} }}\n'
        for i in (0, 1)
    )
    text += 'layer { name: "out" type: "DetectionOutput" bottom: "p0" bottom: "p1" bottom: "x2" top: "out" '
    return network(folder, text + params("code_type: CENTER_SIZE nms_param { nms_threshold: 0.4 }") + " }", blobs, {})


def side(graph: Graph, values: Mapping[str, np.ndarray], exact: np.ndarray) -> tuple[np.ndarray, list[str]]:
    found = Side(lower(graph), "an engine", values)
    return found.decide("out", torch.from_numpy(exact)).numpy(), found.ties


def test_detections_may_be_in_another_order_and_number(tmp_path: Path) -> None:
    blobs = dict(zip(("x0", "x1", "x2"), given(), strict=True))
    graph = detecting(tmp_path, **blobs)
    layer = next(node.layer for node in graph.nodes if node.type == "DetectionOutput")

    def rows(scores: np.ndarray, form: Any = layer) -> np.ndarray:
        tensors = [torch.from_numpy(x.astype(np.float64)) for x in (blobs["x0"], scores, blobs["x2"])]
        found: np.ndarray = form.torch(tensors, [])[0].numpy()
        return found

    exact = rows(blobs["x1"])
    turned = blobs["x1"].copy()
    turned[0, 1::3] = turned[0, 1::3][::-1]
    own = rows(turned).astype(np.float32)
    assert own.shape != exact.shape or np.abs(own - exact).max() > 0.1
    found, ties = side(graph, {"p0": blobs["x0"], "p1": turned, "x2": blobs["x2"], "out": own}, exact)
    np.testing.assert_allclose(found, own, atol=1e-5)
    assert "layer 'out' (DetectionOutput): an engine decides otherwise" in ties[0]
    own[0, 0, 3, 4] += 1e-3
    found, ties = side(graph, {"p0": blobs["x0"], "p1": turned, "x2": blobs["x2"], "out": own}, exact)
    assert found is not own
    np.testing.assert_array_equal(found, exact)
    assert ties == []


def test_an_overlap_at_the_threshold_may_fall_on_either_side(tmp_path: Path) -> None:
    """Two boxes that overlap by 0.4 but for 1e-6, which is below what float32 makes of an overlap."""
    prior = np.asarray([[0, 0, 0.7, 1], [0.3, 0, 1, 1]])  # 0.4 in common, 1 together
    prior[1, 0] -= 4e-7
    priors = np.stack([prior, np.full((2, 4), 0.1)]).reshape(1, 2, 8)
    scores = np.asarray([[0, 0.9, 0, 0, 0.8, 0]])
    blobs = {"x0": np.zeros((1, 8)), "x1": scores, "x2": priors}
    graph = detecting(tmp_path, **{name: array.astype(np.float32) for name, array in blobs.items()})
    node = next(node for node in graph.nodes if node.type == "DetectionOutput")
    tensors = [torch.from_numpy(array) for array in blobs.values()]
    results = [layer.torch(tensors, [])[0].numpy() for layer in node.layer.nearby()]
    assert {found.shape[2] for found in results} == {2, 4}
    values = {"p0": blobs["x0"], "p1": blobs["x1"], "x2": blobs["x2"]}
    for own in results:
        found, _ = side(graph, {**values, "out": own.astype(np.float32)}, results[0])
        np.testing.assert_array_equal(found, own)


def test_detections_of_single_images_become_those_of_a_batch() -> None:
    from senet_convert.converter.layers import LAYERS

    layer = LAYERS["DetectionOutput"].parse({"detection_output_param": {"num_classes": 2}})
    none = np.asarray([[0, -1, -1, -1, -1, -1, -1]], np.float32).reshape(1, 1, 1, 7)
    some = np.asarray([[0, 1, 0.5, 0, 0, 1, 1], [0, 1, 0.4, 0, 0, 1, 1]], np.float32).reshape(1, 1, 2, 7)
    assert layer.joined([none, some, none])[0, 0, :, 0].tolist() == [1, 1]
    assert layer.joined([some, none, some])[0, 0, :, 0].tolist() == [0, 0, 2, 2]
    assert layer.joined([none, none])[0, 0, :, :2].tolist() == [[0, -1], [1, -1]]


# ---- helpers ---------------------------------------------------------------------------------------------------------


def test_what_jumps_and_what_is_behind_it(tmp_path: Path) -> None:
    graph = equal_sums(tmp_path, ARGMAX)
    assert list(jumping(graph)) == ["which"]
    assert behind(graph, jumping(graph)) == {"which", "late"}
    assert needed(graph) == ["both", "which"]


def test_a_copy_that_shows_more_must_compute_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = equal_sums(tmp_path, ARGMAX)
    files = subject(graph, tmp_path)
    feeds = [random(graph)]
    shown = {"late": np.zeros((1, 1, 12, 10), np.float32)}
    assert set(exposed(files.delivered, graph, feeds, shown)) == {"late"}  # not what the copy gives
    from senet_convert.converter.check.ties import by_value, run_onnx

    shown = by_value(graph, run_onnx(files.delivered, graph, feeds))
    assert set(exposed(files.delivered, graph, feeds, shown)) == {"late", "both", "which"}
    assert DELIVERED not in run(graph, tmp_path).engines
