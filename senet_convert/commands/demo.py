"""`senet-convert demo`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from .shared.messages import progress_on_stderr, summary
from .shared.options import talk
from .shared.outputs import results
from .shared.refusals import refusals


@click.command("demo")
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("demo"), show_default=True)
@click.option("--force", is_flag=True, help="Replace a bundle of another network too.")
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
@talk
def command(output: Path, force: bool, as_json: bool, quiet: bool, verbose: bool) -> None:
    """Convert the embedded network, check it, and reproduce Caffe's probabilities on its 500 images."""
    with refusals(verbose):
        from .. import demo as room

        with progress_on_stderr(quiet) as progress:
            outcome = room.run(output, progress, force)
        if as_json:
            plain = {key: value for key, value in vars(outcome).items() if key != "result"}
            with results(f"; {output} is written"):
                click.echo(json.dumps({"folder": str(output), **plain, "report": outcome.result.report}, indent=1))
        elif not quiet:
            from .shared.tables import print_demo

            summary(output, outcome.result.report)
            print_demo(outcome)
