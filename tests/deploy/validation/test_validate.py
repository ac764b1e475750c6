from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from senet_convert.commands.shared.tables import print_outcome
from senet_convert.deploy.images.imagesets import ImageSet
from senet_convert.deploy.images.loader import Item
from senet_convert.deploy.model import Model, Published
from senet_convert.deploy.validation.validate import Outcome, Wishes, validate
from senet_convert.errors import ConvertError

BROKEN = Item("torn.png", lambda: b"nonsense", 0)


def with_broken(images: ImageSet, at: int, count: int = 20) -> ImageSet:
    items = images.items[:count]
    return replace(images, items=(*items[:at], BROKEN, *items[at:]))


def test_the_errors_are_caffes(model: Model, images: ImageSet, digits: Path) -> None:
    caffe = json.loads((digits / "reference.json").read_text())
    seen = []
    found = validate(model, images, seen=lambda items, probabilities: seen.append((items, probabilities)))
    assert found.tally.images == caffe["images"]
    assert found.tally.top1_error == caffe["top1_error_percent"]
    assert found.tally.top5_error == caffe["top5_error_percent"]
    assert (found.verdict, found.diagnosis, found.computed) == (None, None, 500)
    with np.load(digits / "reference.npz") as file:
        assert np.abs(np.concatenate([batch for _, batch in seen]) - file["prob"]).max() < 1e-5
    assert [item.name for items, _ in seen for item in items] == [item.name for item in images.items]


@pytest.mark.parametrize("batch", [1, 7, 64])
def test_batches_change_nothing(batch: int, model: Model, images: ImageSet) -> None:
    found = validate(model, images, Wishes(batch=batch, workers=3))
    assert (found.tally.top1_wrong, found.tally.top5_wrong) == (18, 1)


def test_a_result_as_plain_data(model: Model, images: ImageSet) -> None:
    found = validate(model, with_broken(images, 3)).plain()
    json.dumps(found, allow_nan=False)
    assert (found["images"], found["broken"]) == (20, 1)
    assert found["broken_images"][0]["image"] == "torn.png"
    assert found["class_order"] == "as the labels given"
    assert found["provider"] == "cpu"
    assert sum(row["images"] for row in found["per_class"]) == 20


def test_nothing_to_judge(model: Model, images: ImageSet) -> None:
    with pytest.raises(ConvertError, match=r"none of the 1 images can be used: torn\.png: .*no picture"):
        validate(model, replace(images, items=(BROKEN,)))


