from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from senet_convert.converter.convert import Wishes, convert
from senet_convert.converter.metadata.class_order import speak
from senet_convert.deploy.labels.classes import DEVKIT, ORDERS, SORTED, Classes, renumbering
from senet_convert.deploy.runtime.session import Session
from senet_convert.errors import ConvertError
from tests.nets import write

INPUT = 'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 4 dim: 4 } } }\n'
DENSE = 'layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc" inner_product_param { num_output: 1000 } }\n'
TURNED = DENSE.replace("num_output: 1000", "num_output: 1000 transpose: true")
POOLED = """
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
        convolution_param { num_output: 1000 kernel_size: 1 } }
layer { name: "fc" type: "Pooling" bottom: "conv" top: "fc" pooling_param { pool: AVE global_pooling: true } }
"""
WHOLE = """
layer { name: "fc" type: "Convolution" bottom: "data" top: "fc" convolution_param { num_output: 1000 kernel_size: 4 } }
"""
# A class reads the channels of its group alone.
GROUPED = """
layer { name: "even" type: "Convolution" bottom: "data" top: "even"
        convolution_param { num_output: 2 kernel_size: 1 } }
layer { name: "fc" type: "Convolution" bottom: "even" top: "fc"
        convolution_param { num_output: 1000 kernel_size: 4 group: 2 } }
"""
SOFTMAX = 'layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }\n'
X = np.random.RandomState(0).standard_normal((2, 3, 4, 4)).astype(np.float32)


def converted(folder: Path, text: str, name: str, **wishes: str | bool) -> Path:
    files = write(folder, text)
    convert(files.caffemodel, files.prototxt, folder / name, Wishes(**wishes), lambda _: None)  # type: ignore[arg-type]
    return folder / name


@pytest.mark.parametrize("classifier", [DENSE, TURNED, WHOLE])
@pytest.mark.parametrize("tail", ["", SOFTMAX])
def test_the_classifier_is_permuted(classifier: str, tail: str, tmp_path: Path) -> None:
    text = INPUT + classifier + tail
    plain = Session(converted(tmp_path, text, "plain", labels="devkit") / "model.onnx")
    folder = converted(tmp_path, text, "sorted", labels="devkit", class_order="sorted")
    other = Session(folder / "model.onnx")
    (output,) = plain.outputs
    table = renumbering(DEVKIT, SORTED)
    was, now = plain.run({"data": X})[output], other.run({"data": X})[output]
    assert np.abs(now[:, table] - was).max() < 1e-5
    assert Classes.from_metadata(other.metadata) == Classes.ilsvrc2012(SORTED)
    report = json.loads((folder / "report.json").read_text())
    assert report["classes"]["order"] == SORTED
    assert "the classes of fc are put in the order" in report["warnings"][0]
    assert report["verdict"] == "passed"


def test_the_pytorch_weights_speak_the_same_order(tmp_path: Path) -> None:
    plain = load_file(converted(tmp_path, INPUT + DENSE, "plain", labels="devkit") / "model.safetensors")
    moved = load_file(
        converted(tmp_path, INPUT + DENSE, "sorted", labels="devkit", class_order="sorted") / "model.safetensors"
    )
    table = list(renumbering(DEVKIT, SORTED))
    for name, array in plain.items():
        assert np.array_equal(moved[name][table], array), "the same numbers, in other places"


@pytest.mark.parametrize("order", ORDERS.values())
def test_what_is_in_order_stays_as_it_is(order: str, tmp_path: Path) -> None:
    graph = write(tmp_path, INPUT + DENSE).graph()
    classes = Classes.ilsvrc2012(order)
    assert speak(graph, classes, order) == (graph, classes)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (POOLED, r"output 'fc' comes from layer 'fc' \(Pooling\), not straight from a classifier"),
        (
            DENSE + SOFTMAX + 'layer { name: "b" type: "Sigmoid" bottom: "fc" top: "b" }',
            r"'fc' are read by several layers \(b, prob\)",
        ),
        (GROUPED, r"output 'fc' comes from layer 'fc' \(Convolution\), not straight from a classifier"),
    ],
)
def test_other_ends_are_refused(text: str, said: str, tmp_path: Path) -> None:
    graph = write(tmp_path, INPUT + text).graph()
    with pytest.raises(ConvertError, match=said):
        speak(graph, Classes.ilsvrc2012(DEVKIT), SORTED)


def test_classes_must_be_known(tmp_path: Path) -> None:
    with pytest.raises(ConvertError, match="say it with --labels devkit or --labels sorted"):
        converted(tmp_path, INPUT + DENSE, "out", class_order="sorted")
    assert not (tmp_path / "out").exists()
