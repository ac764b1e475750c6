"""`senet-convert to-caffe BUNDLE|STATE_DICT -o NAME`."""

from __future__ import annotations

from pathlib import Path

import click

from .. import bundle
from .shared.inputs import FILE, PROTOTXT, PYTHON, STATE
from .shared.messages import progress_on_stderr, warn
from .shared.options import own_layers, talk
from .shared.refusals import refusals


@click.command("to-caffe")
@click.argument("source", type=STATE, metavar="BUNDLE|STATE_DICT")
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    metavar="NAME",
    help="Write NAME.prototxt and NAME.caffemodel.",
)
@click.option(
    "--weights",
    type=FILE,
    help="Other weights of the same net: safetensors, or a state_dict by torch.save.",
)
@click.option("--prototxt", type=PROTOTXT, help="The network's definition; default: model.prototxt of the bundle.")
@click.option("--stock", is_flag=True, help="For a Caffe without Axpy: write Scale and Eltwise in its place.")
@click.option("--layers", "layer_files", multiple=True, type=PYTHON, help="A Python file with layer types of your own.")
@click.option(
    "--ignore-field",
    "ignore_fields",
    multiple=True,
    metavar="NAME",
    help="Pass over a field that is not understood, as for the conversion.",
)
@click.option("--force", is_flag=True, help="Replace existing files.")
@talk
def command(
    source: Path,
    output: Path,
    weights: Path | None,
    prototxt: Path | None,
    stock: bool,
    layer_files: tuple[Path, ...],
    ignore_fields: tuple[str, ...],
    force: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Write a network for Caffe again: a folder that senet-convert wrote, or fine-tuned weights of its PyTorch net.

    A layer whose weights have another number of outputs, such as a new classifier, gets that num_output.
    """
    with refusals(verbose):
        bundle.refuse_taken_files(bundle.caffe_files(output), force)  # before torch is imported, which takes seconds
        from ..converter.caffe import to_caffe as room
        from ..converter.graph.draft import Options

        options = Options(layers=own_layers(layer_files), ignore_fields=ignore_fields)
        wishes = room.Wishes(weights, prototxt, stock, force, options)
        with progress_on_stderr(quiet) as progress:
            done = room.to_caffe(source, output, wishes, progress)
        if not quiet:
            warn(done.warnings)
            for layer, (before, now) in done.outputs.items():
                click.echo(f"layer '{layer}': {now} outputs instead of {before}", err=True)
            held = f"{done.layers} layers with weights, {done.values} values"
            click.echo(f"{done.prototxt} and {done.caffemodel}: {held}", err=True)
