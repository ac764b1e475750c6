"""Which class names a conversion writes into the model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest

from senet_convert import demo
from senet_convert.converter.convert import Wishes, convert
from senet_convert.errors import ConvertError


@pytest.fixture(scope="module")
def digits() -> Iterator[Path]:
    with demo.files() as folder:
        yield folder


def converted(digits: Path, folder: Path, **wishes: Any) -> tuple[dict[str, str], dict[str, Any]]:
    """Metadata of the ONNX file, and the report."""
    asked = Wishes(check=False, **wishes)
    result = convert(digits / f"{demo.NAME}.caffemodel", digits / "deploy.prototxt", folder, asked, lambda _: None)
    props = onnx.load(str(folder / "model.onnx")).metadata_props
    return {prop.key: prop.value for prop in props}, dict(result.report["classes"])


def test_given_labels_stand_in_metadata_and_report(digits: Path, tmp_path: Path) -> None:
    carried, told = converted(digits, tmp_path / "out", labels=digits / "classes.txt")
    names = (digits / "classes.txt").read_text().split()
    assert json.loads(carried["labels"]) == told["labels"] == names
    assert carried["class_order"] == told["order"] == "as the labels given"
    assert "wnids" not in carried


def test_without_labels_the_order_is_the_caffemodels(digits: Path, tmp_path: Path) -> None:
    carried, told = converted(digits, tmp_path / "out")
    assert carried["class_order"] == told["order"] == "as in the caffemodel"
    assert told["labels"] == told["wnids"] == []


def test_how_to_feed_it_stands_in_the_metadata(digits: Path, tmp_path: Path) -> None:
    carried, _ = converted(digits, tmp_path / "out", resize=36, resample="pil", color="rgb", scale=0.5)
    found = json.loads(carried["preprocess"])
    assert (found["resize"], found["resample"], found["color"], found["scale"]) == (36, "pil", "rgb", 0.5)
    assert found["mean"] == [171, 86, 94]


@pytest.mark.parametrize("wanted", ["devkit", "short"])
def test_labels_must_be_as_many_as_the_classes(wanted: str, digits: Path, tmp_path: Path) -> None:
    (tmp_path / "short.txt").write_text("one\ntwo\n")
    labels = "devkit" if wanted == "devkit" else tmp_path / "short.txt"
    with pytest.raises(ConvertError, match=r"(1000|2) labels, but the network's outputs are 'prob' \[1, 10\]"):
        converted(digits, tmp_path / "out", labels=labels)
    assert not (tmp_path / "out").exists()
