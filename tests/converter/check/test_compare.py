from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from senet_convert.converter import families, runner
from senet_convert.converter.check import synthetic
from senet_convert.converter.check.compare import Check, Subject, compare
from senet_convert.converter.check.reference_file import read_reference
from senet_convert.converter.check.tolerance import FAMILY, FLOOR, GENERIC, ONNX, REFERENCE
from senet_convert.converter.export.onnx import all_blobs, export
from senet_convert.converter.graph.build import build
from senet_convert.converter.graph.graph import Graph
from senet_convert.errors import CheckError
from senet_convert.proto import caffe_pb2, read_caffemodel
from tests.nets import INPUT, write
from tests.paths import GOLDEN

CASE = GOLDEN / "se_resnet"


def golden() -> Graph:
    weights = read_caffemodel(CASE / "net.caffemodel")
    return build(weights, weights)


def subject(graph: Graph, folder: Path) -> Subject:
    export(graph, outputs=all_blobs(graph)).write(folder / "witness.onnx")
    export(graph).write(folder / "model.onnx")
    match = families.match(graph)
    net = families.build(match, graph) if match else runner.lower(graph)
    paths = folder / "witness.onnx", folder / "model.onnx"
    return Subject(graph, runner.lower(graph), match, net, *paths)


def run(graph: Graph, folder: Path, **given: Any) -> Check:
    return compare(subject(graph, folder), synthetic.inputs(graph), "smooth pictures", **given)


def spoiled(graph: Graph, key: str, change: float) -> Graph:
    """The graph with one weight a little off."""
    arrays = dict(graph.accounts.arrays)
    arrays[key] = (arrays[key] * np.float32(1 + change)).astype(np.float32)
    return replace(graph, accounts=replace(graph.accounts, arrays=arrays))


OVERFLOW = (
    'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 6 } } }\n'
    'layer { name: "s" type: "Sigmoid" bottom: "x" top: "s" }\n'
    'layer { name: "large" type: "Power" bottom: "s" top: "large" power_param { scale: 1e38 shift: 2e38 } }\n'
    'layer { name: "sum" type: "Eltwise" bottom: "large" bottom: "large" bottom: "large" top: "sum"\n'
    "        eltwise_param { coeff: 1 coeff: 1 coeff: -1 } }\n"
    'layer { name: "beyond" type: "Power" bottom: "large" top: "beyond" power_param { scale: 2 } }\n'
    'layer { name: "back" type: "Power" bottom: "beyond" top: "back" power_param { scale: 1e-38 } }\n'
    'layer { name: "spoilt" type: "Scale" bottom: "s" top: "spoilt" }\n'
)


def test_overflow_is_a_fault_only_of_finite_weights(tmp_path: Path) -> None:
    """A maximum of NaN is -FLT_MAX, behind which values leave float32 as a matter of course, in Caffe too."""
    files = write(tmp_path, OVERFLOW)
    faults = " ".join(run(files.graph(), tmp_path).faults)
    assert "blob 'sum'" in faults
    assert "blob 'back'" in faults
    net = caffe_pb2.NetParameter.FromString(files.caffemodel.read_bytes())
    net.layer[-1].blobs[0].data = np.full(6, np.nan, "<f4").tobytes()
    files.caffemodel.write_bytes(net.SerializeToString())
    check = run(files.graph(), tmp_path)
    assert check.faults == ()
    left_out = {blob.blob: blob.nonfinite / np.prod(blob.shape) for blob in check.blobs}
    assert left_out == {"s": 0, "large": 0, "sum": 1, "beyond": 1, "back": 1, "spoilt": 1}


def test_every_engine_keeps_every_budget(tmp_path: Path) -> None:
    graph = golden()
    check = run(graph, tmp_path)
    assert check.passed
    assert check.engines == (GENERIC, FAMILY, ONNX)
    assert [blob.blob for blob in check.blobs] == [blob for blob in graph.blobs if blob != "data"]
    assert all(ONNX in blob.errors for blob in check.blobs)
    assert sum(FAMILY in blob.errors for blob in check.blobs) >= len(check.blobs) - 1
    worst = check.worst(ONNX)
    assert worst is not None
    assert 0 < worst.errors[ONNX] <= worst.budget
    assert len(check.top5["prob"]) == 16
    assert check.first_divergence is None


def test_a_fault_in_the_onnx_file_is_found_at_its_layer(tmp_path: Path) -> None:
    graph = golden()
    good = subject(graph, tmp_path)
    export(spoiled(graph, "conv3_1_3x3/weight", 1e-4), outputs=all_blobs(graph)).write(good.witness)
    check = compare(good, synthetic.inputs(graph), "smooth pictures")
    assert not check.passed
    assert check.first_divergence is not None
    assert check.first_divergence.startswith("layer 'conv3_1_3x3/relu', blob 'conv3_1_3x3' (onnxruntime)")
    assert all(FAMILY not in blob.over() for blob in check.blobs)


def test_a_fault_in_the_family_net_is_found_at_its_layer(tmp_path: Path) -> None:
    graph = golden()
    good = subject(graph, tmp_path)
    weight = good.net.get_parameter("layer1.1.conv2.weight")
    weight.data = weight.data * 1.0001  # not in place: the engines share the caffemodel's arrays
    check = compare(good, synthetic.inputs(graph), "smooth pictures")
    assert check.first_divergence is not None
    assert FAMILY in check.first_divergence


