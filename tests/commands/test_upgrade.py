from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner, Result

from senet_convert.cli import main
from tests.paths import GOLDEN

LEGACY = GOLDEN / "legacy_v1"


def invoke(*args: object) -> Result:
    return CliRunner().invoke(main, ["upgrade", *(str(arg) for arg in args)])


def test_both_files_are_written_side_by_side(tmp_path: Path) -> None:
    out = tmp_path / "new" / "net.caffemodel"
    done = invoke(LEGACY / "net.caffemodel", "--prototxt", LEGACY / "deploy.prototxt", "-o", out)
    assert done.exit_code == 0, done.output
    assert done.stderr == f"{out} and {out.with_suffix('.prototxt')}: 13 layers, 8 blobs\n"
    assert sorted(path.name for path in out.parent.iterdir()) == ["net.caffemodel", "net.prototxt"]
    assert 'type: "Convolution"' in out.with_suffix(".prototxt").read_text()
    quiet = invoke(LEGACY / "deploy.prototxt", "-o", tmp_path / "net.prototxt", "-q")
    assert (quiet.exit_code, quiet.output) == (0, "")


def test_files_are_replaced_only_by_force(tmp_path: Path) -> None:
    (tmp_path / "net.prototxt").write_text("mine")
    both = (LEGACY / "net.caffemodel", "--prototxt", LEGACY / "deploy.prototxt", "-o", tmp_path / "net.caffemodel")
    done = invoke(*both)
    assert done.exit_code == 1
    assert done.stderr.startswith(f"senet-convert: {tmp_path}/net.prototxt: it exists already")
    assert [path.name for path in tmp_path.iterdir()] == ["net.prototxt"]
    assert invoke(*both, "--force").exit_code == 0
    assert (tmp_path / "net.prototxt").read_text().startswith('name: "LegacyV1"')


def test_a_file_may_replace_itself(tmp_path: Path) -> None:
    (tmp_path / "net.prototxt").write_bytes((LEGACY / "deploy.prototxt").read_bytes())
    assert invoke(tmp_path / "net.prototxt", "-o", tmp_path / "net.prototxt", "--force").exit_code == 0
    assert "layers" not in (tmp_path / "net.prototxt").read_text()


def test_refusals_leave_nothing(tmp_path: Path) -> None:
    (tmp_path / "bad.prototxt").write_text("layer {")
    done = invoke(tmp_path / "bad.prototxt", "-o", tmp_path / "a" / "new.prototxt")
    assert done.exit_code == 1
    assert "bad.prototxt:1:" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["bad.prototxt"]


def test_torch_is_not_needed(tmp_path: Path) -> None:
    code = "import sys; sys.modules['torch'] = None; from senet_convert.cli import main; main(sys.argv[1:])"
    argv = [sys.executable, "-c", code, "upgrade", str(LEGACY / "deploy.prototxt"), "-o", str(tmp_path / "n.prototxt")]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
