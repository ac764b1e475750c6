"""The command line: parse, call one function, print.

Exit codes: 0 written and checked; 1 refused, one message on stderr, nothing written; 2 wrong usage. Tables and progress
go to stderr when it is a terminal; stdout is for results (`--json`).
"""

from __future__ import annotations

import json
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from .errors import ConvertError
from .version import __version__

# Everything heavier (torch, onnx, rich) is imported inside the commands, so that --help answers at once.

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


class _Shapes(click.ParamType):
    """N,C,H,W or NAME=N,C,H,W."""

    name = "shape"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        name, equals, dims = str(value).rpartition("=")
        try:
            shape = tuple(int(dim) for dim in dims.replace("x", ",").split(","))
        except ValueError:
            self.fail(f"'{value}' is not a shape; write N,C,H,W or NAME=N,C,H,W", param, ctx)
        return (name if equals else None, shape)


class _Numbers(click.ParamType):
    """B,G,R or one value."""

    name = "numbers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, tuple):
            return value
        try:
            return tuple(float(number) for number in str(value).split(","))
        except ValueError:
            self.fail(f"'{value}' is not a list of numbers such as 104,117,123", param, ctx)


class _Main(click.Group):
    """A group whose default command is `convert`: a file name in a command's place converts that file."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        own = {option for param in self.params for option in param.opts} | set(ctx.help_option_names)
        if args and args[0] not in self.commands and args[0] not in own:
            if not args[0].startswith("-") and not Path(args[0]).exists():
                raise click.UsageError(
                    f"no such file or command: '{args[0]}'. Commands: {', '.join(sorted(self.commands))}", ctx
                )
            args = ["convert", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_Main, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """Take Caffe networks out of Caffe and into production, and prove that nothing changed on the way.

    \b
    senet-convert SE-ResNet-50.caffemodel     convert, check, write SE-ResNet-50/
    senet-convert inspect FILE                look at a network
    senet-convert demo                        try it on the embedded network
    """


def _talk(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options of every command that says something."""
    command = click.option("-q", "--quiet", is_flag=True, help="Nothing but errors on stderr.")(command)
    return click.option("-v", "--verbose", is_flag=True, help="Say more; show the traceback of an unexpected fault.")(command)


