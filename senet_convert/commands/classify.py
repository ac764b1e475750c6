"""`senet-convert classify MODEL IMAGE...`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from .shared.inputs import BUNDLE, files
from .shared.options import asked_preprocessing, engine, open_model, strict, talk, tell_preprocessing
from .shared.outputs import results
from .shared.refusals import fail, refusals


@click.command("classify")
@click.argument("model", type=BUNDLE)
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True, shell_complete=files)
@click.option("--top", type=click.IntRange(1), default=5, show_default=True, help="Classes per image.")
@engine
@asked_preprocessing
@strict
@click.option("--json", "as_json", is_flag=True, help="Print the answers as JSON.")
@talk
def command(model: Path, images: tuple[str, ...], top: int, as_json: bool, verbose: bool, **given: Any) -> None:
    """Name what is in each IMAGE: files, folders, or - for paths on standard input.

    MODEL is a folder that senet-convert wrote, or its .onnx file. An image that cannot be read gets its fault for an
    answer, and the exit code is 1.
    """
    quiet = given["quiet"]
    with refusals(verbose):
        from ..deploy import classify as room
        from ..deploy.images.passed_over import PassedOver

        passed = PassedOver()
        paths = room.pictures(images, sys.stdin if "-" in images else (), passed)
        if str(passed):
            click.echo(f"note: {passed}", err=True)
        loaded = open_model(model, given)
        tell_preprocessing(loaded, quiet)
        answers = list(room.classify(loaded, paths, top, given["batch"], given["threads"]))
        with results():
            if as_json:
                plain = [answer.plain(loaded) for answer in answers]
                click.echo(json.dumps(plain, indent=1, ensure_ascii=False))
            else:
                from .shared.tables import print_answers

                print_answers(answers, loaded)
        faults = [f"{answer.image}: {answer.fault}" for answer in answers if answer.fault]
        if faults:
            fail("\n".join([f"{len(faults)} of {len(answers)} images cannot be classified", *faults]))
