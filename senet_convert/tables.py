"""Tables for people at a terminal."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from .demo import Outcome

WIDTH = 160  # of a table that goes to a file or a pipe
NARROW = 120  # columns of a terminal below which large counts are abbreviated, and lines between columns left out
VERDICTS = {
    "passed": ("green", "passed: every blob within its budget, every weight bit for bit"),
    "failed": ("red", "FAILED: not every blob or weight is what it must be"),
    "unchecked": ("yellow", "not checked (--no-check)"),
}


def print_network(found: Mapping[str, Any]) -> None:
    """The table of `inspect`, on stdout."""
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    narrow = console.width < NARROW
    title = _plain(_files(found["file"], found["prototxt"]))
    style = box.SIMPLE_HEAD if narrow else box.HEAVY_HEAD
    table = Table(title=title, box=style, pad_edge=not narrow, collapse_padding=narrow)
    for name in ("layer", "type", "shapes"):
        table.add_column(name, overflow="fold")
    for name in ("params", "stats", "MACs") if narrow else ("parameters", "statistics", "MACs"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in found["layer_table"]:
        shapes = " ".join("x".join(map(str, shape)) or "scalar" for shape in row["shapes"])
        counts = (row["learnable_parameters"], row["statistics"], row["macs"])
        cells = (shapes, *(_count(count, narrow) for count in counts))
        table.add_row(_plain(row["name"]), _plain(row["type"]), *cells)
    console.print(table)
    console.print(_facts(found))


def print_report(folder: Path, report: Mapping[str, Any]) -> None:
    """The outcome of a conversion, on stderr."""
    console = Console(stderr=True)
    colour, text = VERDICTS[report["verdict"]]
    console.print(_plain(f"read: {_files(*(source['name'] for source in report['sources']))}"))
    console.print(_facts(report["network"]))
    if report["release"]:
        release = report["release"]
        console.print(
            f"recognised release: {release['name']}, published top-1 error {release['published_top1_error']} %, "
            f"top-5 {release['published_top5_error']} %"
        )
    if report["check"]:
        console.print(_errors(report["check"]))
    console.print(Text(text, style=colour))
    console.print(Text(f"written: {folder}", style="bold"))


def print_demo(outcome: Outcome) -> None:
    """What the demo found, and what to type next, on stderr."""
    console = Console(stderr=True, width=None if sys.stderr.isatty() else WIDTH)
    table = Table("500 images" if outcome.images == 500 else f"{outcome.images} images", "Caffe", "this ONNX file")
    table.add_row("top-1 error", f"{outcome.caffe_top1_error:.2f} %", f"{outcome.top1_error:.2f} %")
    table.add_row("top-5 error", f"{outcome.caffe_top5_error:.2f} %", f"{outcome.top5_error:.2f} %")
    table.add_row("largest difference of a probability", "", f"{outcome.difference:.1e}")
    console.print(table)
    folder = outcome.result.folder
    console.print(_plain(f"The report to read or to show:  {folder / 'report.html'}"), soft_wrap=True)
    console.print(_plain(f"The model to serve:             {folder / 'model.onnx'}"), soft_wrap=True)
    console.print("Now your own network:           senet-convert YOUR.caffemodel", soft_wrap=True)


def _files(caffemodel: str, prototxt: str | None = None) -> str:
    return f"{caffemodel} with {prototxt}" if prototxt else caffemodel


def _count(count: int, narrow: bool) -> str:
    """A number with its digits in groups; where there is little room, in three digits and a unit: 118M."""
    if not count:
        return ""
    if not narrow or count < 10_000:
        return f"{count:,}"
    rounded = float(f"{count:.3g}")
    thousands = (len(f"{rounded:.0f}") - 1) // 3
    return f"{rounded / 1000**thousands:g}{' kMGTPE'[thousands]}"


def _facts(network: Mapping[str, Any]) -> Text:
    return Text(
        f"{network['name']}: {network['architecture']}; {network['layers']} layers, "
        f"{network['learnable_parameters']:,} parameters, {network['batchnorm_statistics']:,} BatchNorm statistics, "
        f"{network['gflops_2xmac_per_image']} GFLOPs (2 x MACs) per image"
    )


def _errors(check: Mapping[str, Any]) -> Table:
    title = _plain(f"{check['blobs']} blobs against float64, on {check['inputs']}")
    table = Table("engine", "worst blob", "error", "budget", title=title)
    table.columns[1].overflow = "fold"
    for engine, worst in check["worst"].items():
        if worst:
            error = "not finite" if worst["error"] is None else f"{worst['error']:.1e}"
            table.add_row(engine, _plain(worst["blob"]), error, f"{worst['budget']:.1e}")
    return table


def _plain(text: str) -> Text:
    """Text as it is: square brackets in it are no markup."""
    return Text(text)
