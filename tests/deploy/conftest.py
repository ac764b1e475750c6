"""The digits network converted once, and a network of 1000 classes that reads its class off a picture's colour."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from senet_convert.deploy.images.imagesets import ImageSet, open_set
from senet_convert.deploy.images.preprocess import Preprocess
from senet_convert.deploy.labels.classes import DEVKIT, Classes
from senet_convert.deploy.model import Model


@pytest.fixture(scope="session")
def model(bundle: Path) -> Model:
    return Model.open(bundle, "cpu", spin=False)


@pytest.fixture(scope="session")
def images(digits: Path, model: Model) -> ImageSet:
    return open_set(digits / "images", digits / "val.txt", model.classes, model.outputs)


def paint(path: Path, number: int) -> Path:
    """A picture whose colour says `number` to the network of `thousand`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((6, 5, 3), (number // 32 * 8, number % 32 * 8, 0), np.uint8))
    return path


def write_thousand(
    path: Path, classes: Classes, batch: int | str = "batch", outputs: int = 1000, size: int = 4
) -> Path:
    """Class k of `outputs` for pictures of colour k: the values 2kx - k² are largest at k = x. It has no softmax."""
    numbers = np.arange(outputs, dtype=np.float32)
    weights = np.stack([8 * numbers, numbers / 4, 0 * numbers], axis=1).reshape(outputs, 3, 1, 1)
    made = [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(-numbers * numbers, "b")]
    nodes = [
        helper.make_node("GlobalAveragePool", ["data"], ["mean"]),
        helper.make_node("Conv", ["mean", "w", "b"], ["score"]),
    ]
    ends: list[list[int | str | None]] = [[batch, 3, size, size], [batch, outputs, 1, 1]]
    values = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in zip(("data", "score"), ends, strict=True)
    ]
    graph = helper.make_graph(nodes, "thousand", values[:1], values[1:], made)
    network = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(network, {"preprocess": Preprocess((size, size)).to_json(), **classes.metadata()})
    onnx.save(network, str(path))
    return path


@pytest.fixture(scope="session")
def thousand(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """In devkit order, as the released networks are."""
    path = write_thousand(tmp_path_factory.mktemp("thousand") / "model.onnx", Classes.ilsvrc2012(DEVKIT))
    return Model.open(path, "cpu")


@pytest.fixture
def fed(model: Model) -> Callable[..., Model]:
    """The digits network with a fault in how it is fed."""

    def change(**preprocess: Any) -> Model:
        return model.with_preprocess(replace(model.preprocess, **preprocess))

    return change
