from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from senet_convert.deploy.images.images import read_image
from senet_convert.deploy.images.imagesets import ImageSet
from senet_convert.deploy.images.loader import Item
from senet_convert.deploy.images.preprocess import Preprocess
from senet_convert.deploy.labels.classes import DEVKIT, SORTED, Classes, renumbering
from senet_convert.deploy.model import Model
from senet_convert.deploy.validation import diagnose as room
from senet_convert.deploy.validation.diagnose import diagnose, variations
from senet_convert.errors import ConvertError

from ..conftest import paint

CAFFE = 3.6  # top-1 error in % of the digits, fed rightly

# A fault in the feeding, the kind of fix, words of the remedy, and the error in % that it may leave.
FAULTS: dict[str, tuple[dict[str, Any], str, str, float]] = {
    "channels swapped": ({"color": "rgb"}, "color", "--color bgr", CAFFE),
    "channels and mean swapped": (
        {"color": "rgb", "mean": (94.0, 86.0, 171.0)},
        "color",
        "--color bgr --mean 171,86,94",
        CAFFE,
    ),
    "mean in the wrong order": ({"mean": (94.0, 86.0, 171.0)}, "mean", "--mean 171,86,94", CAFFE),
    "mean missing": ({"mean": ()}, "mean", "--mean 170,87,94", CAFFE),
    "another data set's mean": ({"mean": (104.0, 117.0, 123.0)}, "mean", "--mean 170,87,94", CAFFE),
    "scaled to 0..1": ({"scale": 1 / 255}, "scale", "--scale 1", CAFFE),
    "squashed, not cropped": ({"resize": None}, "resize", "--resize 3", 4.0),
    "resized too small": ({"resize": 32}, "resize", "--resize 3", 4.0),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_the_feeding_is_named(fault: str, fed: Callable[..., Model], images: ImageSet) -> None:
    change, kind, remedy, left = FAULTS[fault]
    found = diagnose(fed(**change), images.items, CAFFE)
    assert [step.kind for step in found.steps] == [kind]
    assert remedy in found.steps[0].remedy
    assert found.steps[0].top1_error <= left
    assert found.top1_error > found.steps[0].top1_error + 1
    assert f"{found.top1_error:.1f} % to {found.steps[0].top1_error:.1f} %" in found.verdict
    assert found.tried[0].top1_error == min(fix.top1_error for fix in found.tried)
    json.dumps(found.plain(), allow_nan=False)


def test_two_faults_at_once(fed: Callable[..., Model], images: ImageSet) -> None:
    found = diagnose(fed(mean=(), color="rgb"), images.limited(250).items, CAFFE)
    assert {step.kind for step in found.steps} == {"color", "mean"}
    assert found.steps[-1].top1_error < 6


def test_what_comes_near_the_expected_error_is_enough(fed: Callable[..., Model], images: ImageSet) -> None:
    found = diagnose(fed(mean=(), color="rgb"), images.limited(250).items, 90)
    assert len(found.steps) == 1


def test_rounds_are_limited(fed: Callable[..., Model], images: ImageSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "ROUNDS", 1)
    found = diagnose(fed(mean=(), color="rgb"), images.limited(250).items, CAFFE)
    assert len(found.steps) == 1


def test_without_a_fault_nothing_is_accused(model: Model, images: ImageSet) -> None:
    found = diagnose(model, images.items)
    assert found.steps == ()
    assert found.top1_error == CAFFE
    assert {fix.kind for fix in found.tried} == {"labels", "color", "mean", "scale", "resize", "resample"}


def test_the_other_way_to_resample(model: Model, images: ImageSet) -> None:
    """Large pictures with fine noise over them: antialiasing takes it away, four-point interpolation does not."""
    noise = np.random.RandomState(0)
    items = []
    for item in images.limited(100).items:
        small = cv2.imdecode(np.frombuffer(item.read(), np.uint8), cv2.IMREAD_COLOR)
        large = np.asarray(cv2.resize(np.asarray(small), None, fx=6, fy=6), np.int64)
        grainy = np.clip(large + noise.randint(-120, 121, large.shape), 0, 255).astype(np.uint8)
        items.append(replace(item, read=cv2.imencode(".png", grainy)[1].tobytes))
    found = diagnose(model, items, CAFFE)
    assert found.steps[0].kind == "resample"
    assert "--resample pil" in found.steps[0].remedy
    assert found.steps[0].top1_error < found.top1_error - 5


def relabelled(images: ImageSet, table: dict[int, int]) -> list[Item]:
    return [replace(item, label=table[item.label]) for item in images.items]


def test_labels_in_the_alphabets_order(model: Model, images: ImageSet) -> None:
    alphabet = sorted(model.classes.labels)
    items = relabelled(images, {k: alphabet.index(name) for k, name in enumerate(model.classes.labels)})
    found = diagnose(model, items, CAFFE)
    assert [step.kind for step in found.steps] == ["labels"]
    assert "alphabet" in found.verdict
    assert found.steps[0].top1_error == CAFFE


def test_labels_in_the_order_of_the_digits(model: Model, images: ImageSet, digits: Path) -> None:
    """No order that is known beforehand: it is read off the pictures."""
    outputs = json.loads((digits / "reference.json").read_text())["output_of_digit"]
    found = diagnose(model, relabelled(images, {output: digit for digit, output in enumerate(outputs)}), CAFFE)
    assert [step.kind for step in found.steps] == ["labels"]
    assert found.steps[0].top1_error == CAFFE
    assert f"0 is output {outputs[0]}" in found.verdict


@pytest.fixture
def colours(tmp_path: Path) -> list[bytes]:
    """Pictures of the classes 0 and 1 of the network `thousand`."""
    return [paint(tmp_path / f"{k}.png", k).read_bytes() for k in (0, 1)]


def learned(model: Model, pairs: list[tuple[int, int]], colours: list[bytes]) -> list[str]:
    """What is said of a numbering that is read off the sample, of pictures of (class, label)."""
    items = [Item(str(at), partial(colours.__getitem__, shown), label) for at, (shown, label) in enumerate(pairs)]
    faults = [fix.fault for fix in diagnose(model, items).tried]
    return [fault for fault in faults if fault.startswith("the labels and the outputs number the classes differently")]


@pytest.mark.parametrize(("each", "said"), [(9, 0), (10, 1)])
def test_a_numbering_is_read_off_many_pictures_only(
    each: int, said: int, thousand: Model, colours: list[bytes]
) -> None:
    assert len(learned(thousand, [(0, 1)] * each + [(1, 0)] * each, colours)) == said


def test_a_numbering_is_read_off_classes_that_take_turns(thousand: Model, colours: list[bytes]) -> None:
    assert len(learned(thousand, [(0, 1), (1, 0)] * 10, colours)) == 1


def test_a_numbering_that_the_other_half_contradicts_is_chance(thousand: Model, colours: list[bytes]) -> None:
    """Two classes are swapped in 12 of 20 pictures: in every second one, but in few of the others."""
    swapped, right = [(0, 1), (1, 0)], [(0, 0), (1, 1)]
    rest = [*swapped, *right * 4]
    assert learned(thousand, [pair for both in zip(swapped * 5, rest, strict=True) for pair in both], colours) == []
    rest = [*swapped * 4, *right]
    (said,) = learned(thousand, [pair for both in zip(swapped * 5, rest, strict=True) for pair in both], colours)
    assert "0 is output 1, 1 is output 0" in said


def test_labels_and_channels_wrong(fed: Callable[..., Model], images: ImageSet) -> None:
    alphabet = sorted(fed().classes.labels)
    items = relabelled(images, {k: alphabet.index(name) for k, name in enumerate(fed().classes.labels)})
    found = diagnose(fed(scale=1.25, mean=(0.0, 0.0, 0.0)), items, CAFFE)
    assert {"labels", "mean"} <= {step.kind for step in found.steps}
    assert found.steps[-1].top1_error < 6


@pytest.fixture(scope="module")
def painted(tmp_path_factory: pytest.TempPathFactory) -> list[Item]:
    folder = tmp_path_factory.mktemp("painted")
    return [Item(str(k), paint(folder / f"{k}.png", k).read_bytes, k) for k in range(0, 1000, 9)]


@pytest.mark.parametrize(("source", "target", "word"), [(SORTED, DEVKIT, "sorted"), (DEVKIT, SORTED, "devkit")])
def test_ilsvrcs_two_orders(source: str, target: str, word: str, thousand: Model, painted: list[Item]) -> None:
    table = renumbering(target, source)
    items = [replace(item, label=table[item.label]) for item in painted]
    found = diagnose(replace(thousand, classes=Classes.ilsvrc2012(target)), items)
    assert found.top1_error > 95
    assert [(step.kind, step.top1_error) for step in found.steps] == [("labels", 0)]
    assert f"--label-order {word}" in found.steps[0].remedy


def test_labels_from_one(thousand: Model, painted: list[Item]) -> None:
    found = diagnose(thousand, [replace(item, label=item.label + 1) for item in painted[:-1]])
    assert "count from 1" in found.verdict
    assert found.steps[0].top1_error == 0


def test_a_sample_that_cannot_be_read(model: Model) -> None:
    with pytest.raises(ConvertError, match="nothing to diagnose on"):
        diagnose(model, [Item("torn", lambda: b"nonsense", 0)])


def test_broken_pictures_of_the_sample_are_left_out(model: Model, images: ImageSet, digits: Path) -> None:
    assert read_image(digits / "images" / images.items[0].name).ndim == 3
    found = diagnose(model, [Item("torn", lambda: b"nonsense", 0), *images.items[:9]])
    assert found.images == 9


def test_pictures_too_long_for_the_crop_are_left_out(model: Model, images: ImageSet) -> None:
    line = Item("line", cv2.imencode(".png", np.zeros((1, 120_000, 3), np.uint8))[1].tobytes, 0)
    found = diagnose(model, [*images.items[:9], line])
    assert found.images == 9
    assert found.tried
    with pytest.raises(ConvertError, match="nothing to diagnose on"):
        diagnose(model, [line])


def test_of_a_model_that_takes_pictures_only_the_outside_is_varied() -> None:
    picture = np.zeros((40, 40, 3), np.uint8)
    kinds = {change.kind for change in variations(Preprocess((32, 32), 36, (1.0,), input="image"), [picture])}
    assert kinds == {"resize", "resample"}
    assert variations(Preprocess((32, 32), 36, (1.0,), input="image", any_size=True), [picture]) == []
