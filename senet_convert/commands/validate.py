"""`senet-convert validate MODEL IMAGES`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from .shared.inputs import BUNDLE, CAFFEMODEL, FILE, FOLDER, PROTOTXT, PYTHON
from .shared.options import (
    asked_preprocessing,
    engine,
    open_model,
    own_layers,
    strict,
    talk,
    tell_preprocessing,
)
from .shared.outputs import on_terminal, results
from .shared.refusals import fail, refusals

ENGINES = ("onnx", "torch", "caffe-generic")


class Part(click.ParamType[Any]):
    """I/N: part I of N, from 1."""

    name = "part"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """(number, count)."""
        number, _, count = str(value).partition("/")
        if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
            self.fail(f"'{value}' is not a part such as 1/4, the first of four", param, ctx)
        return int(number), int(count)


class Engines(click.ParamType[Any]):
    """NAME,NAME of engines."""

    name = "engines"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """A list of names."""
        names = [word.strip() for word in str(value).split(",")]
        for name in names:
            if name not in ENGINES:
                self.fail(f"'{name}' is none of {', '.join(ENGINES)}", param, ctx)
        return names

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """One more of them, behind those that are there."""
        before, comma, begun = incomplete.rpartition(",")
        names = [name for name in ENGINES if name.startswith(begun) and name not in before.split(",")]
        return [CompletionItem(f"{before}{comma}{name}") for name in names]


@click.command("validate")
@click.argument("model", type=BUNDLE)
@click.argument("images", type=FOLDER)
@click.option(
    "--labels",
    type=FILE,
    help="What is right: 'file label' lines, CSV, the devkit's ground truth or its archive. Not needed where each "
    "class has its folder, or for WebDataset and Parquet.",
)
@click.option(
    "--label-order",
    type=click.Choice(["auto", "model", "devkit", "sorted"]),
    default="auto",
    show_default=True,
    help="What numbers in the labels mean: the model's outputs, ILSVRC2012 devkit IDs minus one, or places among the "
    "sorted WordNet IDs. auto knows lists of ILSVRC2012's validation files, and takes others for the model's.",
)
@engine
@asked_preprocessing
@strict
@click.option(
    "--engine",
    "engines",
    multiple=True,
    type=Engines(),
    metavar="NAME,...",
    help="What computes: onnx (the model's file, the default), torch (the readable PyTorch net) or caffe-generic (the "
    "Caffe graph, layer by layer). Several are run side by side; the first one's errors are judged.",
)
@click.option(
    "--caffemodel", type=CAFFEMODEL, help="What torch and caffe-generic compute from; default: the source beside MODEL."
)
@click.option("--prototxt", type=PROTOTXT, help="Its definition; default: the bundle's own.")
@click.option(
    "--layers",
    "layer_files",
    multiple=True,
    type=PYTHON,
    help="For torch and caffe-generic: the Python file with your own layer types that MODEL was converted with.",
)
@click.option("--workers", type=click.IntRange(1), help="Threads that decode images; default: the usable cores.")
@click.option("--limit", type=click.IntRange(1), help="Only so many images, spread evenly over the set.")
@click.option("--shard", type=Part(), metavar="I/N", help="Only every N-th image, from the I-th on.")
@click.option("--resume", type=click.Path(dir_okay=False, path_type=Path), help="Journal: go on where a run stopped.")
@click.option(
    "--predictions",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write a line per image: CSV, or .parquet.",
)
@click.option("--expect-top1", type=click.FloatRange(0, 100), help="Top-1 error in % that must come out, else exit 1.")
@click.option("--tolerance", type=click.FloatRange(0), help="How far off it may be, in %.  [default: 0.2]")
@click.option(
    "--diagnose/--no-diagnose",
    default=None,
    help="Look for the cause of a high error; by default where it is higher than expected.",
)
@click.option("--sample", type=click.IntRange(1), default=200, show_default=True, help="Images for that.")
@click.option("--worst", type=click.IntRange(0), default=10, show_default=True, help="Classes and mistakes to list.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@talk
def command(model: Path, images: Path, as_json: bool, quiet: bool, verbose: bool, **given: Any) -> None:
    """Measure the top-1 and top-5 errors of MODEL on the labelled pictures of IMAGES.

    MODEL is a folder that senet-convert wrote, or its .onnx file. IMAGES is a folder with a folder per class; a flat
    folder, or ILSVRC2012_img_val.tar as it is, with --labels; WebDataset shards; or Parquet files.
    """
    with refusals(verbose):
        from ..deploy.images.imagesets import open_set
        from ..deploy.validation.validate import validate

        loaded, *others = _opened(model, given)
        tell_preprocessing(loaded, quiet)
        found = open_set(images, given["labels"], loaded.classes, loaded.outputs, given["label_order"])
        if found.passed and not quiet:
            click.echo(f"note: {found.passed}", err=True)
        if given["shard"]:
            found = found.shard(*given["shard"])
        if given["limit"]:
            found = found.limited(given["limit"])
        try:
            with _bar(quiet) as progress:
                outcome = validate(loaded, found, _wishes(given), progress, others=others)
        except KeyboardInterrupt:
            fail("interrupted" + (f"; the same command goes on from {given['resume']}" if given["resume"] else ""))
        if not quiet:
            for name, reason in outcome.tally.broken:
                click.echo(f"warning: {name}: {reason}", err=True)
        with results():
            if as_json:
                click.echo(json.dumps(outcome.plain(), indent=1, ensure_ascii=False))
            else:
                from .shared.tables import print_outcome

                print_outcome(outcome, given["worst"])
        verdict = outcome.verdict
        if given["expect_top1"] is not None and verdict is not None and not verdict.holds:
            found_error = f"the top-1 error is {outcome.tally.top1_error:.2f} %"
            fail(f"{found_error}, expected {verdict.expected} ± {verdict.slack:.2f} %")


def _opened(path: Path, given: dict[str, Any]) -> list[Any]:
    """The model by each engine that was asked for, in that order."""
    names = list(dict.fromkeys(name for names in given["engines"] for name in names)) or ["onnx"]
    model = open_model(path, given)
    found = {"onnx": model}
    slow = [name for name in names if name != "onnx"]
    if slow:
        from ..converter.engines import engines

        layers = own_layers(given["layer_files"])
        found |= {one.engine: one for one in engines(slow, model, given["caffemodel"], given["prototxt"], layers)}
    elif given["caffemodel"] or given["prototxt"] or given["layer_files"]:
        raise click.UsageError("--caffemodel, --prototxt and --layers are for --engine torch or caffe-generic")
    return [found[name] for name in names]


def _wishes(given: dict[str, Any]) -> Any:
    from ..deploy.validation.validate import Wishes

    return Wishes(
        batch=given["batch"],
        workers=given["workers"],
        resume=given["resume"],
        predictions=given["predictions"],
        expect_top1=given["expect_top1"],
        tolerance=given["tolerance"],
        sample=0 if given["diagnose"] is False else given["sample"],
        always=bool(given["diagnose"]),
    )


@contextmanager
def _bar(quiet: bool) -> Iterator[Callable[[int, int, int], None] | None]:
    """A bar with images/s on a terminal, nothing elsewhere."""
    if quiet or not on_terminal():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[speed]}"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("images", total=None, speed="")

        def show(done: int, earlier: int, total: int) -> None:
            elapsed = bar.tasks[0].elapsed
            speed = f"{max(0, done - earlier) / elapsed:.1f} images/s" if elapsed else ""
            bar.update(task, completed=done, total=total, speed=speed)

        yield show
