from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from senet_convert.deploy.images.imagesets import ImageSet, open_set
from senet_convert.deploy.images.loader import Item
from senet_convert.deploy.labels.classes import AS_GIVEN, DEVKIT, SORTED, Classes, renumbering
from senet_convert.deploy.labels.labels import ANCHORS, DEVKIT_FILE
from senet_convert.errors import ConvertError

from ..conftest import paint
from ..labels.test_labels import VALIDATION, devkit
from .test_archives import packed

CLASSES = Classes.ilsvrc2012(DEVKIT)


def labels(found: ImageSet) -> dict[str, int]:
    return {Path(item.name).name: item.label for item in found.items}


def test_a_folder_per_wordnet_id(tmp_path: Path) -> None:
    for index in (0, 7, 999):
        paint(tmp_path / str(CLASSES.wnid(index)) / f"{index}.png", index)
    found = open_set(tmp_path, None, CLASSES, 1000)
    assert labels(found) == {"0.png": 0, "7.png": 7, "999.png": 999}
    assert all(item.read() for item in found.items)


def test_a_folder_per_name(tmp_path: Path) -> None:
    paint(tmp_path / "Kit Fox" / "a.png", 0)
    paint(tmp_path / "2" / "b.png", 2)
    assert labels(open_set(tmp_path, None, CLASSES, 1000)) == {"a.png": 0, "b.png": 2}


def test_folders_that_are_no_classes_are_all_named(tmp_path: Path) -> None:
    for name in ("kit fox", "sparow", "n99999999"):
        paint(tmp_path / name / "a.png", 0)
    with pytest.raises(ConvertError, match=r"2 problems(?s:.*)n99999999(?s:.*)sparow") as caught:
        open_set(tmp_path, None, CLASSES, 1000)
    assert "The model's classes are kit fox" in str(caught.value)


def test_a_model_without_names_says_how_to_get_some(tmp_path: Path) -> None:
    paint(tmp_path / "n01440764" / "a.png", 0)
    with pytest.raises(ConvertError, match="convert it with --labels FILE"):
        open_set(tmp_path, None, Classes(), 1000)


def test_a_flat_folder_needs_a_list(tmp_path: Path) -> None:
    paint(tmp_path / "a.png", 0)
    with pytest.raises(ConvertError, match=r"say what they show: --labels val\.txt"):
        open_set(tmp_path, None, CLASSES, 1000)
    (tmp_path / "val.txt").write_text("a.png 5\ngone.png 6\n")
    found = open_set(tmp_path, tmp_path / "val.txt", CLASSES, 1000)
    assert [(item.name, item.label) for item in found.items] == [("a.png", 5), ("gone.png", 6)]
    with pytest.raises(ConvertError, match="listed, but not there"):
        found.items[1].read()


def test_a_list_for_another_folder(tmp_path: Path) -> None:
    (tmp_path / "val.txt").write_text("gone.png 6\n")
    with pytest.raises(ConvertError, match=r"none of the 1 listed files is in .*; the first is 'gone\.png'"):
        open_set(tmp_path, tmp_path / "val.txt", CLASSES, 1000)


def test_labels_out_of_range(tmp_path: Path) -> None:
    paint(tmp_path / "a.png", 0)
    (tmp_path / "val.txt").write_text("a.png 10\n")
    with pytest.raises(ConvertError, match=r"10 is not among 0\.\.9"):
        open_set(tmp_path, tmp_path / "val.txt", Classes(), 10)


@pytest.fixture
def validation(tmp_path: Path) -> dict[str, bytes]:
    """The first files of the validation set, as the devkit-order network of `thousand` sees them."""
    anchored = zip(VALIDATION, ANCHORS, strict=True)
    return {name: paint(tmp_path / "flat" / name, anchor - 1).read_bytes() for name, anchor in anchored}


@pytest.mark.parametrize("order", [DEVKIT, SORTED])
def test_lists_of_the_validation_set_in_either_order(order: str, tmp_path: Path, validation: dict[str, bytes]) -> None:
    table = renumbering(DEVKIT, order) if order == SORTED else range(1000)
    lines = [f"{name} {table[anchor - 1]}" for name, anchor in zip(VALIDATION, ANCHORS, strict=True)]
    (tmp_path / "val.txt").write_text("\n".join(lines))
    found = open_set(tmp_path / "flat", tmp_path / "val.txt", CLASSES, 1000)
    assert [item.label for item in found.items] == [anchor - 1 for anchor in ANCHORS]
    assert order in found.truth


