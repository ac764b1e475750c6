from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from senet_convert import bundle
from senet_convert.errors import ConvertError


def contents(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def make(folder: Path, name: str = "new", force: bool = False) -> None:
    with bundle.writing(folder, force) as temporary:
        bundle.write_report(temporary, {"tool": {"name": bundle.TOOL}, "name": name})


def name_of(folder: Path) -> Any:
    return bundle.read_report(folder)["name"]


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
    assert name_of(tmp_path / "net") == "new"
    assert contents(tmp_path) == ["net"]


def test_force_keeps_the_old_bundle_when_the_new_one_fails(tmp_path: Path) -> None:
    make(tmp_path / "net", "old")
    with pytest.raises(ValueError, match="x"), bundle.writing(tmp_path / "net", force=True):
        raise ValueError("x")
    assert name_of(tmp_path / "net") == "old"
    assert contents(tmp_path) == ["net"]


def test_force_leaves_other_things_alone(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.png").touch()
    (tmp_path / "file").touch()
    for name in ("photos", "file"):
        with pytest.raises(ConvertError, match="leaves it alone"), bundle.writing(tmp_path / name, force=True):
            pass
    assert contents(tmp_path / "photos") == ["cat.png"]


@pytest.mark.parametrize("report", ['{"coverage": 93}', "[]", '{"tool": "x"}', '{"tool": {"name": "pytest"}}', "{"])
def test_force_leaves_another_programs_report_alone(report: str, tmp_path: Path) -> None:
    (tmp_path / bundle.REPORT).write_text(report)
    with pytest.raises(ConvertError, match=r"no report\.json says that senet-convert wrote it.*leaves it alone"):
        make(tmp_path, force=True)
    assert (tmp_path / bundle.REPORT).read_text() == report


def test_force_leaves_a_bundle_with_other_things_in_it_alone(tmp_path: Path) -> None:
    make(tmp_path / "net")
    (tmp_path / "net" / "thesis.tex").touch()
    (tmp_path / "net" / bundle.WEIGHTS).mkdir()
    with pytest.raises(ConvertError, match=r"not write \(model\.safetensors, thesis\.tex\), so --force leaves"):
        make(tmp_path / "net", force=True)
    assert contents(tmp_path / "net") == [bundle.WEIGHTS, bundle.REPORT, "thesis.tex"]


def test_force_replaces_an_empty_folder_and_a_whole_bundle(tmp_path: Path) -> None:
    make(tmp_path, force=True)
    for name in bundle.NAMES - {bundle.REPORT}:
        (tmp_path / name).touch()
    make(tmp_path, "again", force=True)
    assert (name_of(tmp_path), contents(tmp_path)) == ("again", [bundle.REPORT])


def test_what_comes_there_meanwhile_is_kept(tmp_path: Path) -> None:
    with pytest.raises(ConvertError, match="exists already"), bundle.writing(tmp_path / "net"):
        make(tmp_path / "net", "faster")
    with pytest.raises(ConvertError, match="leaves it alone"), bundle.writing(tmp_path / "net", force=True):
        (tmp_path / "net" / "notes").touch()
    assert name_of(tmp_path / "net") == "faster"
    with pytest.raises(ConvertError, match="exists already"), bundle.writing_files([tmp_path / "a"]) as (place,):
        place.touch()
        (tmp_path / "a").write_text("faster")
    assert (tmp_path / "a").read_text() == "faster"
    assert contents(tmp_path) == ["a", "net"]


def failing(monkeypatch: pytest.MonkeyPatch, place: Path, meanwhile: str | None) -> None:
    """What is written cannot be renamed to `place`; with `meanwhile`, as something of that name has come there."""
    rename = Path.rename

    def faulty(path: Path, target: Path) -> Path:
        if target == place and path.parent.name.endswith(".partial") | path.name.endswith(".partial"):
            if meanwhile:
                place.mkdir()
                (place / meanwhile).touch()
            raise PermissionError(errno.EACCES, "Permission denied")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", faulty)


def test_the_old_bundle_comes_back_when_it_cannot_be_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "net", "old")
    failing(monkeypatch, tmp_path / "net", None)
    with pytest.raises(ConvertError, match="net: cannot be written: Permission denied"):
        make(tmp_path / "net", "new", force=True)
    assert name_of(tmp_path / "net") == "old"
    assert contents(tmp_path) == ["net"]


def test_an_old_bundle_that_cannot_come_back_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "net", "old")
    failing(monkeypatch, tmp_path / "net", "other")
    with pytest.raises(ConvertError, match=r"net: cannot be replaced \(Permission denied\).*is kept in .*\.old: move"):
        make(tmp_path / "net", "new", force=True)
    (old,) = tmp_path.glob(".*.old")
    assert name_of(old / "net") == "old"
    assert contents(tmp_path / "net") == ["other"]
    assert contents(tmp_path) == [old.name, "net"]


def test_names_that_no_file_can_have(tmp_path: Path) -> None:
    for write in (make, write_both):
        for place in (tmp_path / ("x" * 300), tmp_path / ("x" * 300) / "net"):
            with pytest.raises(ConvertError, match="cannot be written: File name too long"):
                write(place)
    with pytest.raises(ConvertError, match="File name too long"):
        bundle.refuse_taken(tmp_path / ("x" * 300), force=False)
    make(tmp_path / ("x" * 255))
    assert contents(tmp_path) == ["x" * 255]


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


@pytest.mark.parametrize("text", ["[]", "null", "{", "[" * 100_000])
def test_a_report_is_an_object(text: str, tmp_path: Path) -> None:
    (tmp_path / bundle.REPORT).write_text(text)
    with pytest.raises(ConvertError, match="not a bundle"):
        bundle.read_report(tmp_path)
    assert bundle.own_report(tmp_path) is None


def test_a_report_of_our_own(tmp_path: Path) -> None:
    assert bundle.own_report(tmp_path) is None
    make(tmp_path / "net")
    assert bundle.own_report(tmp_path / "net") == json.loads((tmp_path / "net" / bundle.REPORT).read_text())


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


def test_an_old_file_that_cannot_come_back_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("old")
    failing(monkeypatch, tmp_path / "b.txt", "other")
    with pytest.raises(ConvertError, match=r"is kept in .*\.old: move it back by hand"):
        write_both(tmp_path, force=True)
    (old,) = tmp_path.glob(".*.old")
    assert contents(old) == ["b.txt"]
    assert [(tmp_path / "a.txt").read_text(), (old / "b.txt").read_text()] == ["old", "old"]


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(**_: object) -> str:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("tempfile.mkdtemp", denied)
    with pytest.raises(ConvertError, match=r"a\.txt: cannot be written: Permission denied"):
        write_both(tmp_path / "x")
    assert contents(tmp_path) == []
