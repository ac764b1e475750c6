from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch

from tests.nets import write

from .running import invoke


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A bundle."""
    (tmp_path / "in").mkdir()
    files = write(tmp_path / "in")
    assert invoke(files.caffemodel, "--no-check", "-o", tmp_path / "in" / "net").exit_code == 0
    return tmp_path / "in" / "net"


def test_a_bundle_goes_back_and_converts_again(folder: Path, tmp_path: Path) -> None:
    done = invoke("to-caffe", folder, "-o", tmp_path / "back")
    assert done.exit_code == 0, done.output
    assert done.stderr == (
        f"{tmp_path}/back.prototxt and {tmp_path}/back.caffemodel: 5 layers with weights, 1495 values\n"
    )
    assert done.stdout == ""
    again = invoke(tmp_path / "back.caffemodel")
    assert again.exit_code == 0, again.output
    assert (tmp_path / "back" / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()


def test_other_weights_for_a_stock_caffe(folder: Path, tmp_path: Path) -> None:
    state = safetensors.torch.load_file(folder / "model.safetensors")
    state["weights.fc/weight"], state["weights.fc/bias"] = torch.ones(2, 180), torch.zeros(2)
    torch.save(state, tmp_path / "tuned.pth")
    done = invoke("to-caffe", folder, "--weights", tmp_path / "tuned.pth", "--stock", "-o", tmp_path / "back")
    assert done.exit_code == 0, done.output
    assert done.stderr.startswith("layer 'fc': 2 outputs instead of 7\n")
    text = (tmp_path / "back.prototxt").read_text()
    assert "Axpy" not in text
    assert 'type: "Eltwise"' in text
    quiet = invoke(
        "to-caffe", tmp_path / "tuned.pth", "--prototxt", folder / "model.prototxt", "-q", "-o", tmp_path / "b"
    )
    assert (quiet.exit_code, quiet.output) == (0, "")


def test_files_are_replaced_only_by_force(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "back.caffemodel").write_text("mine")
    done = invoke("to-caffe", folder, "-o", tmp_path / "back")
    assert done.exit_code == 1
    assert f"{tmp_path}/back.caffemodel: it exists already" in done.stderr
    assert (tmp_path / "back.caffemodel").read_text() == "mine"
    assert not (tmp_path / "back.prototxt").exists()
    assert invoke("to-caffe", folder, "-o", tmp_path / "back", "--force").exit_code == 0


def test_wrong_usage_is_exit_code_2(folder: Path, tmp_path: Path) -> None:
    assert "Missing option '-o'" in invoke("to-caffe", folder).stderr
    assert invoke("to-caffe", folder, "-o", tmp_path / "back", "--no-such-option").exit_code == 2


def test_a_file_size_limit_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    """Writing fails in the middle of the weights, as on a full disk."""
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))\n"
        "from senet_convert.cli import main; main(sys.argv[1:])"
    )
    argv = [sys.executable, "-c", code, "to-caffe", str(folder), "-o", str(tmp_path / "a" / "back")]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 1
    assert "cannot be written" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
