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
