from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from senet_convert.commands.shared.outputs import results
from senet_convert.errors import ConvertError
from tests.nets import write

FULL = Path("/dev/full")


@pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")
@pytest.mark.parametrize("form", [[], ["--json"]])
def test_a_result_that_cannot_be_printed_is_one_message(form: list[str], tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "senet_convert", "inspect", str(write(tmp_path).caffemodel), *form]
    with FULL.open("w") as full:
        done = subprocess.run(argv, stdout=full, stderr=subprocess.PIPE, text=True)
    said = "senet-convert: standard output cannot be written: No space left on device\n"
    assert (done.returncode, done.stderr) == (1, said)
    done = subprocess.run(["sh", "-c", '"$@" >&-', "sh", *argv], stderr=subprocess.PIPE, text=True)
    said = "senet-convert: standard output is closed, the result goes nowhere\n"
    assert (done.returncode, done.stderr) == (1, said)


def test_what_was_done_all_the_same_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(ConvertError, match="the result goes nowhere; out is written"), results("; out is written"):
        pass


def test_names_that_are_not_utf8_are_printed_escaped() -> None:
    code = "from senet_convert.commands.shared.outputs import results\nwith results(): print('caf\\udce9')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env={"PYTHONIOENCODING": "utf-8"})
    assert done.stdout == b"caf\\udce9\n"
