"""What `classify` and `validate` found, as tables on stdout."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from .classify import Answer
from .model import Model
from .validation.comparison import Agreement
from .validation.validate import Outcome, Verdict

WIDTH = 160  # of a table that goes to a file or a pipe


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
    if outcome.diagnosis:
        table = Table("what may be wrong", "top-1 error", "top-5 error", title=f"on {outcome.diagnosis.images} images")
        for fix in outcome.diagnosis.tried[:8]:
            table.add_row(_plain(fix.fault), f"{fix.top1_error:.1f} %", f"{fix.top5_error:.1f} %")
        console.print(table)
        console.print(Text(outcome.diagnosis.verdict, style="bold"))
    if outcome.undiagnosed:
        console.print(Text(f"no diagnosis: {outcome.undiagnosed}", style="yellow"))


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