def test_a_wrong_epsilon_is_found(tmp_path: Path) -> None:
    """The trap of the reference data: an epsilon of 0 moves the results by a hundred times float32's error."""
    graph = golden()
    good = subject(graph, tmp_path)
    for module in good.net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eps = 0.0
    assert not compare(good, synthetic.inputs(graph), "smooth pictures").passed


def test_a_fault_in_the_delivered_file_is_found(tmp_path: Path) -> None:
    graph = golden()
    good = subject(graph, tmp_path)
    export(spoiled(graph, "classifier/weight", 0.5)).write(good.delivered)
    faults = compare(good, synthetic.inputs(graph), "smooth pictures").faults
    assert any("output 'prob' of the ONNX file" in fault for fault in faults)


def test_other_best_classes_are_named(tmp_path: Path) -> None:
    graph = golden()
    good = subject(graph, tmp_path)
    export(spoiled(graph, "classifier/weight", -2.0)).write(good.delivered)
    faults = compare(good, synthetic.inputs(graph), "smooth pictures").faults
    assert any("picture 0: best classes " in fault for fault in faults)


def caffes_blobs() -> dict[str, np.ndarray]:
    with np.load(CASE / "inputs.npz") as inputs, np.load(CASE / "outputs.npz") as outputs:
        return {**inputs, **outputs}


def test_a_persons_own_caffe_is_held_against_the_truth(tmp_path: Path) -> None:
    graph, blobs = golden(), caffes_blobs()
    np.savez(tmp_path / "blobs.npz", **blobs)  # type: ignore[arg-type]
    read = read_reference(tmp_path / "blobs.npz", graph)
    # This golden is of other weights: every blob behind the first convolution differs.
    check = compare(subject(graph, tmp_path), {"data": read["data"]}, "the reference", read)
    assert REFERENCE in check.engines
    with np.load(CASE / "outputs.npz") as outputs:
        assert check.passed == (not any(REFERENCE in blob.over() for blob in check.blobs))
        assert {blob.blob for blob in check.blobs if REFERENCE in blob.errors} == set(outputs.files) - {"data"}
    blobs["conv3_1_3x3"] = blobs["conv3_1_3x3"] * np.float32(1.01)
    check = compare(subject(graph, tmp_path), {"data": blobs["data"]}, "the reference", blobs)
    assert check.first_divergence == "layer 'conv3_1_3x3/relu', blob 'conv3_1_3x3' (reference)"


def test_a_reference_may_know_a_value_by_its_other_name(tmp_path: Path) -> None:
    text = INPUT + 'layer { name: "r" type: "ReLU" bottom: "data" top: "r" }\n'
    text += 'layer { name: "d" type: "Dropout" bottom: "r" top: "d" }'
    graph = write(tmp_path, text).graph()
    x = np.ones((2, 3, 12, 10), np.float32)
    for value, passes in ((1.0, True), (1.5, False)):
        check = compare(subject(graph, tmp_path), {"data": x}, "x", {"data": x, "d": x * np.float32(value)})
        assert check.passed == passes


def test_a_check_that_would_fill_the_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = golden()
    good = subject(graph, tmp_path)
    monkeypatch.setattr("senet_convert.converter.check.compare.usable_memory", lambda: 10_000)
    with pytest.raises(CheckError, match=r"on inputs of 16x3x24x32 needs about .* GiB, .* --no-check"):
        compare(good, synthetic.inputs(graph), "smooth pictures")


def test_a_generic_net_is_checked_too(tmp_path: Path) -> None:
    check = run(write(tmp_path).graph(), tmp_path)
    assert check.passed
    assert check.engines == (GENERIC, ONNX)
    assert all(blob.budget >= FLOOR for blob in check.blobs)


@pytest.mark.parametrize(("apart", "said"), [(1.5, []), (3.0, ["the ONNX file has [0, 1, 2, 3]"])])
def test_only_classes_that_the_budget_tells_apart_have_an_order(apart: float, said: list[str], tmp_path: Path) -> None:
    text = 'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 4 } } }\n'
    graph = write(tmp_path, text + 'layer { name: "y" type: "ReLU" bottom: "x" top: "y" }').graph()
    exact, swapped = np.array([[1, 0.5, 0.5, 0.25]], np.float32), np.array([[1, 0.5, 0.5, 0.25]], np.float32)
    exact[0, 2] = swapped[0, 1] = 0.5 + apart * FLOOR
    check = compare(replace(subject(graph, tmp_path), fed=[{"x": swapped}]), {"x": exact}, "x")
    assert [blob.budget for blob in check.blobs] == [FLOOR]
    assert check.top5 == {"y": [[0, 2, 1, 3]]}
    faults = [fault for fault in check.faults if "best classes" in fault]
    assert [f"output 'y', picture 0: best classes [0, 2, 1, 3], {words}" for words in said] == faults


def test_blobs_are_counted_as_they_are_compared(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    check = run(golden(), tmp_path, done=lambda done, blobs: told.append((done, blobs)))
    assert told == [(done, len(check.blobs)) for done in range(len(check.blobs))]
