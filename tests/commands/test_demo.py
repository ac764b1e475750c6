from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from senet_convert import bundle
from senet_convert.cli import main


def test_the_demo_reproduces_caffe(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["demo", "-o", str(tmp_path / "demo"), "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["images"] == 500
    assert found["top1_error"] == found["caffe_top1_error"] == 3.6
    assert found["top5_error"] == found["caffe_top5_error"] == 0.2
    assert found["difference"] < 1e-5
    assert found["report"]["verdict"] == "passed"
    assert found["report"]["network"]["family"] == "SE-ResNet"
    again = CliRunner().invoke(main, ["demo", "-o", str(tmp_path / "demo")])
    assert again.exit_code == 0
    assert "senet-convert YOUR.caffemodel" in again.stderr


OURS = {"name": bundle.TOOL}


@pytest.mark.parametrize(
    ("report", "force", "said"),
    [
        ({"coverage": 93}, True, "no report.json says that senet-convert wrote it"),
        ({"coverage": 93}, False, "replace it with --force"),
        ({"tool": OURS}, False, "replace it with --force"),
        ({"tool": OURS, "sources": [{"sha256": "0" * 64}]}, False, "replace it with --force"),
    ],
)
def test_the_demo_spares_a_folder_that_is_not_its_own(
    report: dict[str, object], force: bool, said: str, tmp_path: Path
) -> None:
    bundle.write_report(tmp_path, report)
    (tmp_path / bundle.WEIGHTS).write_text("precious")
    done = CliRunner().invoke(main, ["demo", "-o", str(tmp_path), *["--force"] * force])
    assert done.exit_code == 1
    assert said in done.stderr
    assert (tmp_path / bundle.WEIGHTS).read_text() == "precious"


def test_the_demo_replaces_another_bundle_if_asked(tmp_path: Path) -> None:
    bundle.write_report(tmp_path, {"tool": OURS})
    done = CliRunner().invoke(main, ["demo", "-o", str(tmp_path), "--force", "-q"])
    assert done.exit_code == 0, done.output
    assert bundle.read_report(tmp_path)["network"]["family"] == "SE-ResNet"
