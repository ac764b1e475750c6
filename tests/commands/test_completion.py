"""Completion as a shell asks for it, and the scripts in the shells that are installed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

from senet_convert.cli import COMMANDS, main


def asked(*words: str) -> list[tuple[str, str]]:
    """(type, value) of what could follow the words, of which the last one is begun."""
    *before, begun = words
    complete = ShellComplete(main, {}, "senet-convert", "_SENET_CONVERT_COMPLETE")
    return [(item.type, item.value) for item in complete.get_completions(list(before), begun)]


def test_the_first_word_is_a_command_or_a_file() -> None:
    assert asked("") == [("file", "*"), *(("plain", name) for name in COMMANDS)]
    assert asked("cl") == [("file", "cl"), ("plain", "classify")]
    assert ("plain", "--mean") in asked("--me"), "an option of the default command"
    assert [value for _, value in asked("--he")].count("--help") == 1
    assert asked("nosuch", "") == [], "no file of that name: no error into the user's line"


@pytest.mark.parametrize(
    ("words", "values"),
    [
        (["convert", "--input-s"], [("plain", "--input-shape"), ("plain", "--input-size")]),
        (["convert", "--input", "i"], [("plain", "image")]),
        (["convert", "--labels", "s"], [("file", "s"), ("plain", "sorted")]),
        (["convert", "--mean", "m"], [("file", "m")]),
        (["classify", "demo", "pic"], [("file", "pic")]),
        (["classify", "demo", "a.png", ""], [("file", "*")]),
        (["validate", "demo", "x", "--engine", "t"], [("plain", "torch")]),
        (["validate", "demo", "x", "--engine", "torch,"], [("plain", "torch,onnx"), ("plain", "torch,caffe-generic")]),
    ],
)
def test_words_of_commands(words: list[str], values: list[tuple[str, str]]) -> None:
    assert asked(*words) == values


ASK = {
    "bash": "COMP_WORDS=(senet-convert cl); COMP_CWORD=1; compopt() { :; }\n"
    "_senet_convert_completion senet-convert; echo $COMPREPLY",
    "zsh": "compdef() { :; }; _path_files() { echo files; }; compadd() { :; }; CURRENT=2; words=(senet-convert '')\n"
    "_describe() { print -l $completions_with_descriptions; }; _senet_convert_completion",
    "fish": 'complete -C "senet-convert cl"',
}


@pytest.mark.parametrize("shell", ASK)
def test_a_shell_completes(shell: str, tmp_path: Path) -> None:
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed")
    script = CliRunner().invoke(main, ["completion", shell]).stdout
    (tmp_path / "ask").write_text(script + "\n" + ASK[shell])
    flags = {"bash": ["--norc"], "zsh": ["-f"], "fish": ["--no-config"]}[shell]
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    done = subprocess.run(
        [shell, *flags, str(tmp_path / "ask")],
        env={"PATH": path, "HOME": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    expected = {
        "bash": "classify",
        "zsh": "classify:Name what is in images, with a converted model.",
        "fish": "classify",
    }
    assert expected[shell] in done.stdout, done.stderr
    if shell == "fish":
        assert "Name what is in images" in done.stdout
    if shell == "zsh":
        assert done.stdout.startswith("files")
