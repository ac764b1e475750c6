from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from senet_convert.cli import main
from tests.nets import write

LONG = "x" * 300  # longer than the name of any file


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        ([LONG], 2, "no such file or command"),
        ([f"{LONG}.caffemodel"], 1, "File name too long"),
        (["inspect", f"{LONG}.caffemodel"], 1, "File name too long"),
        (["convert", "NET", "-o", LONG], 1, f"{LONG}: cannot be written: File name too long"),
        (["convert", "NET", "--mean", LONG], 2, "is not a list of finite numbers"),
        (["demo", "-o", LONG], 1, f"{LONG}: cannot be written: File name too long"),
        (["upgrade", "NET", "-o", LONG], 1, f"{LONG}: cannot be written: File name too long"),
    ],
)
def test_arguments_longer_than_a_file_name(argv: list[str], code: int, said: str, digits: Path) -> None:
    words = [str(digits / "SE-ResNet-Digits.caffemodel") if word == "NET" else word for word in argv]
    done = CliRunner().invoke(main, words)
    assert (done.exit_code, type(done.exception)) == (code, SystemExit)
    assert said in done.stderr
    assert "unexpected" not in done.stderr


def test_what_all_commands_take_may_stand_before_the_command(tmp_path: Path) -> None:
    def invoke(*args: object) -> Result:
        return CliRunner().invoke(main, [str(arg) for arg in args])

    caffemodel = write(tmp_path).caffemodel
    done = invoke("-q", "-v", "inspect", caffemodel, "--json")
    assert (done.exit_code, json.loads(done.stdout)["file"]) == (0, "net.caffemodel")
    assert invoke("-q", caffemodel, "--no-check").exit_code == 0
    assert invoke("-q").exit_code == 2
