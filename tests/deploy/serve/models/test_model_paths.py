"""Where models lie."""

from __future__ import annotations

from pathlib import Path

import pytest

from senet_convert.deploy.serve.models.model_paths import ModelPath, parse, scan, signature
from senet_convert.errors import ConvertError


def onnx(path: Path, text: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_bundle_a_file_and_a_folder_of_versions(tmp_path: Path) -> None:
    bundle = onnx(tmp_path / "net" / "model.onnx")
    bare = onnx(tmp_path / "bare.onnx")
    for version in ("10", "9", "x", ".1"):
        onnx(tmp_path / "many" / version / "model.onnx")
    (tmp_path / "many" / "11").mkdir()
    assert parse(str(tmp_path / "net")).versions() == {"1": bundle}
    assert parse(str(bundle)).versions() == {"1": bundle}
    assert parse(str(bare)).versions() == {"1": bare}
    many = parse(str(tmp_path / "many"))
    assert list(many.versions().items()) == [
        (number, tmp_path / "many" / number / "model.onnx") for number in ("9", "10")
    ]


def test_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    onnx(tmp_path / "net" / "model.onnx")
    onnx(tmp_path / "bare.onnx")
    onnx(tmp_path / "a=b" / "model.onnx")
    assert parse(str(tmp_path / "net")).name == "net"
    assert parse(str(tmp_path / "net" / "model.onnx")).name == "net"
    assert parse(str(tmp_path / "bare.onnx")).name == "bare"
    assert parse(f"other={tmp_path / 'net'}").name == "other"
    assert parse(str(tmp_path / "a=b")).name == "a=b"
    monkeypatch.chdir(tmp_path / "net")
    assert parse(".").name == "net"


@pytest.mark.parametrize("word", ["nothing", "name=nothing"])
def test_where_nothing_is_the_message_says_what_to_give(tmp_path: Path, word: str) -> None:
    with pytest.raises(ConvertError, match="no model is there; give a folder that senet-convert wrote"):
        parse(word.replace("nothing", str(tmp_path / "nothing")))


def test_a_name_has_no_slash(tmp_path: Path) -> None:
    onnx(tmp_path / "net" / "model.onnx")
    with pytest.raises(ConvertError, match="'a/b' is no name for a model"):
        parse(f"a/b={tmp_path / 'net'}")


def test_a_repository_is_its_folders_with_models(tmp_path: Path) -> None:
    onnx(tmp_path / "b" / "2" / "model.onnx")
    onnx(tmp_path / "a" / "model.onnx")
    onnx(tmp_path / ".hidden" / "model.onnx")
    onnx(tmp_path / "loose.onnx")
    (tmp_path / "empty").mkdir()
    assert list(scan(tmp_path)) == ["a", "b"]
    with pytest.raises(ConvertError, match="a repository is a folder of models"):
        scan(tmp_path / "nothing")


@pytest.mark.parametrize("link", ["model", "version", "file"])
def test_links_do_not_lead_out_of_a_repository(tmp_path: Path, link: str) -> None:
    outside = onnx(tmp_path / "outside" / "1" / "model.onnx")
    root = tmp_path / "root"
    onnx(root / "good" / "model.onnx")
    (root / "bad" / "1").mkdir(parents=True)
    if link == "model":
        (root / "bad").rename(root / ".old")
        (root / "bad").symlink_to(outside.parents[1])
    elif link == "version":
        (root / "bad" / "1").rmdir()
        (root / "bad" / "1").symlink_to(outside.parent)
    else:
        (root / "bad" / "1" / "model.onnx").symlink_to(outside)
    found = scan(root)
    assert found["good"].versions() == {"1": root / "good" / "model.onnx"}
    with pytest.raises(ConvertError, match="leads out of the repository"):
        found["bad"].versions()


def test_links_within_a_repository_are_fine(tmp_path: Path) -> None:
    onnx(tmp_path / "net" / "1" / "model.onnx")
    (tmp_path / "net" / "2").symlink_to(tmp_path / "net" / "1")
    assert list(scan(tmp_path)["net"].versions()) == ["1", "2"]


def test_what_is_named_on_the_command_line_may_be_a_link(tmp_path: Path) -> None:
    onnx(tmp_path / "net" / "model.onnx")
    (tmp_path / "current").symlink_to(tmp_path / "net")
    assert ModelPath("net", tmp_path / "current").versions() == {"1": tmp_path / "current" / "model.onnx"}


def test_a_signature_changes_with_the_files(tmp_path: Path) -> None:
    file = onnx(tmp_path / "model.onnx", "one")
    seen = [signature(file)]
    onnx(tmp_path / "model.onnx", "three")
    seen.append(signature(file))
    onnx(tmp_path / "model.onnx.data")
    seen.append(signature(file))
    onnx(tmp_path / "report.json")
    seen.append(signature(file))
    onnx(tmp_path / "new.onnx", "three").rename(file)
    seen.append(signature(file))
    assert len(set(seen)) == 5
    assert signature(file) == seen[-1]
    file.unlink()
    assert signature(file) == ()
