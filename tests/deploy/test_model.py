from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from senet_convert import bundle as room
from senet_convert.deploy.images.images import read_image
from senet_convert.deploy.labels.classes import DEVKIT, Classes
from senet_convert.deploy.model import Model, Published, best
from senet_convert.errors import ConvertError

from .conftest import paint, write_thousand


def test_the_digits_give_caffes_probabilities(model: Model, digits: Path) -> None:
    with np.load(digits / "reference.npz") as file:
        expected = file["prob"][:2]
    names = ("digits_val_00000001.png", "digits_val_00000002.png")
    found = model.classify([read_image(digits / "images" / name) for name in names])
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() < 1e-5
    assert model.classes.label(int(best(found, 1)[0, 0])) == "four"


def test_a_file_opens_as_its_folder_does(bundle: Path) -> None:
    assert Model.open(bundle / "model.onnx", "cpu").path == Model.open(bundle, "cpu").path


def test_scores_become_probabilities(thousand: Model, tmp_path: Path) -> None:
    image = read_image(paint(tmp_path / "a.png", 677))
    found = thousand.classify([image])
    assert found.shape == (1, 1000)
    assert found[0].sum() == pytest.approx(1)
    assert best(found, 1).tolist() == [[677]]


@pytest.mark.parametrize("count", [1, 4, 6])
def test_a_fixed_batch_is_filled_up(count: int, tmp_path: Path) -> None:
    model = Model.open(write_thousand(tmp_path / "fixed.onnx", Classes(), batch=4), "cpu")
    images = [read_image(paint(tmp_path / f"{k}.png", 100 * k)) for k in range(count)]
    assert best(model.classify(images), 1).ravel().tolist() == [100 * k for k in range(count)]


def test_buckets_are_filled_up(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = np.random.RandomState(0).standard_normal((11, 3, 32, 32)).astype(np.float32)
    want = model.probabilities(batch)
    sizes = []
    run = model.session.run

    def spy(feeds: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]], names: list[str]) -> object:
        sizes.append(len(feeds["data"]))
        return run(feeds, names)

    monkeypatch.setattr(type(model.session), "buckets", (1, 4))
    monkeypatch.setattr(model.session, "run", spy)
    assert np.allclose(model.probabilities(batch), want, atol=1e-6)
    assert sizes == [4, 4, 4]
    model.probabilities(batch[:1])
    assert sizes[3:] == [1]


def test_ten_crops_are_averaged(model: Model, digits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = [read_image(digits / "images" / f"digits_val_0000000{k}.png") for k in (1, 2, 3)]
    ten = model.with_ten_crops()
    crops = ten.preprocess.batch(images)
    sizes = []
    run = model.session.run

    def spy(feeds: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]], names: list[str]) -> object:
        sizes.append(len(feeds["data"]))
        return run(feeds, names)

    monkeypatch.setattr(model.session, "run", spy)
    found = ten.classify(images)
    assert sizes == [3] * 10
    expected = np.stack([model.probabilities(crops[k]).mean(axis=0) for k in range(3)])
    assert np.allclose(found, expected, atol=1e-6)
    assert not np.allclose(found, model.classify(images), atol=1e-4)


def report(folder: Path, release: object) -> None:
    room.write_report(folder, {"tool": {"name": room.TOOL}, "release": release})


def test_published_errors_are_of_one_crop_of_224(tmp_path: Path) -> None:
    report(tmp_path, {"name": "x", "published_top1_error": 1, "published_top5_error": 1})
    write_thousand(tmp_path / "model.onnx", Classes(), size=224)
    model = Model.open(tmp_path, "cpu")
    assert model.published is not None
    wide = replace(model, preprocess=replace(model.preprocess, resize=256))
    assert wide.with_ten_crops().published is None
    write_thousand(tmp_path / "model.onnx", Classes(), size=320)
    assert Model.open(tmp_path, "cpu").published is None


