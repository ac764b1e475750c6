from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

import pytest

from senet_convert.deploy.labels import labels as room
from senet_convert.deploy.labels.classes import AS_GIVEN, DEVKIT, SORTED, Classes, renumbering
from senet_convert.deploy.labels.labels import ANCHORS, Listed, numbering, read, recognise
from senet_convert.errors import ConvertError

VALIDATION = [f"ILSVRC2012_val_{number:08d}.JPEG" for number in range(1, len(ANCHORS) + 1)]
DEVKIT_LIST = [(name, str(anchor - 1)) for name, anchor in zip(VALIDATION, ANCHORS, strict=True)]
SORTED_LIST = [(name, str(renumbering(DEVKIT, SORTED)[int(label)])) for name, label in DEVKIT_LIST]


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("a.png 3\nb c.png 4\n\n", [("a.png", "3"), ("b c.png", "4")]),
        ("a.png\tgreat white shark\n", [("a.png", "great white shark")]),
        ("n01440764/a.JPEG n01440764\n", [("n01440764/a.JPEG", "n01440764")]),
        ("file,label\na.png,3\n", [("a.png", "3")]),
        ("a.png,3\n", [("a.png", "3")]),
        ("ImageId,PredictionString\nx_1,n03995372 85 1 499 272 \n", [("x_1", "n03995372")]),
    ],
)
def test_lists(text: str, pairs: list[tuple[str, str]], tmp_path: Path) -> None:
    found = read(written(tmp_path / "val.txt", text))
    assert found == Listed(tuple(pairs))
    assert found.named


def test_ground_truth_counts_from_one(tmp_path: Path) -> None:
    assert read(written(tmp_path / "truth.txt", "490\n361\n")) == Listed(((None, "489"), (None, "360")), 1)


@pytest.mark.parametrize("text", ["a.png 3\n", "file,label\na.png,3\n"])
def test_a_mark_of_the_byte_order_is_no_part_of_a_list(text: str, tmp_path: Path) -> None:
    (tmp_path / "val.txt").write_text(text, encoding="utf-8-sig")
    assert read(tmp_path / "val.txt").pairs == (("a.png", "3"),)


def test_gzipped_lists(tmp_path: Path) -> None:
    (tmp_path / "val.txt.gz").write_bytes(gzip.compress(b"a.png 3\n"))
    assert read(tmp_path / "val.txt.gz").pairs == (("a.png", "3"),)


def devkit(path: Path, member: str = "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt") -> Path:
    with tarfile.open(path, "w:gz") as tar:
        info = tarfile.TarInfo(member)
        info.size = 8
        tar.addfile(info, io.BytesIO(b"490\n361\n"))
    return path


def test_the_devkits_archive(tmp_path: Path) -> None:
    assert read(devkit(tmp_path / "devkit.tar.gz")).pairs == ((None, "489"), (None, "360"))
    with pytest.raises(ConvertError, match=r"holds no ILSVRC2012_validation_ground_truth\.txt"):
        read(devkit(tmp_path / "other.tar.gz", "readme.txt"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no labels"),
        ("file,label\n", "no labels"),
        ("a.png 3\nb.png\n", r"line 2: 'b\.png' is not 'file label'"),
        ("a.png,3\n\nb.png\nc.png,4\n,5\nd.png,\n", "3 problems.*line 3: 'b.png' is.*line 5: ',5'.*line 6: 'd.png,'"),
        ('a.png,3\n"b.png,4\nc.png,5\n', "line 3: .* is not 'file,label'"),
        (f"a.png,{'x' * 200_000}\n", "cannot be read as CSV: field larger"),
    ],
)
def test_lists_that_are_none(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ConvertError, match=f"(?s){said}"):
        read(written(tmp_path / "val.txt", text))


def test_signs_that_only_look_like_numbers(tmp_path: Path) -> None:
    assert read(written(tmp_path / "val.txt", "a ²\nb --5\n")).pairs == (("a", "²"), ("b", "--5"))
    with pytest.raises(ConvertError, match="line 1: '²' is not 'file label'"):
        read(written(tmp_path / "val.txt", "²\n²\n"))
    assert recognise([(VALIDATION[0], "²")]) is None
    for classes in (Classes(), Classes.ilsvrc2012(DEVKIT)):
        numbers = numbering(Listed((("a", "²"),)), classes, 1000)
        for label in ("²", "--5", "-"):
            with pytest.raises(LookupError):
                numbers.index(label)
        with pytest.raises(LookupError, match="-5 is not among"):
            numbers.index("-5")
        assert numbers.index("٣") == 3


def test_bytes_that_are_no_list(tmp_path: Path) -> None:
    (tmp_path / "val.txt").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(ConvertError, match=r"val\.txt: cannot be read as a list"):
        read(tmp_path / "val.txt")


def test_lists_of_the_validation_files_tell_their_order() -> None:
    assert recognise(DEVKIT_LIST) == DEVKIT
    assert recognise(SORTED_LIST) == SORTED
    assert recognise([("x.png", "489")]) is None
    assert recognise([DEVKIT_LIST[0], SORTED_LIST[1]]) is None


@pytest.mark.parametrize("model", [DEVKIT, SORTED])
@pytest.mark.parametrize("pairs", [DEVKIT_LIST, SORTED_LIST])
def test_any_known_list_fits_any_known_model(model: str, pairs: list[tuple[str, str]]) -> None:
    classes = Classes.ilsvrc2012(model)
    numbers = numbering(Listed(tuple(pairs)), classes, 1000)
    meant = [Classes.ilsvrc2012(DEVKIT).wnids[anchor - 1] for anchor in ANCHORS]
    assert [classes.wnids[numbers.index(label)] for _, label in pairs] == meant


def test_ground_truth_fits_a_sorted_model() -> None:
    classes = Classes.ilsvrc2012(SORTED)
    assert classes.wnids[numbering(Listed(((None, "0"),), 1), classes, 1000).index("0")] == "n02119789"


def test_an_order_may_be_asked_for() -> None:
    listed, classes = Listed((("a.png", "0"),)), Classes.ilsvrc2012(DEVKIT)
    assert numbering(listed, classes, 1000).index("0") == 0
    assert numbering(listed, classes, 1000, "model").index("0") == 0
    assert classes.wnids[numbering(listed, classes, 1000, "sorted").index("0")] == "n01440764"


def test_an_order_needs_a_model_that_knows_its_classes() -> None:
    with pytest.raises(ConvertError, match="--labels devkit or --labels sorted"):
        numbering(Listed(((None, "0"),), 1), Classes(), 1000)
    with pytest.raises(ConvertError, match="speaks devkit IDs"):
        numbering(Listed(((None, "0"),), 1), Classes.ilsvrc2012(DEVKIT), 1000, "sorted")


def test_labels_may_be_names_or_numbers() -> None:
    numbers = numbering(Listed((("a", "two"),)), Classes(("one", "two"), (), AS_GIVEN), 2)
    assert (numbers.index("two"), numbers.index("1")) == (1, 1)
    with pytest.raises(LookupError, match=r"not among 0\.\.1; the numbers count from 0"):
        numbers.index("2")
    with pytest.raises(LookupError, match="no class 'three'"):
        numbers.index("three")


def test_a_list_that_grows_without_measure_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_MOST_BYTES", 1000)
    for name, data in (("a.txt", b"1\n" * 600), ("b.txt", gzip.compress(b"1\n" * 600))):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ConvertError, match=r"more than 1,000 bytes; no list of labels is that long"):
            room.read(tmp_path / name)
