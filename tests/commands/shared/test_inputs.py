"""Faults of the files that commands read: exit code 1, and every one is told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.nets import Files

from ..running import invoke

# Every place where a command takes a file; FILE stands for it, NET for a caffemodel that is there.
DOORS: dict[str, Sequence[str]] = {
    "caffemodel": ("FILE",),
    "prototxt": ("NET", "--prototxt", "FILE"),
    "reference": ("NET", "--reference", "FILE"),
    "images": ("NET", "--images", "FILE"),
    "labels": ("NET", "--labels", "FILE"),
    "mean": ("NET", "--mean", "FILE"),
    "layers": ("NET", "--layers", "FILE"),
    "inspect": ("inspect", "FILE"),
    "inspect --prototxt": ("inspect", "NET", "--prototxt", "FILE"),
    "upgrade": ("upgrade", "FILE", "-o", "OUT"),
    "upgrade --prototxt": ("upgrade", "NET", "--prototxt", "FILE", "-o", "OUT"),
    "to-caffe": ("to-caffe", "FILE", "-o", "OUT"),
    "to-caffe --weights": ("to-caffe", "NET", "--weights", "FILE", "-o", "OUT"),
    "to-caffe --prototxt": ("to-caffe", "NET", "--prototxt", "FILE", "-o", "OUT"),
    "classify": ("classify", "FILE", "a.png"),
    "validate": ("validate", "FILE", "NET"),
    "validate IMAGES": ("validate", "NET", "FILE"),
    "validate --labels": ("validate", "NET", "NET", "--labels", "FILE"),
    "validate --caffemodel": ("validate", "NET", "NET", "--engine", "torch", "--caffemodel", "FILE"),
    "serve --config": ("serve", "--config", "FILE"),
}


@pytest.mark.parametrize("words", DOORS.values(), ids=DOORS)
def test_every_door_asks_whether_it_is_a_file(files: Files, tmp_path: Path, words: Sequence[str]) -> None:
    before = sorted(tmp_path.rglob("*"))
    for path, said in ((tmp_path / "gone.file", "there is no such file"), (Path("/dev/zero"), "it is a device")):
        place = {"FILE": path, "NET": files.caffemodel, "OUT": tmp_path / "out"}
        done = invoke(*(place.get(word, word) for word in words))
        assert done.exit_code == 1, done.output
        assert done.stderr.startswith(f"senet-convert: {path}: {said}")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_caffemodel_that_is_not_there_names_those_that_are(files: Files) -> None:
    done = invoke(files.caffemodel.with_name("nett.caffemodel"))
    assert done.exit_code == 1
    assert done.stderr.endswith("nett.caffemodel: there is no such file; in its folder are: net.caffemodel\n")
    done = invoke(files.caffemodel.parent)
    assert done.exit_code == 1
    assert done.stderr.endswith("in: it is a folder; give one of its files: net.caffemodel\n")


def test_a_bundle_is_not_converted_again(bundle: Path) -> None:
    done = invoke(bundle)
    assert done.exit_code == 1
    assert "it is a bundle already" in done.stderr
    assert "there is no such file" in invoke("inspect", bundle / "net.caffemodel").stderr


def test_all_files_are_told_at_once(files: Files, tmp_path: Path) -> None:
    pictures = [word for name in ("a.png", "b.png") for word in ("--images", tmp_path / name)]
    done = invoke(files.caffemodel, *pictures, "--prototxt", tmp_path / "c.prototxt")
    assert done.exit_code == 1
    for name in ("a.png", "b.png", "c.prototxt"):
        assert f"{tmp_path / name}: there is no such file" in done.stderr


def test_a_name_that_is_too_long_is_told(tmp_path: Path) -> None:
    for command in ("convert", "to-caffe"):
        done = invoke(command, "a" * 300, "-o", tmp_path / "out")
        assert done.exit_code == 1
        assert "cannot be read: File name too long" in done.stderr


def test_wrong_usage_is_told_before_faults_of_files(tmp_path: Path) -> None:
    done = invoke(tmp_path / "gone.caffemodel", "--prototxt", tmp_path / "gone.prototxt", "--batch-size", "3")
    assert done.exit_code == 2
    assert "No such option" in done.stderr


def test_a_mean_is_a_file_or_numbers(files: Files, tmp_path: Path) -> None:
    for word, code in (
        ("gone.binaryproto", 1),
        (f"{tmp_path}/gone", 1),
        ("104,117,12o", 2),
        ("104.0,x", 2),
        ("x", 2),
        ("7," * 999, 2),
    ):
        assert invoke(files.caffemodel, "--mean", word).exit_code == code, word


def ends(code: str, args: Sequence[object], line: str, number: signal.Signals | None = None) -> tuple[int, str, float]:
    """Exit code, what is said and seconds, of a program that is sent a signal when it has printed `line`."""
    argv = [sys.executable, "-c", code, *map(str, args)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == f"{line}\n"
        start = time.monotonic()
        if number is not None:
            process.send_signal(number)
        try:
            _, said = process.communicate(timeout=30)
        finally:
            process.kill()
        return process.returncode, said, time.monotonic() - start


RUN = "import sys; from senet_convert.cli import main; main(sys.argv[1:])"


@pytest.mark.parametrize("words", [(), ("convert",), ("inspect",)])
def test_a_pipe_is_refused_while_nobody_writes_to_it(tmp_path: Path, words: Sequence[str]) -> None:
    reader, writer = os.pipe()
    try:
        argv = [sys.executable, "-c", RUN, *words, "/dev/stdin"]
        done = subprocess.run(argv, stdin=reader, capture_output=True, text=True, timeout=30)
    finally:
        os.close(reader)
        os.close(writer)
    assert done.returncode == 1
    assert done.stderr.startswith("senet-convert: /dev/stdin: it is a pipe, not a file: save what comes out of it")


# A program in which a function, senet_convert.{0}.{1}.{2}, hangs in a read; {3} seconds are left for tidying up.
HANGING = """
import time
from senet_convert.commands.shared import refusals
from senet_convert.{0} import {1} as module
def stuck(*_):
    print("reading\\n", end="", flush=True)
    time.sleep(600)
module.{2} = stuck
refusals.GRACE = {3}
"""
HASHING = HANGING.format("converter.report", "released", "identify", 600)  # for the digests, as on a drive that is gone
DECODING = HANGING.format("deploy.images", "loader", "read", 0.5)  # in a thread of a pool, which unwinding waits for


def test_a_read_that_hangs_holds_up_neither_a_signal_nor_a_refusal(files: Files, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, _, _ = ends(HASHING + RUN, [files.caffemodel, "-o", out, "--no-check"], "reading", signal.SIGTERM)
    assert code == 128 + signal.SIGTERM
    files.caffemodel.write_bytes(files.caffemodel.read_bytes()[:-100])
    code, said, _ = ends(HASHING + RUN, [files.caffemodel, "-o", out], "reading")
    assert (code, "truncated or damaged" in said) == (1, True)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_unwinding_is_not_waited_for_without_end(bundle: Path, digits: Path) -> None:
    picture = next((digits / "images").glob("*.png"))
    code, _, seconds = ends(DECODING + RUN, ["classify", bundle, picture], "reading", signal.SIGTERM)
    assert code == 128 + signal.SIGTERM
    assert seconds < 20
