"""The command as a person types it."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from senet_convert.cli import main
from senet_convert.converter.export.onnx import OPSETS
from senet_convert.deploy.runtime.session import newest_opset
from tests.nets import SE_NET, Files

from .running import invoke

NEWEST = newest_opset(OPSETS[-1])


def test_the_two_word_form_writes_beside_the_model(files: Files) -> None:
    done = invoke(files.caffemodel)
    assert done.exit_code == 0, done.output
    assert (files.caffemodel.parent / "net" / "model.onnx").is_file()
    assert done.stderr.endswith("net: passed (net.caffemodel with net.prototxt)\n")
    assert done.stdout == ""


def test_the_prototxt_that_was_found_is_named(files: Files) -> None:
    report = json.loads(invoke(files.caffemodel, "--json").stdout)
    assert [source["name"] for source in report["sources"]] == ["net.caffemodel", "net.prototxt"]


def test_an_existing_bundle_is_replaced_only_by_force(files: Files) -> None:
    assert invoke("convert", files.caffemodel, "--no-check").exit_code == 0
    again = invoke(files.caffemodel, "--no-check")
    assert again.exit_code == 1
    assert "--force" in again.stderr
    assert invoke(files.caffemodel, "--no-check", "--force").exit_code == 0


def test_quiet_says_nothing_and_warnings_are_said_otherwise(files: Files, tmp_path: Path) -> None:
    files.prototxt.write_text(SE_NET.split('layer { name: "fc"')[0])
    loud = invoke(files.caffemodel, "-o", tmp_path / "a", "--no-check")
    assert "warning: " in loud.stderr
    assert "fc" in loud.stderr
    assert invoke(files.caffemodel, "-o", tmp_path / "b", "--no-check", "-q").stderr == ""


def test_refusals_are_one_message_and_exit_code_1(files: Files, tmp_path: Path) -> None:
    files.caffemodel.write_bytes(files.caffemodel.read_bytes()[:-100])
    done = invoke(files.caffemodel, "-o", tmp_path / "out")
    assert done.exit_code == 1
    assert done.stderr.startswith(f"senet-convert: {files.caffemodel}: truncated or damaged")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["nosuch"], "no such file or command: 'nosuch'"),
        (["nosuch.caffemodel", "--opset", "x"], "'x' is not a valid integer"),
        (["convert"], "Missing argument 'CAFFEMODEL'"),
        (["MODEL", "--opset", "12"], f"12 is not between 13 and {NEWEST}, the newest that the installed onnxruntime"),
        (["MODEL", "--opset", str(NEWEST + 1)], f"{NEWEST + 1} is not between 13 and {NEWEST}"),
        (["MODEL", "--images", "MODEL", "--reference", "MODEL"], "--images or on the inputs in --reference"),
        (["MODEL", "--no-check", "--images", "MODEL"], "--images is for the check, which --no-check leaves out"),
        (["MODEL", "--no-check", "--reference", "MODEL"], "--reference is for the check, which --no-check"),
        (["MODEL", "--input-shape", "1,a"], "not a shape"),
        (["MODEL", "--mean", "x"], "not a list of finite numbers"),
        (["MODEL", "--mean", "1,inf,2"], "'1,inf,2' is not a list of finite numbers"),
        (["MODEL", "--scale", "nan"], "'nan' is not a finite number"),
        (["MODEL", "--scale", "x"], "'x' is not a finite number"),
        (["MODEL", "--no-such-option"], "No such option"),
    ],
)
def test_wrong_usage_is_exit_code_2(files: Files, args: list[str], words: str) -> None:
    done = invoke(*(files.caffemodel if arg == "MODEL" else arg for arg in args))
    assert done.exit_code == 2
    assert words in done.stderr


def test_input_shapes_are_given_by_name_or_for_all(files: Files, tmp_path: Path) -> None:
    for i, shape in enumerate(("1,3,12,10", "data=4x3x12x10")):
        report = json.loads(invoke(files.caffemodel, "--input-shape", shape, "-o", tmp_path / f"{i}", "--json").stdout)
        assert report["network"]["inputs"]["data"] == [(1, 4)[i], 3, 12, 10]


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        (("data=1,3,12,10", "data=2,3,12,10"), "of input 'data' is given twice, as 1,3,12,10 and 2,3,12,10"),
        (("1,3,12,10", "2,3,12,10"), "without a name is given twice, as 1,3,12,10 and 2,3,12,10"),
    ],
)
def test_two_input_shapes_for_one_input_are_refused(files: Files, shapes: tuple[str, ...], words: str) -> None:
    done = invoke(files.caffemodel, *(word for shape in shapes for word in ("--input-shape", shape)))
    assert done.exit_code == 1
    assert words in done.stderr
    assert not (files.caffemodel.parent / "net").exists()


def test_stages_choose_layers(files: Files, tmp_path: Path) -> None:
    text = SE_NET.replace('name: "prob" type', 'name: "prob" include { stage: "deploy" min_level: 1 } type')
    files.prototxt.write_text(text)
    plain = json.loads(invoke(files.caffemodel, "-o", tmp_path / "a", "--json").stdout)
    chosen = ["--stage", "deploy", "--level", "1"]
    staged = json.loads(invoke(files.caffemodel, "-o", tmp_path / "b", "--json", *chosen).stdout)
    assert list(plain["network"]["outputs"]) == ["fc"]
    assert list(staged["network"]["outputs"]) == ["prob"]


def test_unexpected_faults_are_one_message(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr("senet_convert.converter.convert.convert", broken)
    done = invoke(files.caffemodel)
    assert done.exit_code == 1
    assert "unexpected fault (RuntimeError: boom)" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Traceback" in invoke(files.caffemodel, "-v").stderr


def test_faults_of_the_system_are_one_message(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), "/mnt/net.caffemodel")

    monkeypatch.setattr("senet_convert.converter.convert.convert", broken)
    done = invoke(files.caffemodel)
    assert done.exit_code == 1
    assert done.stderr == "senet-convert: /mnt/net.caffemodel: cannot be read or written: Input/output error\n"
    assert "Traceback" in invoke(files.caffemodel, "-v").stderr


@pytest.mark.parametrize("quiet", [True, False])
def test_a_failed_check_is_told_though_it_is_written(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quiet: bool
) -> None:
    monkeypatch.setattr("senet_convert.converter.check.tolerance.FLOOR", 0.0)
    monkeypatch.setattr("senet_convert.converter.check.tolerance.FACTOR", 1e-9)
    done = invoke(files.caffemodel, "-o", tmp_path / "out", "--keep-going", *(["-q"] if quiet else []))
    assert done.exit_code == 0
    assert json.loads((tmp_path / "out" / "report.json").read_text())["verdict"] == "failed"
    assert f"the check failed, {tmp_path / 'out'} was written all the same" in done.stderr
    assert "The first layer that diverges: " in done.stderr
    assert ("warning: " in done.stderr) is not quiet
    assert done.stderr.count("\n  - ") <= 10


# Stops in the middle of writing, long enough to be interrupted there.
SLOW = """
import sys, time
from senet_convert.converter.report import report
original = report.make
def slow(*args):
    print("writing", flush=True)
    time.sleep(60)
    return original(*args)