def _network(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options that say which network a file means."""
    for option in reversed(
        [
            click.option("--prototxt", type=_FILE, help="The network's definition; default: the one beside the caffemodel."),
            click.option(
                "--input-shape",
                "shapes",
                multiple=True,
                type=_Shapes(),
                metavar="[NAME=]N,C,H,W",
                help="Shape of an input that the files leave open.",
            ),
            click.option("--phase", type=click.Choice(["TEST", "TRAIN"]), default="TEST", show_default=True),
            click.option("--stage", "stages", multiple=True, help="A stage that include and exclude rules ask for."),
            click.option("--level", type=int, default=0, show_default=True),
        ]
    ):
        command = option(command)
    return command


@main.command()
@click.argument("caffemodel", type=_FILE)
@_network
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Folder to write; default: the model's stem beside it.")
@click.option("--opset", type=int, default=17, show_default=True, help="ONNX opset, from 13 on.")
@click.option("--all-blobs", is_flag=True, help="Make every Caffe blob an output of the ONNX model.")
@click.option("--outputs", metavar="NAME,...", help="Blobs that the ONNX model gives; default: the network's outputs.")
@click.option("--check/--no-check", default=True, help="Compare every blob with exact arithmetic.  [default: check]")
@click.option("--keep-going", is_flag=True, help="Write the bundle even when the check fails.")
@click.option("--images", multiple=True, type=_FILE, help="Check on these pictures (repeat the option).")
@click.option("--reference", type=_FILE, help="Check against your own Caffe's blobs, saved by numpy.savez.")
@click.option("--resize", type=click.IntRange(1), help="Preprocessing: length of the shorter side before the crop.")
@click.option("--crop", type=click.IntRange(1), help="Preprocessing: size of the centre crop; default: the input's.")
@click.option("--mean", type=_Numbers(), metavar="B,G,R", help="Preprocessing: mean to subtract; default: the prototxt's.")
@click.option("--scale", type=float, help="Preprocessing: factor after the mean.")
@click.option("--labels", type=_FILE, help="Names of the classes, one per line in the network's order.")
@click.option("--force", is_flag=True, help="Replace an existing bundle.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@_talk
def convert(caffemodel: Path, as_json: bool, quiet: bool, verbose: bool, **given: Any) -> None:
    """Convert CAFFEMODEL to a folder with ONNX model, PyTorch weights and report."""
    with _refusals(verbose):
        from .converter import convert as room
        from .converter.onnx_export import OPSETS

        if given["opset"] not in OPSETS:
            raise click.BadParameter(f"{given['opset']} is not between {OPSETS[0]} and {OPSETS[-1]}", param_hint="--opset")
        prototxt = given["prototxt"] or room.find_prototxt(caffemodel)
        names = tuple(name.strip() for name in (given["outputs"] or "").split(",") if name.strip())
        wishes = room.Wishes(
            options=_options(given),
            outputs=names,
            **{key: given[key] for key in _PASSED_ON},
        )
        folder = given["output"] or caffemodel.parent / caffemodel.stem
        with _progress(quiet) as progress:
            result = room.convert(caffemodel, prototxt, folder, wishes, progress)
        if not quiet:
            _warn(result.warnings)
        if as_json:
            click.echo(json.dumps(result.report, indent=1, ensure_ascii=False))
        elif not quiet:
            _summary(result.folder, result.report)


_PASSED_ON = (
    "opset",
    "all_blobs",
    "check",
    "keep_going",
    "force",
    "images",
    "reference",
    "resize",
    "crop",
    "mean",
    "scale",
    "labels",
)


@main.command()
@click.argument("file", type=_FILE)
@_network
@click.option("--json", "as_json", is_flag=True, help="Print the table as JSON.")
@_talk
def inspect(file: Path, as_json: bool, quiet: bool, verbose: bool, **given: Any) -> None:
    """Show layers, shapes, parameters and multiply-accumulates of FILE: a caffemodel or a prototxt."""
    with _refusals(verbose):
        from .converter import inspect as room

        with _progress(quiet) as progress:
            progress(f"reading {file.name}")
            found = room.inspect(file, given["prototxt"], _options(given))
        if not quiet:
            _warn(found["warnings"])
        if as_json:
            click.echo(json.dumps(found, indent=1, ensure_ascii=False))
        else:
            from .tables import print_network

            print_network(found)


@main.command()
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("demo"), show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
@_talk
def demo(output: Path, as_json: bool, quiet: bool, verbose: bool) -> None:
    """Convert the embedded network, check it, and reproduce Caffe's probabilities on its 500 images."""
    with _refusals(verbose):
        from . import demo as room

        with _progress(quiet) as progress:
            outcome = room.run(output, progress)
        if as_json:
            plain = {key: value for key, value in vars(outcome).items() if key != "result"}
            click.echo(json.dumps({"folder": str(output), **plain, "report": outcome.result.report}, indent=1))
        elif not quiet:
            from .tables import print_demo

            _summary(output, outcome.result.report)
            print_demo(outcome)


@main.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script for SHELL; for bash: eval "$(senet-convert completion bash)"."""
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(main, {}, "senet-convert", "_SENET_CONVERT_COMPLETE").source())


# ---- what the commands share -----------------------------------------------------------------------------------------


def _options(given: Mapping[str, Any]) -> Any:
    from .converter.passes import Options
    from .proto import State

    return Options(State(given["phase"], given["level"], given["stages"]), dict(given["shapes"]))


@contextmanager
def _refusals(verbose: bool) -> Iterator[None]:
    """Faults as messages and exit codes; a termination request unwinds like Ctrl-C, so that nothing stays half-written."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    except (click.exceptions.Exit, click.ClickException, click.Abort):
        raise
    except ConvertError as refusal:
        _fail(str(refusal))
    except KeyboardInterrupt:
        _fail("interrupted; nothing was written")
    except BrokenPipeError:
        raise
    except MemoryError:
        _fail("out of memory; the network needs more than this machine has free")
    except ModuleNotFoundError as lacking:
        _fail(f"the package '{lacking.name}' is not installed; install senet-convert[all]")
    except Exception as fault:  # a fault of ours: say so, and leave the traceback to those who ask
        if verbose:
            traceback.print_exc()
        _fail(f"unexpected fault ({type(fault).__name__}: {fault}). Please report it, with what -v prints")


def _fail(message: str) -> None:
    click.echo(f"senet-convert: {message}", err=True)
    raise SystemExit(1)


@contextmanager
def _progress(quiet: bool) -> Iterator[Callable[[str], None]]:
    """Says what happens next: a spinner on a terminal, nothing elsewhere."""
    if quiet or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console

    console = Console(stderr=True)
    with console.status("starting") as status:
        yield lambda text: status.update(text)


def _warn(warnings: tuple[str, ...] | list[str]) -> None:
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)


def _summary(folder: Path, report: Mapping[str, Any]) -> None:
    if sys.stderr.isatty():
        from .tables import print_report

        print_report(folder, report)
    else:
        click.echo(f"{folder}: {report['verdict']}", err=True)
