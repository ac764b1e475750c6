"""Tables for people at a terminal."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from .demo import Outcome

WIDTH = 160  # of a table that goes to a file or a pipe
VERDICTS = {
    "passed": ("green", "passed: every blob within its budget, every weight bit for bit"),
    "failed": ("red", "FAILED: see the faults in the report"),
    "unchecked": ("yellow", "not checked (--no-check)"),
}


def print_network(found: Mapping[str, Any]) -> None:
    """The table of `inspect`, on stdout."""
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    table = Table("layer", "type", "shapes", "parameters", "statistics", "MACs", title=found["file"])
    for column in table.columns[3:]:
        column.justify = "right"
    for row in found["layer_table"]:
        shapes = " ".join("x".join(map(str, shape)) or "scalar" for shape in row["shapes"])
        counts = (row["learnable_parameters"], row["statistics"], row["macs"])
        table.add_row(_plain(row["name"]), row["type"], shapes, *(f"{count:,}" if count else "" for count in counts))
    console.print(table)
    console.print(_facts(found))


def print_report(folder: Path, report: Mapping[str, Any]) -> None:
    """The outcome of a conversion, on stderr."""
    console = Console(stderr=True)
    colour, text = VERDICTS[report["verdict"]]
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
    console.print(f"The report to read or to show:  {folder / 'report.html'}", soft_wrap=True)
    console.print(f"The model to serve:             {folder / 'model.onnx'}", soft_wrap=True)
    console.print("Now your own network:           senet-convert YOUR.caffemodel", soft_wrap=True)


def _facts(network: Mapping[str, Any]) -> Text:
    return Text(
        f"{network['name']}: {network['architecture']}; {network['layers']} layers, "
        f"{network['learnable_parameters']:,} parameters, {network['batchnorm_statistics']:,} BatchNorm statistics, "
        f"{network['gflops_2xmac_per_image']} GFLOPs (2 x MACs) per image"
    )


def _errors(check: Mapping[str, Any]) -> Table:
    table = Table(
        "engine", "worst blob", "error", "budget", title=f"{check['blobs']} blobs against float64, on {check['inputs']}"
    )
    for engine, worst in check["worst"].items():
        if worst:
            error = "not finite" if worst["error"] is None else f"{worst['error']:.1e}"
            table.add_row(engine, _plain(worst["blob"]), error, f"{worst['budget']:.1e}")
    return table


def _plain(name: str) -> Text:
    """A name as it is: square brackets in it are no markup."""
    return Text(name)