report.make = slow
from senet_convert.cli import main
main(sys.argv[1:])
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interruption_leaves_nothing(files: Files, tmp_path: Path, number: signal.Signals) -> None:
    out = tmp_path / "out" / "net"
    argv = [sys.executable, "-c", SLOW, str(files.caffemodel), "-o", str(out), "--no-check"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        assert any(path.name.endswith(".partial") for path in out.parent.iterdir())
        process.send_signal(number)
        _, said = process.communicate(timeout=30)
    assert process.returncode in (1, 128 + number)
    assert "Traceback" not in said
    assert not out.parent.exists()


def test_nohup_is_kept(files: Files, tmp_path: Path) -> None:
    code = "import signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN)\nfrom senet_convert.cli import main\n"
    code += "try: main(sys.argv[1:])\nexcept SystemExit: pass\nprint(signal.getsignal(signal.SIGHUP))"
    argv = [sys.executable, "-c", code, str(files.caffemodel), "-o", str(tmp_path / "out"), "--no-check"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert done.stdout == f"{signal.SIG_IGN}\n"


def test_a_file_size_limit_leaves_nothing(files: Files, tmp_path: Path) -> None:
    """Writing fails in the middle of the weights, as on a full disk."""
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))\n"
        "from senet_convert.cli import main; main(sys.argv[1:])"
    )
    argv = [sys.executable, "-c", code, str(files.caffemodel), "-o", str(tmp_path / "out")]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 1
    assert "cannot be written" in done.stderr
    assert not (tmp_path / "out").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_help_answers_without_the_heavy_imports() -> None:
    code = "import sys\nfrom senet_convert.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
    code += "print(sorted({'torch', 'onnx', 'onnxruntime', 'numpy', 'rich'} & set(sys.modules)), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    assert "inspect" in done.stdout


