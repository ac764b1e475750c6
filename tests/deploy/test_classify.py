from __future__ import annotations

from pathlib import Path

import pytest

from senet_convert.deploy.classify import Answer, classify, pictures
from senet_convert.deploy.images.passed_over import PassedOver
from senet_convert.deploy.model import Model
from senet_convert.errors import ConvertError

from .conftest import paint


def test_files_folders_and_listed_paths(tmp_path: Path) -> None:
    for name in ("b.png", "a.png", "deep/c.png"):
        paint(tmp_path / "folder" / name, 1)
    one, listed = paint(tmp_path / "one.png", 1), paint(tmp_path / "with space.png", 1)
    found = pictures([str(one), "-", str(tmp_path / "folder")], [f"{listed}\n", "\n"])
    assert [str(path.relative_to(tmp_path)) for path in found] == [
        "one.png",
        "with space.png",
        "folder/a.png",
        "folder/b.png",
        "folder/deep/c.png",
    ]


def test_hidden_and_system_files_of_folders_are_passed_over(tmp_path: Path) -> None:
    folder = tmp_path / ".pictures"
    for name in ("a.png", "._a.png", ".ipynb_checkpoints/a.png", "@eaDir/a.png/x.jpg", "d/__MACOSX/._a.png"):
        paint(folder / name, 1)
    passed = PassedOver()
    assert pictures([str(folder), str(folder / "._a.png")], (), passed) == [folder / "a.png", folder / "._a.png"]
    assert str(passed) == (
        "passed over: 4 hidden or system files: 1 of ._*, 1 of .ipynb_checkpoints, 1 of @eaDir, 1 of __MACOSX"
    )


def test_all_that_cannot_be_pictures_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConvertError) as caught:
        pictures(["https://example.com/a.png", str(tmp_path / "gone.png"), str(tmp_path), "/dev/zero"])
    for words in (
        "https://example.com/a.png: addresses are not fetched",
        "gone.png: there is no such file",
        "no pictures",
        "/dev/zero: it is a device, not a file",
    ):
        assert words in str(caught.value)
    with pytest.raises(ConvertError, match="none came"):
        pictures(["-"], ["\n"])


def test_answers_come_in_the_order_asked(thousand: Model, tmp_path: Path) -> None:
    numbers = [999, 3, 500, 3, 42]
    paths = [paint(tmp_path / f"{at}.png", number) for at, number in enumerate(numbers)]
    paths.insert(2, tmp_path / "torn.png")
    paths[2].write_bytes(b"nonsense")
    found = list(classify(thousand, paths, top=2, batch=2))
    assert [answer.image for answer in found] == [str(path) for path in paths]
    assert [answer.top[0][0] for answer in found if not answer.fault] == numbers
    assert [answer.fault is not None for answer in found] == [False, False, True, False, False, False]
    assert all(len(answer.top) == 2 for answer in found if not answer.fault)


def test_an_answer_as_plain_data(thousand: Model) -> None:
    order = "ILSVRC2012 devkit ID minus one"
    label = {"index": 0, "label": "kit fox, Vulpes macrotis", "wnid": "n02119789", "probability": 0.75}
    assert Answer("a.png", ((0, 0.75),)).plain(thousand) == {
        "image": "a.png",
        "top": [label],
        "class_order": order,
        "assumed": None,
    }
    assert Answer("b.png", (), "torn").plain(thousand)["error"] == "torn"


def test_more_classes_than_there_are(model: Model, digits: Path) -> None:
    (found,) = classify(model, [digits / "images" / "digits_val_00000001.png"], top=50)
    assert sorted(index for index, _ in found.top) == list(range(10))
    assert sum(probability for _, probability in found.top) == pytest.approx(1, abs=1e-5)