def predictions(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_predictions(model: Model, images: ImageSet, tmp_path: Path, digits: Path) -> None:
    validate(model, with_broken(images, 3), Wishes(batch=6, predictions=tmp_path / "p.csv"))
    rows = predictions(tmp_path / "p.csv")
    with np.load(digits / "reference.npz") as file:
        expected = file["prob"][0]
    assert len(rows) == 21
    assert (rows[0]["image"], rows[0]["label"]) == ("digits_val_00000001.png", "8")
    assert [int(rows[0][f"class{k}"]) for k in range(1, 6)] == np.argsort(-expected)[:5].tolist()
    assert float(rows[0]["probability1"]) == pytest.approx(expected.max(), abs=1e-5)
    assert rows[3]["image"] == "torn.png"
    assert "no picture" in rows[3]["error"]
    with pytest.raises(ConvertError, match="cannot be written"):
        validate(model, images, Wishes(predictions=tmp_path / "no" / "p.csv"))


class StopHereError(Exception):
    pass


def test_an_interrupted_run_goes_on(model: Model, images: ImageSet, tmp_path: Path) -> None:
    some = with_broken(images, 11, 120)
    whole = validate(model, some, Wishes(batch=10, predictions=tmp_path / "whole.csv"))

    def interrupt(done: int, earlier: int, total: int) -> None:
        if done >= 40:
            raise StopHereError

    wishes = Wishes(batch=10, resume=tmp_path / "journal", predictions=tmp_path / "parts.csv")
    with pytest.raises(StopHereError):
        validate(model, some, wishes, interrupt)
    with (tmp_path / "journal").open("a") as file:
        file.write('{"name": "to')
    again = validate(model, some, wishes)
    assert again.computed == 121 - 40
    assert again.tally == whole.tally
    assert predictions(tmp_path / "parts.csv") == predictions(tmp_path / "whole.csv")
    third = validate(model, some, wishes)
    assert (third.computed, third.tally) == (0, whole.tally)
    assert third.plain()["images_per_second"] is None


def test_another_runs_journal_costs_no_predictions(model: Model, images: ImageSet, tmp_path: Path) -> None:
    wishes = Wishes(resume=tmp_path / "journal", predictions=tmp_path / "p.csv")
    validate(model, images.limited(10), wishes)
    before = (tmp_path / "p.csv").read_bytes()
    with pytest.raises(ConvertError, match="belongs to a run"):
        validate(model, images.limited(20), wishes)
    assert (tmp_path / "p.csv").read_bytes() == before


def test_shards_add_up(model: Model, images: ImageSet) -> None:
    parts = [validate(model, images.shard(number, 3)).tally for number in (1, 2, 3)]
    assert sum(part.images for part in parts) == 500
    assert sum(part.top1_wrong for part in parts) == 18


def test_progress_is_told(model: Model, images: ImageSet) -> None:
    told: list[tuple[int, int, int]] = []
    validate(model, images.limited(25), Wishes(batch=10), lambda *numbers: told.append(numbers))
    assert told == [(10, 0, 25), (20, 0, 25), (25, 0, 25)]


@pytest.mark.parametrize(("expected", "holds"), [(3.6, True), (3.4, True), (3.3, False), (4.0, False)])
def test_an_expected_error(expected: float, holds: bool, model: Model, images: ImageSet) -> None:
    verdict = validate(model, images, Wishes(expect_top1=expected, sample=0)).verdict
    assert verdict is not None
    assert (verdict.holds, verdict.slack) == (holds, 0.2)


def test_a_part_of_the_set_may_be_off_by_chance(model: Model, images: ImageSet) -> None:
    verdict = validate(model, images.limited(100), Wishes(expect_top1=3.6)).verdict
    assert verdict is not None
    assert verdict.slack == pytest.approx(0.2 + 3 * 1.863, abs=0.01)
    assert verdict.holds


@pytest.mark.parametrize(("name", "tolerance"), [("SE-ResNet-50", 0.2), ("SE-BN-Inception", 0.6)])
def test_published_errors(
    name: str, tolerance: float, model: Model, images: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = replace(model, published=Published(name, 3.6, 0.2))

    def run(wishes: Wishes | None = None) -> Outcome:
        return validate(released, images, wishes)

    part = run().verdict
    assert part is not None
    assert part.holds
    assert part.slack > tolerance + 2, "500 of the 50,000 images tell little"
    monkeypatch.setattr("senet_convert.deploy.validation.validate.WHOLE_SET", 500)
    whole = run().verdict
    assert whole is not None
    assert (whole.slack, whole.expected, whole.expected_top5) == (tolerance, 3.6, 0.2)
    assert name in whole.source
    asked = run(Wishes(expect_top1=3.0, tolerance=1)).verdict
    assert asked is not None
    assert (asked.expected, asked.slack, asked.holds) == (3.0, 1, True)


def test_a_high_error_is_diagnosed(fed: Callable[..., Model], images: ImageSet) -> None:
    found = validate(fed(color="rgb"), images, Wishes(expect_top1=3.6, sample=100))
    assert found.diagnosis is not None
    assert found.diagnosis.images == 100
    assert found.plain()["undiagnosed"] is None
    assert found.plain()["diagnosis"]["steps"][0]["kind"] == "color"
    assert validate(fed(color="rgb"), images, Wishes(expect_top1=3.6, sample=0)).diagnosis is None
    assert validate(fed(color="rgb"), images, Wishes(sample=0)).diagnosis is None
    assert validate(fed(resize=32), images).diagnosis is None, "nothing is expected, and it is no guessing"


def test_an_error_like_chance_is_diagnosed_without_being_asked(
    model: Model, images: ImageSet, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = replace(images, items=tuple(replace(item, label=(item.label + 1) % 10) for item in images.items))
    found = validate(model, moved.limited(100), Wishes(sample=100))
    assert (found.verdict, found.guessed) == (None, True)
    assert found.diagnosis is not None
    assert found.diagnosis.steps[0].kind == "labels"
    assert found.plain()["no_better_than_chance"] is True
    print_outcome(found, 0)
    assert "the top-1 error is no better than chance" in capsys.readouterr().out
    assert validate(model, images.limited(100)).guessed is False


def test_what_cannot_be_diagnosed_is_measured_still(
    model: Model, images: ImageSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The results come from a journal, the pictures are gone."""
    some = images.limited(30)
    validate(model, some, Wishes(resume=tmp_path / "journal"))
    gone = replace(some, items=tuple(replace(item, read=Path("nowhere").read_bytes) for item in some.items))
    found = validate(model, gone, Wishes(resume=tmp_path / "journal", always=True))
    assert (found.tally.images, found.diagnosis) == (30, None)
    assert found.plain()["undiagnosed"] == "no image of the sample can be used: there is nothing to diagnose on"
    print_outcome(found, 0)
    assert "no diagnosis: no image of the sample" in capsys.readouterr().out


def test_a_diagnosis_may_be_asked_for(model: Model, images: ImageSet) -> None:
    found = validate(model, images.limited(60), Wishes(always=True))
    assert found.diagnosis is not None
    assert found.diagnosis.steps == ()
    assert "None of the" in found.diagnosis.verdict


def test_ten_crops_are_diagnosed_by_one(model: Model, images: ImageSet) -> None:
    """A mirrored digit is none: of ten crops the error is higher, and no fault of the feeding."""
    some = images.limited(60)
    found = validate(model.with_ten_crops(), some, Wishes(always=True, sample=60))
    assert found.diagnosis is not None
    single = validate(model, some).tally.top1_error
    assert found.diagnosis.top1_error == single < found.tally.top1_error
