"""`senet-convert upgrade FILE -o OUT`."""

from __future__ import annotations

from pathlib import Path

import click

from .shared.inputs import NETWORK, PROTOTXT
from .shared.messages import progress_on_stderr, warn
from .shared.options import talk
from .shared.refusals import refusals


@click.command("upgrade")
@click.argument("file", type=NETWORK)
@click.option("--prototxt", type=PROTOTXT, help="With a caffemodel: its prototxt, written beside OUT with that suffix.")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), metavar="OUT", help="File to write.")
@click.option("--force", is_flag=True, help="Replace existing files.")
@talk
def command(file: Path, prototxt: Path | None, output: Path, force: bool, quiet: bool, verbose: bool) -> None:
    """Write FILE, a prototxt or a caffemodel of any age, in today's form.

    OUT is of the kind of FILE; a caffemodel with an OUT that ends in .prototxt gives its definition as text.
    """
    with refusals(verbose):
        from ..converter.caffe import upgrade as room

        with progress_on_stderr(quiet) as progress:
            done = room.upgrade(file, prototxt, output, force, progress)
        if not quiet:
            warn(done.warnings)
            held = f"{done.layers} layers" + (f", {done.blobs} blobs" if done.blobs else "")
            click.echo(f"{' and '.join(map(str, done.files))}: {held}", err=True)
