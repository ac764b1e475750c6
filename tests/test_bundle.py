from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from senet_convert import bundle
from senet_convert.errors import ConvertError


def contents(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def make(folder: Path, text: str = "{}", force: bool = False) -> None:
    with bundle.writing(folder, force) as temporary:
        (temporary / bundle.REPORT).write_text(text)


def test_a_bundle_appears_whole(tmp_path: Path) -> None:
    with bundle.writing(tmp_path / "a" / "net") as temporary:
        (temporary / bundle.REPORT).write_text("{}")
        assert not (tmp_path / "a" / "net").exists()
    assert contents(tmp_path / "a") == ["net"]
    assert contents(tmp_path / "a" / "net") == [bundle.REPORT]


def test_permissions_are_those_of_ordinary_files(tmp_path: Path) -> None:
    with bundle.writing(tmp_path / "net") as temporary:
        (temporary / bundle.REPORT).touch(mode=0o600)
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "file").touch()
    for made, plain in (("net", "plain"), ("net/report.json", "plain/file")):
        assert (tmp_path / made).stat().st_mode == (tmp_path / plain).stat().st_mode


@pytest.mark.parametrize("fault", [ValueError("x"), KeyboardInterrupt(), SystemExit(143), ConvertError("x")])
def test_nothing_stays_after_a_fault(tmp_path: Path, fault: BaseException) -> None:
    with pytest.raises(type(fault)), bundle.writing(tmp_path / "new" / "deep" / "net") as temporary:
        (temporary / bundle.ONNX).write_bytes(b"half")
        raise fault
    assert contents(tmp_path) == []


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConvertError, match="disk is full"), bundle.writing(tmp_path / "net"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert contents(tmp_path) == []


def test_an_existing_folder_is_kept(tmp_path: Path) -> None:
    make(tmp_path / "net", "old")
    with pytest.raises(ConvertError, match="--force"), bundle.writing(tmp_path / "net"):
        pass
    make(tmp_path / "net", "new", force=True)
    assert (tmp_path / "net" / bundle.REPORT).read_text() == "new"
    assert contents(tmp_path) == ["net"]


def test_force_keeps_the_old_bundle_when_the_new_one_fails(tmp_path: Path) -> None:
    make(tmp_path / "net", "old")
    with pytest.raises(ValueError, match="x"), bundle.writing(tmp_path / "net", force=True):
        raise ValueError("x")
    assert (tmp_path / "net" / bundle.REPORT).read_text() == "old"
    assert contents(tmp_path) == ["net"]


def test_force_leaves_other_things_alone(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.png").touch()
    (tmp_path / "file").touch()
    for name in ("photos", "file"):
        with pytest.raises(ConvertError, match="leaves it alone"), bundle.writing(tmp_path / name, force=True):
            pass
    assert contents(tmp_path / "photos") == ["cat.png"]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConvertError, match="cannot be written"), bundle.writing(tmp_path / "file" / "net"):
        pass


def test_reports_are_read_back(tmp_path: Path) -> None:
    with bundle.writing(tmp_path / "net") as temporary:
        bundle.write_report(temporary, {"name": "Müller"})
    assert bundle.read_report(tmp_path / "net") == {"name": "Müller"}
    with pytest.raises(ConvertError, match="not a bundle"):
        bundle.read_report(tmp_path)


# ---- single files ----------------------------------------------------------------------------------------------------


def write_both(folder: Path, text: str = "new", force: bool = False) -> None:
    with bundle.writing_files([folder / "a.txt", folder / "b.txt"], force) as places:
        for place in places:
            place.write_text(text)
        assert not (folder / "a.txt").exists() or (folder / "a.txt").read_text() == "old"


def test_files_appear_together(tmp_path: Path) -> None:
    write_both(tmp_path / "x" / "y")
    assert contents(tmp_path / "x" / "y") == ["a.txt", "b.txt"]
    (tmp_path / "plain").touch()
    assert (tmp_path / "x" / "y" / "a.txt").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_files_are_replaced_by_force_only(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_text("old")
    with pytest.raises(ConvertError, match=r"b\.txt: it exists already"):
        write_both(tmp_path)
    assert contents(tmp_path) == ["b.txt"]
    write_both(tmp_path, force=True)
    assert [(tmp_path / name).read_text() for name in contents(tmp_path)] == ["new", "new"]
    (tmp_path / "a.txt").unlink()
    (tmp_path / "a.txt").mkdir()
    with pytest.raises(ConvertError, match=r"a\.txt: it is not a file"):
        write_both(tmp_path, force=True)


@pytest.mark.parametrize("fault", [ValueError("x"), KeyboardInterrupt(), ConvertError("x")])
def test_no_file_stays_after_a_fault(tmp_path: Path, fault: BaseException) -> None:
    with pytest.raises(type(fault)), bundle.writing_files([tmp_path / "x" / "a.txt"]) as (place,):
        place.write_text("half")
        raise fault
    assert contents(tmp_path) == []


def test_old_files_come_back_when_one_cannot_be_replaced(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("old")
    wanted = [tmp_path / name for name in ("a.txt", "b.txt", "c.txt")]
    with pytest.raises(ConvertError, match="cannot be written"), bundle.writing_files(wanted, force=True) as places:
        for place in places[:2]:  # the third is missing
            place.write_text("new")
    assert contents(tmp_path) == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "old"


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(**_: object) -> str:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("tempfile.mkdtemp", denied)
    with pytest.raises(ConvertError, match=r"a\.txt: cannot be written: Permission denied"):
        write_both(tmp_path / "x")
    assert contents(tmp_path) == []