def test_of_equal_probabilities_the_lower_class_is_first() -> None:
    assert best(np.array([[0.2, 0.4, 0.4]], np.float32), 2).tolist() == [[1, 2]]
    assert best(np.array([[0.2, 0.8]], np.float32), 5).tolist() == [[1, 0]]


def test_an_output_that_is_not_finite(model: Model) -> None:
    with pytest.raises(ConvertError, match="'prob' is not finite"):
        model.probabilities(np.full((1, 3, 32, 32), np.nan, np.float32))


def test_published_errors_come_from_the_report(tmp_path: Path) -> None:
    write_thousand(tmp_path / "model.onnx", Classes.ilsvrc2012(DEVKIT), size=224)
    assert Model.open(tmp_path, "cpu").published is None
    release = {"name": "SE-ResNet-50", "published_top1_error": 22.37, "published_top5_error": 6.36}
    report(tmp_path, release)
    assert Model.open(tmp_path, "cpu").published == Published("SE-ResNet-50", 22.37, 6.36)
    report(tmp_path, None)
    assert Model.open(tmp_path, "cpu").published is None


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{",
        "null",
        '{"release": {"name": "x", "published_top1_error": 1, "published_top5_error": 1}}',
        '{"tool": {"name": "senet-convert"}, "release": {"name": "x"}}',
        '{"tool": {"name": "senet-convert"}, "release": "x"}',
        '{"tool": []}',
    ],
)
def test_a_report_that_is_not_ours_is_no_fault_of_the_model(text: str, tmp_path: Path) -> None:
    write_thousand(tmp_path / "model.onnx", Classes(), size=224)
    (tmp_path / room.REPORT).write_text(text)
    assert Model.open(tmp_path, "cpu").published is None


def test_what_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ConvertError, match=r"no model\.onnx in this folder"):
        Model.open(tmp_path)
    with pytest.raises(ConvertError, match="no such file"):
        Model.open(tmp_path / "nothing.onnx")


def altered(path: Path, source: Path, **metadata: str | None) -> Path:
    """A copy with other metadata; None removes an entry."""
    network = onnx.load(str(source))
    entries: dict[str, str | None] = {prop.key: prop.value for prop in network.metadata_props}
    entries |= metadata
    helper.set_model_props(network, {key: value for key, value in entries.items() if value is not None})
    onnx.save(network, str(path))
    return path


def test_a_model_must_say_how_it_is_fed(bundle: Path, tmp_path: Path) -> None:
    path = altered(tmp_path / "bare.onnx", bundle / "model.onnx", preprocess=None)
    with pytest.raises(ConvertError, match=r"bare\.onnx: the model does not say how an image becomes its input"):
        Model.open(path, "cpu")


def test_labels_must_fit(bundle: Path, tmp_path: Path) -> None:
    path = altered(tmp_path / "few.onnx", bundle / "model.onnx", labels='["one"]')
    with pytest.raises(ConvertError, match="1 labels for the 10 classes of 'prob'"):
        Model.open(path, "cpu")


def test_of_several_outputs_the_last_with_classes_is_the_answer(bundle: Path, tmp_path: Path) -> None:
    """Networks that are trained with several classifiers have the main one last."""
    network = onnx.load(str(bundle / "model.onnx"))
    logits = next(node.input[0] for node in network.graph.node if "prob" in node.output)
    ends: dict[str, list[int | str | None]] = {logits: ["batch", 10], "data": ["batch", 3, 32, 32]}
    for name, shape in ends.items():
        network.graph.output.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape))
    onnx.save(network, str(tmp_path / "several.onnx"))
    model = Model.open(tmp_path / "several.onnx", "cpu")
    assert model.session.outputs == ("prob", logits, "data")
    assert (model.output, model.outputs) == (logits, 10)


def test_a_network_without_classes(tmp_path: Path) -> None:
    path = write_thousand(tmp_path / "one.onnx", Classes(), outputs=1)
    with pytest.raises(ConvertError, match="no output has one value per class"):
        Model.open(path, "cpu")
