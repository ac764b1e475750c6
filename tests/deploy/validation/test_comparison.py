from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from senet_convert.deploy.images.imagesets import ImageSet
from senet_convert.deploy.images.loader import Item
from senet_convert.deploy.model import Model
from senet_convert.deploy.validation.comparison import Agreement, Pair
from senet_convert.deploy.validation.journal import fingerprint
from senet_convert.deploy.validation.validate import Wishes, validate
from senet_convert.errors import ConvertError


def engine(model: Model, name: str, change: Callable[[NDArray[Any]], NDArray[Any]] = lambda values: values) -> Model:
    """The session itself under another name, with its probabilities changed."""
    return model.with_engine(name, lambda batch: change(model.probabilities(batch)))


def test_a_pair_counts_what_is_alike() -> None:
    pair = Pair(("a", "b"))
    pair.add(np.array([[0.2, 0.8], [0.9, 0.1]], np.float32), np.array([[0.4, 0.6], [0.3, 0.7]], np.float32))
    pair.add(np.array([[1, 0]], np.float32), np.array([[1, 0]], np.float32))
    assert (pair.images, pair.same_top1) == (3, 2)
    assert pair.difference == pytest.approx(0.6)
    assert pair.plain()["engines"] == ["a", "b"]


def test_engines_side_by_side(model: Model, images: ImageSet) -> None:
    others = [engine(model, "same"), engine(model, "turned", lambda values: np.roll(values, 1, axis=1))]
    found = validate(model, images.limited(60), Wishes(batch=25), others=others)
    alone = validate(model, images.limited(60))
    assert found.tally == alone.tally
    plain = found.plain()
    assert [row["engine"] for row in plain["engines"]] == ["onnx", "same", "turned"]
    assert [row["top1_wrong"] for row in plain["engines"][:2]] == [alone.tally.top1_wrong] * 2
    assert plain["engines"][2]["top1_wrong"] > 50
    pairs = {tuple(pair["engines"]): pair for pair in plain["agreement"]}
    assert pairs["onnx", "same"]["same_top1"] == 60
    assert pairs["onnx", "same"]["max_probability_difference"] == 0
    assert pairs["same", "turned"]["same_top1"] == 0
    assert pairs["same", "turned"]["images"] == 60
    assert (alone.plain()["engines"], alone.plain()["agreement"]) == ([], [])


def test_broken_pictures_are_in_no_engines_count(model: Model, images: ImageSet) -> None:
    broken = replace(images, items=(Item("torn.png", lambda: b"nonsense", 0), *images.items[:4]))
    found = validate(model, broken, Wishes(batch=1), others=[engine(model, "same")]).plain()
    assert (found["broken"], found["agreement"][0]["images"], found["engines"][1]["images"]) == (1, 4, 4)


def test_another_engine_computes_in_the_sessions_place(model: Model, images: ImageSet, tmp_path: Path) -> None:
    ran: list[int] = []

    def compute(batch: NDArray[Any]) -> NDArray[Any]:
        ran.append(len(batch))
        return np.zeros((len(batch), 10), np.float32)

    other = model.with_engine("other", compute)
    found = validate(other, images.limited(10), Wishes(resume=tmp_path / "journal")).plain()
    assert (ran, found["engine"], found["provider"], found["top1_wrong"]) == ([10], "other", "cpu", 9)
    assert other.computed_by == "other on cpu"
    assert fingerprint(other, images.items) != fingerprint(model, images.items)
    with pytest.raises(ConvertError, match="belongs to a run with other engine"):
        validate(model, images.limited(10), Wishes(resume=tmp_path / "journal"))


def test_an_engine_that_is_not_finite_is_named(model: Model, images: ImageSet) -> None:
    other = engine(model, "other", lambda values: values * np.nan)
    with pytest.raises(ConvertError, match="by the engine 'other' is not finite"):
        validate(model, images.limited(3), others=[other])


def test_a_journal_holds_one_engine(model: Model, images: ImageSet, tmp_path: Path) -> None:
    with pytest.raises(ConvertError, match="a journal holds the results of one engine"):
        validate(model, images, Wishes(resume=tmp_path / "journal"), others=[engine(model, "same")])
    assert not (tmp_path / "journal").exists()


def test_agreement_gives_the_first_engines_probabilities(model: Model) -> None:
    batch = np.zeros((2, 3, 32, 32), np.float32)
    agreement = Agreement([model, engine(model, "turned", lambda values: np.roll(values, 1, axis=1))])
    assert np.array_equal(agreement.probabilities(["a", "b"], [0, 1], batch), model.probabilities(batch))
    assert all(seconds > 0 for seconds in agreement.seconds.values())
