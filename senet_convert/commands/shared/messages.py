"""What commands say while they run and when they are done, on stderr."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from .outputs import on_terminal

LONG = 2.0  # seconds from which a run says how long it took


@contextmanager
def progress_on_stderr(quiet: bool) -> Iterator[Callable[[str], None]]:
    """Says what happens next, and from two seconds on how long it took so far: a spinner on a terminal, nothing
    elsewhere.
    """
    if quiet or not on_terminal():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TextColumn("{task.fields[took]}"))
    began = time.monotonic()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=None, took="")

        def say(text: str) -> None:  # file names are no markup
            seconds = time.monotonic() - began
            bar.update(task, description=text, took=f"({seconds:.0f} s)" if seconds >= LONG else "")

        yield say


def command_line() -> str:
    """This run as it can be typed again: the command, what it was given, and options that were said."""
    ctx = click.get_current_context()
    words = ["senet-convert", ctx.info_name or ""]
    for param in ctx.command.params:
        name = param.name or ""
        if ctx.get_parameter_source(name) is not ParameterSource.COMMANDLINE:
            continue
        value = ctx.params[name]
        if isinstance(param, click.Argument):
            words.append(str(value))
        elif isinstance(value, bool):
            words.append((param.opts if value else param.secondary_opts)[0])
        else:
            for one in value if getattr(param, "multiple", False) else [value]:
                words += [param.opts[-1], _typed(one)]
    return shlex.join(word for word in words if word)


def _typed(value: Any) -> str:
    """A value as it is written: lists with commas, shapes with their input's name."""
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], tuple):
        name, shape = value
        return f"{name}=" * bool(name) + ",".join(map(str, shape))
    return ",".join(f"{one:g}" for one in value) if isinstance(value, tuple) else str(value)


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