def test_the_competitions_csv_leaves_the_suffix_away(tmp_path: Path, validation: dict[str, bytes]) -> None:
    (tmp_path / "val.csv").write_text("ImageId,PredictionString\nILSVRC2012_val_00000001,n01751748 1 2 3 4\n")
    found = open_set(tmp_path / "flat", tmp_path / "val.csv", CLASSES, 1000)
    assert [item.label for item in found.items] == [489]
    assert found.items[0].read() == validation[VALIDATION[0]]


def test_the_tar_with_the_devkit_beside_it(tmp_path: Path, validation: dict[str, bytes]) -> None:
    first = dict(list(validation.items())[:2])
    tar = packed(tmp_path / "ILSVRC2012_img_val.tar", dict(reversed(first.items())))
    with pytest.raises(ConvertError, match=DEVKIT_FILE):
        open_set(tar, None, CLASSES, 1000)
    devkit(tmp_path / DEVKIT_FILE)
    found = open_set(tar, None, CLASSES, 1000)
    assert labels(found) == {VALIDATION[0]: 489, VALIDATION[1]: 360}
    assert {item.name: item.read() for item in found.items} == first


def test_ground_truth_must_fit_the_files(tmp_path: Path, validation: dict[str, bytes]) -> None:
    (tmp_path / "truth.txt").write_text("490\n")
    with pytest.raises(ConvertError, match="1 labels for the 16 pictures"):
        open_set(tmp_path / "flat", tmp_path / "truth.txt", CLASSES, 1000)


def test_a_list_finds_its_files_inside_a_tar(tmp_path: Path, validation: dict[str, bytes]) -> None:
    tar = packed(tmp_path / "some.tar", {f"val/{name}": data for name, data in validation.items()})
    (tmp_path / "val.txt").write_text(f"{VALIDATION[3]} n02119789\n")
    (item,) = open_set(tar, tmp_path / "val.txt", CLASSES, 1000).items
    assert (item.label, item.read()) == (0, validation[VALIDATION[3]])


def test_shards(tmp_path: Path) -> None:
    for shard in range(2):
        packed(tmp_path / f"{shard}.tar", {f"{shard}.jpg": b"picture", f"{shard}.cls": str(shard).encode()})
    assert [item.label for item in open_set(tmp_path, None, CLASSES, 1000).items] == [0, 1]
    by_wnid = open_set(tmp_path, None, CLASSES, 1000, "sorted")
    assert CLASSES.wnids[by_wnid.items[0].label] == "n01440764"


def test_shards_with_a_picture_without_a_label(tmp_path: Path) -> None:
    picture = paint(tmp_path / "a.png", 0).read_bytes()
    (tmp_path / "set").mkdir()
    packed(tmp_path / "set" / "s.tar", {"0.png": picture, "0.cls": b"0", "1.png": picture, "2.png": picture})
    with pytest.raises(ConvertError, match=r"set: 2 pictures without a label\. WebDataset shards hold a \.cls"):
        open_set(tmp_path / "set", None, CLASSES, 1000)


@pytest.mark.parametrize("stray", ["old.tar", "old.parquet"])
def test_an_archive_among_pictures_is_passed_over(stray: str, tmp_path: Path) -> None:
    paint(tmp_path / "classes" / "2" / "a.png", 2)
    paint(tmp_path / "flat" / "a.png", 2)
    (tmp_path / "val.txt").write_text("a.png 2\n")
    for folder, listed in (("classes", None), ("flat", tmp_path / "val.txt")):
        if stray.endswith(".tar"):
            packed(tmp_path / folder / stray, {"1.jpg": b"picture", "1.cls": b"1"})
        else:
            parquet.write_table(pa.table({"image": [b"a"], "label": [3]}), tmp_path / folder / stray)
        assert labels(open_set(tmp_path / folder, listed, CLASSES, 1000)) == {"a.png": 2}


def test_hidden_pictures_hide_no_archive(tmp_path: Path) -> None:
    paint(tmp_path / ".cache" / "2" / "a.png", 2)
    packed(tmp_path / "0.tar", {"1.jpg": b"picture", "1.cls": b"1"})
    assert [item.label for item in open_set(tmp_path, None, CLASSES, 1000).items] == [1]


