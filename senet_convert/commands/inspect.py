"""`senet-convert inspect FILE`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from .shared.inputs import ANY_NETWORK
from .shared.messages import progress_on_stderr, warn
from .shared.options import network, options, talk
from .shared.outputs import results
from .shared.refusals import refusals


@click.command("inspect")
@click.argument("file", type=ANY_NETWORK)
@network
@click.option("--json", "as_json", is_flag=True, help="Print the table as JSON.")
@talk
def command(file: Path, as_json: bool, quiet: bool, verbose: bool, **given: Any) -> None:
    """Show layers, shapes, parameters and multiply-accumulates of FILE: a caffemodel, a prototxt, or a bundle."""
    with refusals(verbose):
        from ..converter import inspect as room

        with progress_on_stderr(quiet) as progress:
            progress(f"reading {file.name}")
            found = room.inspect(file, given["prototxt"], options(given))
        if not quiet:
            warn(found["warnings"])
        with results():
            if as_json:
                click.echo(json.dumps(found, indent=1, ensure_ascii=False))
            else:
                from .shared.tables import print_network

                print_network(found)
