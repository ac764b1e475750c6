"""Tables for a terminal: networks and conversions, answers of `classify`, outcomes of `validate`."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from ...demo import Outcome as DemoOutcome
    from ...deploy.classify import Answer
    from ...deploy.model import Model
    from ...deploy.validation.comparison import Agreement
    from ...deploy.validation.validate import Outcome, Verdict

WIDTH = 160  # of a table that goes to a file or a pipe
NARROW = 120  # columns of a terminal below which large counts are abbreviated, and lines between columns left out
VERDICTS = {
    "passed": ("green", "passed: every blob within its budget, every weight bit for bit"),
    "failed": ("red", "FAILED: not every blob or weight is what it must be"),
    "unchecked": ("yellow", "not checked (--no-check)"),
}


def print_network(found: Mapping[str, Any]) -> None:
    """The table of `inspect`, on stdout."""
    console = _console()
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
    if found.get("preprocessing"):
        console.print(_plain(f"preprocessing: {found['preprocessing']}"), soft_wrap=True)


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
        console.print(_check(report["check"]))
    console.print(Text(text, style=colour))
    console.print(Text(f"written: {folder}", style="bold"))


def print_demo(outcome: DemoOutcome) -> None:
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


def print_answers(answers: Sequence[Answer], model: Model) -> None:
    """A block of lines for each picture: its path, then probability, number and name of each class."""
    console = _console()
    for answer in answers:
        console.print(Text(answer.image, style="bold"), soft_wrap=True)
        if answer.fault:
            console.print(Text(f"    {answer.fault}", style="red"), soft_wrap=True)
        for index, probability in answer.top:
            wnid = model.classes.wnid(index)
            name = f"{wnid}  {model.classes.label(index)}" if wnid else model.classes.label(index)
            console.print(_plain(f"    {probability:.4f}  {index:>4}  {name}"), soft_wrap=True)
    console.print(_plain(f"class order: {model.classes.order}; computed by {model.computed_by}"), soft_wrap=True)


def print_outcome(outcome: Outcome, worst: int) -> None:
    """Errors, the verdict on them, the worst classes, the commonest mistakes, and the diagnosis."""
    console, tally, found = _console(), outcome.tally, outcome.plain()
    speed = f"{found['images_per_second']} images/s" if found["images_per_second"] else "all from the journal"
    computed = f"computed by {outcome.model.computed_by}"
    console.print(_plain(f"{outcome.model.path}: {tally.images} images, {speed}, {computed}"))
    console.print(_plain(f"class order: {found['class_order']}; {outcome.truth}"))
    if tally.broken:
        console.print(Text(f"{len(tally.broken)} more images cannot be read, and are not counted", style="yellow"))
    console.print(_errors(outcome))
    if outcome.agreement:
        console.print(_engines(outcome.agreement))
        console.print(_pairs(outcome.agreement))
    if outcome.verdict:
        console.print(_verdict(outcome.verdict))
    if worst and tally.top1_wrong:
        console.print(_worst([row for row in found["per_class"] if row["top1_error"]][:worst]))
        console.print(_mistakes(found["confusions"][:worst]))
    if outcome.guessed:
        console.print(Text("the top-1 error is no better than chance", style="bold red"))
    if outcome.diagnosis:
        table = Table("what may be wrong", "top-1 error", "top-5 error", title=f"on {outcome.diagnosis.images} images")
        for fix in outcome.diagnosis.tried[:8]:
            table.add_row(_plain(fix.fault), f"{fix.top1_error:.1f} %", f"{fix.top5_error:.1f} %")
        console.print(table)
        console.print(Text(outcome.diagnosis.verdict, style="bold"))
    if outcome.undiagnosed:
        console.print(Text(f"no diagnosis: {outcome.undiagnosed}", style="yellow"))


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


def _check(check: Mapping[str, Any]) -> Table:
    title = _plain(f"{check['blobs']} blobs against float64, on {check['inputs']}")
    table = Table("engine", "worst blob", "error", "budget", title=title)
    table.columns[1].overflow = "fold"
    for engine, worst in check["worst"].items():
        if worst:
            error = "not finite" if worst["error"] is None else f"{worst['error']:.1e}"
            table.add_row(engine, _plain(worst["blob"]), error, f"{worst['budget']:.1e}")
    return table


def _errors(outcome: Outcome) -> Table:
    tally, verdict = outcome.tally, outcome.verdict
    table = Table("", "error", "wrong", *(["expected"] if verdict else []))
    top1 = [f"{tally.top1_error:.2f} %", str(tally.top1_wrong)]
    top5 = [f"{tally.top5_error:.2f} %", str(tally.top5_wrong)]
    if verdict:
        top1.append(f"{verdict.expected} ± {verdict.slack:.2f} %")
        top5.append("" if verdict.expected_top5 is None else f"{verdict.expected_top5} %")
    table.add_row("top-1", *top1)
    table.add_row("top-5", *top5)
    return table


def _engines(agreement: Agreement) -> Table:
    table = Table("engine", "top-1 error", "top-5 error", "images/s", title="engines")
    for name, tally in agreement.tallies.items():
        speed = tally.images / agreement.seconds[name]
        table.add_row(name, f"{tally.top1_error:.2f} %", f"{tally.top5_error:.2f} %", f"{speed:.1f}")
    return table


def _pairs(agreement: Agreement) -> Table:
    table = Table("engines", "same top-1", "largest difference of a probability", title="agreement")
    for pair in agreement.pairs:
        table.add_row(" and ".join(pair.engines), f"{pair.same_top1} of {pair.images}", f"{pair.difference:.1e}")
    return table


def _verdict(verdict: Verdict) -> Text:
    if verdict.holds:
        return Text(f"as expected ({verdict.source})", style="green")
    return Text(f"NOT as expected ({verdict.source})", style="red")


def _worst(rows: Sequence[Mapping[str, Any]]) -> Table:
    table = Table("class", "label", "images", "top-1 error", "top-5 error", title="classes with the highest errors")
    for row in rows:
        errors = (f"{row['top1_error']:.1f} %", f"{row['top5_error']:.1f} %")
        table.add_row(str(row["index"]), _plain(row["label"]), str(row["images"]), *errors)
    return table


def _mistakes(rows: Sequence[Mapping[str, Any]]) -> Table:
    table = Table("true", "taken for", "images", "of the class", title="commonest mistakes")
    for row in rows:
        names = (_plain(row["true"]["label"]), _plain(row["predicted"]["label"]))
        table.add_row(*names, str(row["images"]), f"{row['share']:.1f} %")
    return table


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else WIDTH)


def _plain(text: str) -> Text:
    """Text as it is: square brackets in it are no markup."""
    return Text(text)