def test_a_listed_name_that_no_file_can_have(tmp_path: Path) -> None:
    paint(tmp_path / "a.png", 5)
    (tmp_path / "val.txt").write_text(f"a.png 5\n{'x' * 300}.png 6\n")
    found = open_set(tmp_path, tmp_path / "val.txt", CLASSES, 1000)
    with pytest.raises(ConvertError, match="listed, but not there"):
        found.items[1].read()


def test_labels_that_only_look_like_numbers(tmp_path: Path) -> None:
    paint(tmp_path / "a.png", 0)
    (tmp_path / "val.txt").write_text("a.png ²\n")
    with pytest.raises(ConvertError, match="label '²': the model has no class '²'"):
        open_set(tmp_path, tmp_path / "val.txt", Classes(), 10)
    found = open_set(tmp_path, tmp_path / "val.txt", Classes(("a", "²"), (), AS_GIVEN), 2)
    assert (labels(found), found.truth) == ({"a.png": 1}, "labels are names or WordNet IDs")


def test_parquet_files(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"image": [b"a", b"b"], "label": [3, 4]}), tmp_path / "a.parquet")
    assert [item.label for item in open_set(tmp_path, None, CLASSES, 1000).items] == [3, 4]
    with pytest.raises(ConvertError, match="leave --labels away"):
        open_set(tmp_path, tmp_path / "a.parquet", CLASSES, 1000)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(ConvertError, match="no such folder"):
        open_set(tmp_path / "gone", None, CLASSES, 1000)
    with pytest.raises(ConvertError, match="holds no pictures"):
        open_set(tmp_path, None, CLASSES, 1000)
    with pytest.raises(ConvertError, match="neither a folder nor an archive"):
        open_set(paint(tmp_path / "a.png", 0), None, CLASSES, 1000)


def test_parts() -> None:
    whole = ImageSet(tuple(Item(str(k), bytes, k) for k in range(10)), "")
    shards = [whole.shard(number, 3) for number in (1, 2, 3)]
    assert [item.label for item in shards[1].items] == [1, 4, 7]
    assert sorted(item.label for shard in shards for item in shard.items) == list(range(10))
    assert [item.label for item in whole.limited(4).items] == [0, 2, 5, 7]
    assert whole.limited(10) == whole
    assert whole.limited(4).part
    assert shards[0].part
    assert not whole.shard(1, 1).part


JUNK = [
    *(".DS_Store", "._.DS_Store", "desktop.ini", ".ipynb_checkpoints/x-checkpoint.png", "@eaDir/x.png/thumb.jpg"),
    *("0/.ipynb_checkpoints/a-checkpoint.png", "0/@eaDir/a.png/SYNOPHOTO_THUMB_M.jpg", "0/._a.png", "0/Thumbs.db"),
    *("__MACOSX/0/._a.png", "0/deep/.cache/b.png"),
]
TOLD = (
    "passed over: 11 hidden or system files: 1 of .DS_Store, 2 of ._*, 1 of .cache, 2 of .ipynb_checkpoints, "
    "2 of @eaDir, 1 of Thumbs.db, 1 of __MACOSX, 1 of desktop.ini"
)


@pytest.fixture
def littered(tmp_path: Path) -> Path:
    """Two pictures of a class, in a hidden folder, among files that nobody means."""
    folder = tmp_path / ".data" / "set"
    for name in ("0/a.png", "0/deep/b.png", *JUNK):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x" if name in JUNK else paint(tmp_path / "x.png", 0).read_bytes())
    return folder


def test_hidden_and_system_files_are_passed_over_and_told_once(littered: Path) -> None:
    found = open_set(littered, None, Classes(), 10)
    assert [(item.name, item.label) for item in found.items] == [("0/a.png", 0), ("0/deep/b.png", 0)]
    assert found.passed == TOLD
    assert found.shard(1, 2).passed == found.passed


def test_hidden_files_count_in_no_list(littered: Path) -> None:
    (littered / "val.txt").write_text("3\n4\n")
    found = open_set(littered, littered / "val.txt", CLASSES, 1000)
    assert sorted(labels(found)) == ["a.png", "b.png"]
    assert "of @eaDir" in found.passed


def test_among_hidden_pictures_archives_are_still_found(tmp_path: Path) -> None:
    shards = tmp_path / "shards"
    shards.mkdir()
    paint(shards / "@eaDir" / "x.png", 0)
    (shards / "._a.tar").write_bytes(b"of a Mac")
    packed(shards / "a.tar", {"1.png": b"x", "1.cls": b"3"})
    assert labels(open_set(shards, None, Classes(), 10)) == {"1": 3}