def test_every_command_has_help() -> None:
    for name in main.list_commands(None):  # type: ignore[arg-type]
        done = invoke(name, "--help")
        assert done.exit_code == 0
        assert done.stdout.startswith("Usage:")


def test_the_version_is_printed() -> None:
    from senet_convert import __version__

    assert __version__ in invoke("--version").stdout


def test_a_terminal_gets_tables(files: Files, tmp_path: Path) -> None:
    """Run under a pseudo-terminal: progress and tables go to stderr there."""
    import pty

    master, slave = pty.openpty()
    argv = [sys.executable, "-m", "senet_convert", str(files.caffemodel), "-o", str(tmp_path / "out")]
    environment = {**os.environ, "COLUMNS": "150", "TERM": "xterm"}
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=slave, env=environment) as process:
        os.close(slave)
        said = b""
        end = time.monotonic() + 60
        while time.monotonic() < end:
            try:
                part = os.read(master, 4096)
            except OSError:  # the other side has closed
                break
            if not part:
                break
            said += part
        process.wait(timeout=60)
        assert process.stdout is not None
        assert process.stdout.read() == b""
    os.close(master)
    text = said.decode()
    assert process.returncode == 0, text
    assert "read: net.caffemodel with net.prototxt" in text
    assert "worst blob" in text
    assert "every blob within its budget" in text


def test_preprocessing_that_is_assumed_is_told_or_with_strict_refused(files: Files, tmp_path: Path) -> None:
    done = invoke(files.caffemodel, "-o", tmp_path / "a", "--no-check")
    assert (
        "warning: preprocessing is assumed, not known: the mean 104, 117, 123 is subtracted (a comment" in done.stderr
    )
    strict = invoke(files.caffemodel, "-o", tmp_path / "b", "--no-check", "--strict")
    assert strict.exit_code == 1
    assert "net.caffemodel: preprocessing is assumed, not known" in strict.stderr
    assert not (tmp_path / "b").exists()
    said = ["--mean", "104,117,123", "--resize", "squash"]
    known = invoke(files.caffemodel, "-o", tmp_path / "b", "--no-check", "--strict", *said)
    assert (known.exit_code, "assumed" in known.stderr) == (0, False)
    report = json.loads((tmp_path / "b" / "report.json").read_text())
    sources = {one["value"]: one["source"] for one in report["preprocess_origins"]["values"] if one["known"]}
    assert sources == {"mean": "--mean", "resize": "--resize"}
    assert "Assumed" in (tmp_path / "b" / "report.html").read_text()


def test_the_report_has_the_command_line(files: Files, tmp_path: Path) -> None:
    out = tmp_path / "b o"
    words = [
        "convert",
        files.caffemodel,
        "--input-shape",
        "data=1,3,12,10",
        "--mean",
        "1,2.5,3",
        "--no-check",
        "-o",
        out,
    ]
    assert invoke(*words).exit_code == 0
    command = json.loads((out / "report.json").read_text())["command"]
    said = "--input-shape data=1,3,12,10"
    assert command.startswith(f"senet-convert convert {files.caffemodel} {said} ")
    assert "--mean 1,2.5,3" in command
    assert "--no-check" in command
    assert f"--output '{out}'" in command
    assert "--opset" not in command
