from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from senet_convert.commands.shared import tables
from senet_convert.converter.convert import Result
from senet_convert.converter.graph.draft import Options
from senet_convert.converter.inspect import inspect
from senet_convert.demo import Outcome
from tests.nets import INPUT, write

NETWORK: dict[str, Any] = {
    "name": "net[bold]",
    "architecture": "a graph",
    "layers": 1,
    "learnable_parameters": 1234,
    "batchnorm_statistics": 0,
    "gflops_2xmac_per_image": 0.5,
}
FOLDER = Path("out[v1]", "[/x]")
LONG = "inception_of_the_fifth_stage/branch_3x3_reduce_{}"


def test_the_table_of_layers(capsys: pytest.CaptureFixture[str]) -> None:
    row: dict[str, Any] = {"name": "conv[b]", "type": "My[bold]Type", "shapes": [[1, 3], []]}
    row |= {"learnable_parameters": 1234, "statistics": 0, "macs": 0}
    files = {"file": "net[final].caffemodel", "prototxt": "net[b].prototxt"}
    tables.print_network({**NETWORK, **files, "layer_table": [row]})
    said = capsys.readouterr().out
    for text in (*files.values(), "conv[b]", "My[bold]Type", "1x3 scalar", "1,234", "net[bold]: a graph; 1 la"):
        assert text in said


@pytest.mark.parametrize(("verdict", "said"), [("passed", "bit for bit"), ("failed", "FAILED"), ("unchecked", "--no")])
def test_the_outcome_of_a_conversion(verdict: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    worst = {"onnx": {"blob": "a[b]", "error": 1e-6, "budget": 2e-6}, "family": None}
    worst["generic"] = {"blob": "c", "error": None, "budget": 2e-6}
    check = {"blobs": 7, "inputs": "noise[b]", "worst": worst}
    release = {"name": "SE-ResNet-50", "published_top1_error": 22.37, "published_top5_error": 6.36}
    report = {"network": NETWORK, "release": release, "check": check, "sources": [{"name": "net[final].caffemodel"}]}
    tables.print_report(FOLDER, {**report, "verdict": verdict})
    found = capsys.readouterr().err
    for text in (
        said,
        f"written: {FOLDER}",
        "a[b]",
        "1.0e-06",
        "not finite",
        "7 blobs",
        "noise[b]",
        "22.37 %",
        "[final]",
    ):
        assert text in found.replace("\n", " ")
    assert "family" not in found


def test_what_the_demo_found(capsys: pytest.CaptureFixture[str]) -> None:
    tables.print_demo(Outcome(Result(FOLDER, {}, None), 500, 3.6, 0.2, 3.7, 0.3, 1.5e-6))
    said = capsys.readouterr().err
    for text in ("3.60 %", "3.70 %", "0.20 %", "1.5e-06", str(FOLDER / "report.html"), str(FOLDER / "model.onnx")):
        assert text in said


@pytest.fixture
def network(tmp_path: Path) -> dict[str, object]:
    layers = "".join(
        f'layer {{ name: "{LONG.format(i)}" type: "Convolution" bottom: "data" top: "{i}"\n'
        "convolution_param { num_output: 4000 kernel_size: 3 } }\n"
        for i in range(3)
    )
    files = write(tmp_path, INPUT + layers)
    return inspect(files.prototxt, None, Options())


def test_nothing_is_cut_off_where_it_is_narrow(
    network: dict[str, object], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Names go on in the next line, counts are rounded to three digits: 112,000 parameters, 17.28 million MACs."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("COLUMNS", "80")
    tables.print_network(network)
    said = capsys.readouterr().out
    assert "\N{HORIZONTAL ELLIPSIS}" not in said
    assert max(map(len, said.splitlines())) <= 80
    lines = [line.split() for line in said.splitlines()]
    assert [words[-2:] for words in lines if "Convolution" in words] == [["112k", "17.3M"]] * 3
    names = "".join(words[0] for words in lines if words)
    assert all(LONG.format(i) in names for i in range(3))


def test_where_there_is_room_counts_are_exact(network: dict[str, object], capsys: pytest.CaptureFixture[str]) -> None:
    tables.print_network(network)
    said = capsys.readouterr().out
    for words in (LONG.format(2), "112,000", "17,280,000"):
        assert words in said
