"""What commands say while they run and when they are done, on stderr."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from .outputs import on_terminal


@contextmanager
def progress_on_stderr(quiet: bool) -> Iterator[Callable[[str], None]]:
    """Says what happens next: a spinner on a terminal, nothing elsewhere."""
    if quiet or not on_terminal():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True)
    with console.status("starting") as status:
        yield lambda text: status.update(Text(text))  # file names are no markup


def warn(warnings: Iterable[str]) -> None:
    """Warnings on stderr."""
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)


def summary(folder: Path, report: Mapping[str, Any]) -> None:
    """The outcome of a conversion on stderr: tables on a terminal, one line elsewhere."""
    if on_terminal():
        from .tables import print_report

        print_report(folder, report)
    else:
        files = " with ".join(source["name"] for source in report["sources"])
        click.echo(f"{folder}: {report['verdict']} ({files})", err=True)
