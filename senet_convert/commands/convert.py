"""`senet-convert [convert] CAFFEMODEL`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from .. import bundle
from ..errors import ConvertError
from .shared.inputs import FILE, REFERENCE, SOURCE
from .shared.messages import command_line, progress_on_stderr, summary, warn
from .shared.options import network, options, stated_preprocessing, strict, talk
from .shared.outputs import results
from .shared.param_types import Labels
from .shared.refusals import refusals


@click.command("convert")
@click.argument("caffemodel", type=SOURCE)
@network
@click.option(
    "--weights",
    type=FILE,
    help="With a folder that senet-convert wrote in the caffemodel's place: tuned weights of its PyTorch net, "
    "safetensors or a state_dict by torch.save. Preprocessing and labels are kept.",
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Folder to write; default: the model's stem beside it."
)
@click.option(
    "--opset", type=int, default=17, show_default=True, help="ONNX opset, 13 to the newest that onnxruntime takes."
)
@click.option("--all-blobs", is_flag=True, help="Make every Caffe blob an output of the ONNX model.")
@click.option("--outputs", metavar="NAME,...", help="Blobs that the ONNX model gives; default: the network's outputs.")
@click.option("--check/--no-check", default=True, help="Compare every blob with exact arithmetic.  [default: check]")
@click.option("--keep-going", is_flag=True, help="Write the bundle even when the check fails.")
@click.option("--images", multiple=True, type=FILE, help="Check on these pictures (repeat the option).")
@click.option(
    "--reference", type=REFERENCE, help="Check on the inputs of your own Caffe, and against its blobs: numpy.savez."
)
@click.option(
    "--size",
    type=click.IntRange(1),
    help="Another size of the input, in pixels: poolings that cover their whole map do so at this size too.",
)
@stated_preprocessing
@strict
@click.option(
    "--labels",
    type=Labels(),
    metavar="FILE|devkit|sorted",
    help="Names of the classes, one per line in the network's order; or the order of ILSVRC2012's 1000 classes that it "
    "speaks. Default for a released network: devkit.",
)
@click.option(
    "--class-order",
    type=click.Choice(["devkit", "sorted"]),
    help="Number ILSVRC2012's classes so, by permuting the classifier; default: as in the caffemodel.",
)
@click.option(
    "--input",
    type=click.Choice(["blob", "image"]),
    default="blob",
    show_default=True,
    help="What the ONNX model takes: the network's own blob, or 'image', pictures as uint8 (N, H, W, C), R G B; it "
    "then holds the order of the channels, mean and scale itself.",
)
@click.option(
    "--input-size",
    type=click.Choice(["fixed", "any"]),
    default="fixed",
    show_default=True,
    help="With --input image: whether pictures come resized and cropped, or one at a time in any size, uint8 "
    "(1, H, W, C); the ONNX model then resizes and crops too, exactly as OpenCV does.",
)
@click.option("--force", is_flag=True, help="Replace an existing bundle.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@talk
def command(caffemodel: Path, as_json: bool, quiet: bool, verbose: bool, **given: Any) -> None:
    """Convert CAFFEMODEL to a folder with ONNX model, PyTorch weights and report.

    In its place, a folder that senet-convert wrote is converted again, with --weights from tuned weights.
    """
    with refusals(verbose):
        folder = given["output"] or _beside(caffemodel, given["weights"])
        from_bundle = caffemodel.is_dir()
        if from_bundle and not given["weights"]:
            raise ConvertError(f"{caffemodel}: it is a bundle already; tuned weights for it are given with --weights")
        bundle.refuse_taken(folder, given["force"])  # before torch is imported, which takes seconds
        from ..converter import convert as room
        from ..converter.network import prototxt_of

        _require_sense(given, from_bundle)
        names = tuple(name.strip() for name in (given["outputs"] or "").split(",") if name.strip())
        wishes = room.Wishes(
            options=options(given),
            outputs=names,
            any_size=given["input_size"] == "any",
            command=command_line(),
            **{key: given[key] for key in _PASSED_ON},
        )
        with progress_on_stderr(quiet) as progress:
            if from_bundle:
                result = room.convert_bundle(caffemodel, given["weights"], folder, wishes, progress)
            else:
                with prototxt_of(caffemodel, given["prototxt"]) as prototxt:
                    result = room.convert(caffemodel, prototxt, folder, wishes, progress)
        if not quiet:
            warn(result.warnings)
        if as_json:
            with results(f"; {result.folder} is written"):
                click.echo(json.dumps(result.report, indent=1, ensure_ascii=False))
        elif not quiet:
            summary(result.folder, result.report)
        if result.failure:
            click.echo(f"senet-convert: {result.failure}", err=True)


def _beside(source: Path, weights: Path | None) -> Path:
    """Where the bundle goes by default: beside what has the weights, by its stem."""
    named = weights or source
    return named.parent / named.stem


def _require_sense(given: Mapping[str, Any], from_bundle: bool) -> None:
    """Raise UsageError for options that cannot be followed, or not together."""
    if given["weights"] and not from_bundle:
        raise click.UsageError("--weights is for a folder that senet-convert wrote, in the caffemodel's place")
    for name in ("prototxt", "shapes", "stages") if from_bundle else ():
        if given[name]:
            raise click.UsageError("a folder that senet-convert wrote has the network's definition; leave it away")
    from ..converter.convert import opset_fault

    fault = opset_fault(given["opset"])
    if fault:
        raise click.BadParameter(fault, param_hint="--opset")
    if given["images"] and given["reference"]:
        raise click.UsageError("the check computes on --images or on the inputs in --reference; give one of them")
    for name in ("images", "reference"):
        if given[name] and not given["check"]:
            raise click.UsageError(f"--{name} is for the check, which --no-check leaves out; give one of them")


_PASSED_ON = (
    "opset",
    "all_blobs",
    "check",
    "keep_going",
    "strict",
    "force",
    "images",
    "reference",
    "size",
    "resize",
    "crop",
    "mean",
    "scale",
    "resample",
    "color",
    "labels",
    "class_order",
    "input",
)
