from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner

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


def test_the_demo_spares_a_folder_that_is_not_its_own(tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "mine.txt").touch()
    done = CliRunner().invoke(main, ["demo", "-o", str(tmp_path / "demo")])
    assert done.exit_code == 1
    assert [path.name for path in (tmp_path / "demo").iterdir()] == ["mine.txt"]
