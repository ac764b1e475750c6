"""Which class names a conversion writes into the model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest
from torch import nn

from senet_convert import demo
from senet_convert.converter import convert as room
from senet_convert.converter import released
from senet_convert.converter.convert import Wishes, convert
from senet_convert.converter.passes import Options
from senet_convert.deploy.classes import DEVKIT, ORDERS, SORTED, Classes
from senet_convert.errors import ConvertError
from tests.nets import write


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


@pytest.fixture
def thousand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> room.Loaded:
    """A small network, as though it had 1000 classes."""
    files = write(tmp_path)
    net, built = room.read(files.caffemodel, None, Options())
    outputs = {built.blobs[name] for name in built.outputs}
    shapes = {name: (shape[0], 1000, *shape[2:]) if name in outputs else shape for name, shape in built.shapes.items()}
    return room.Loaded(net, replace(built, shapes=shapes), None, nn.Identity(), {})


SOURCE = released.Source("caffemodel", "x.caffemodel", 1, {}, released.releases()[0])


def test_a_release_speaks_devkit_order(thousand: room.Loaded) -> None:
    assert room._classes(thousand.graph, [SOURCE], None) == Classes.ilsvrc2012(DEVKIT)
    assert room._classes(thousand.graph, [replace(SOURCE, release=None)], None) == Classes()


@pytest.mark.parametrize("word", ORDERS)
def test_a_network_of_ones_own_speaks_what_one_says(word: str, thousand: room.Loaded) -> None:
    found = room._classes(thousand.graph, [replace(SOURCE, release=None)], word)
    assert found == Classes.ilsvrc2012(ORDERS[word])


def test_a_release_with_labels_of_the_other_order_is_refused(thousand: room.Loaded, tmp_path: Path) -> None:
    wnids = Classes.ilsvrc2012(SORTED).wnids
    (tmp_path / "synset_words.txt").write_text("\n".join(f"{wnid} some name" for wnid in wnids))
    with pytest.raises(ConvertError, match=f"lists the classes by {SORTED}, .* number them by {DEVKIT}"):
        room._classes(thousand.graph, [SOURCE], tmp_path / "synset_words.txt")
