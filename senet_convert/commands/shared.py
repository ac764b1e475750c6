"""What the commands share: option types, messages and exit codes."""

from __future__ import annotations

import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click
from click.shell_completion import CompletionItem

from ..converter.passes import Options
from ..errors import ConvertError
from ..proto import State

if TYPE_CHECKING:
    from ..converter.layers import Layer
    from ..deploy.model import Model

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


def files(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Completion by file names, of what is not always one."""
    return [CompletionItem(incomplete, type="file")]


class Shapes(click.ParamType[Any]):
    """N,C,H,W or NAME=N,C,H,W."""

    name = "shape"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """(name or None, shape)."""
        name, equals, dims = str(value).rpartition("=")
        try:
            shape = tuple(int(dim) for dim in dims.replace("x", ",").split(","))
        except ValueError:
            self.fail(f"'{value}' is not a shape; write N,C,H,W or NAME=N,C,H,W", param, ctx)
        return (name if equals else None, shape)


class Numbers(click.ParamType[Any]):
    """B,G,R or one value."""

    name = "numbers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """A tuple of floats."""
        if isinstance(value, tuple):
            return value
        try:
            return tuple(float(number) for number in str(value).split(","))
        except ValueError:
            self.fail(f"'{value}' is not a list of numbers such as 104,117,123", param, ctx)


class Mean(Numbers):
    """B,G,R or one value, or a mean.binaryproto."""

    name = "mean"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """A tuple of floats, or a path."""
        if isinstance(value, str) and Path(value).is_file():
            return Path(value)
        return super().convert(value, param, ctx)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Files."""
        return files(ctx, param, incomplete)


class Labels(click.ParamType[Any]):
    """A file of labels, or the name of an order of ILSVRC2012's classes."""

    name = "labels"
    orders = ("devkit", "sorted")

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """A path, or 'devkit' or 'sorted'; a file of that name is meant by ./devkit."""
        return value if value in self.orders else FILE.convert(value, param, ctx)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The names, and files."""
        names = [CompletionItem(name) for name in self.orders if name.startswith(incomplete)]
        return [*files(ctx, param, incomplete), *names]  # bash forgets what stands before files


def talk(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options of every command that says something."""
    command = click.option("-q", "--quiet", is_flag=True, help="Nothing but errors on stderr.")(command)
    return click.option("-v", "--verbose", is_flag=True, help="Say more; show the traceback of an unexpected fault.")(
        command
    )


def network(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options that say which network a file means."""
    for option in reversed(
        [
            click.option(
                "--prototxt", type=FILE, help="The network's definition; default: the one beside the caffemodel."
            ),
            click.option(
                "--input-shape",
                "shapes",
                multiple=True,
                type=Shapes(),
                metavar="[NAME=]N,C,H,W",
                help="Shape of an input that the files leave open.",
            ),
            click.option("--phase", type=click.Choice(["TEST", "TRAIN"]), default="TEST", show_default=True),
            click.option("--stage", "stages", multiple=True, help="A stage that include and exclude rules ask for."),
            click.option("--level", type=int, default=0, show_default=True),
            click.option(
                "--layers", "layer_files", multiple=True, type=FILE, help="A Python file with layer types of your own."
            ),
            click.option(
                "--ignore-field",
                "ignore_fields",
                multiple=True,
                metavar="NAME",
                help="Pass over a field that is not understood, such as pooling_param.pad_type, on your own judgement.",
            ),
        ]
    ):
        command = option(command)
    return command


def engine(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options that say what a model runs on."""
    for option in reversed(
        [
            click.option(
                "--provider",
                type=click.Choice(["auto", "cpu", "cuda", "tensorrt", "openvino"]),
                default="auto",
                show_default=True,
                help="What computes; one that does not really start is an error.",
            ),
            click.option("--threads", type=click.IntRange(1), help="Threads that compute; default: the usable cores."),
            click.option(
                "--engine-cache",
                type=click.Path(file_okay=False, path_type=Path),
                help="Folder where TensorRT keeps its engines and timings.",
            ),
            click.option("--batch", type=click.IntRange(1), default=32, show_default=True, help="Images per run."),
            click.option(
                "--ten-crop",
                is_flag=True,
                help="Average over ten crops of each image: corners and centre, and these mirrored.",
            ),
        ]
    ):
        command = option(command)
    return command


def options(given: Mapping[str, Any]) -> Options:
    """What the options of `network` say, as the converter takes it."""
    state = State(given["phase"], given["level"], given["stages"])
    return Options(state, dict(given["shapes"]), own_layers(given["layer_files"]), given["ignore_fields"])


def own_layers(files: Iterable[Path]) -> dict[str, type[Layer]]:
    """The layer types of a person's own files. Raises ConvertError for one that two of them bring."""
    found: dict[str, type[Layer]] = {}
    for path in files:
        from ..converter.layers.registry import from_file

        for name, kind in from_file(path).items():
            if name in found:
                raise ConvertError(f"{path}: layer type '{name}' comes from another file of --layers too; keep one")
            found[name] = kind
    return found


def open_model(path: Path, given: Mapping[str, Any]) -> Model:
    """The model that the options of `engine` describe. Its threads do not spin: others decode images on their cores."""
    from ..deploy.model import Model as Opened
    from ..deploy.providers import Tuning

    tuning = Tuning(cache=given["engine_cache"])
    model = Opened.open(path, given["provider"], given["threads"], spin=False, tuning=tuning)
    return model.with_ten_crops() if given["ten_crop"] else model


@contextmanager
def refusals(verbose: bool) -> Iterator[None]:
    """Faults as messages and exit codes; SIGTERM unwinds like Ctrl-C, so that nothing stays half-written."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    except (click.exceptions.Exit, click.ClickException, click.Abort):
        raise
    except ConvertError as refusal:
        fail(str(refusal))
    except KeyboardInterrupt:
        fail("interrupted; nothing was written")
    except BrokenPipeError:
        raise
    except MemoryError:
        fail("out of memory; the network needs more than this machine has free")
    except ModuleNotFoundError as lacking:
        fail(f"the package '{lacking.name}' is not installed; install senet-convert[all]")
    except Exception as fault:  # a fault of ours: say so, and leave the traceback to those who ask
        if verbose:
            traceback.print_exc()
        fail(f"unexpected fault ({type(fault).__name__}: {fault}). Please report it, with what -v prints")


def fail(message: str) -> NoReturn:
    """Exit code 1 with one message."""
    click.echo(f"senet-convert: {message}", err=True)
    raise SystemExit(1)


@contextmanager
def progress_on_stderr(quiet: bool) -> Iterator[Callable[[str], None]]:
    """Says what happens next: a spinner on a terminal, nothing elsewhere."""
    if quiet or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console

    console = Console(stderr=True)
    with console.status("starting") as status:
        yield lambda text: status.update(text)


def warn(warnings: Iterable[str]) -> None:
    """Warnings on stderr, one line each."""
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)


def summary(folder: Path, report: Mapping[str, Any]) -> None:
    """The outcome of a conversion on stderr: tables on a terminal, one line elsewhere."""
    if sys.stderr.isatty():
        from ..tables import print_report

        print_report(folder, report)
    else:
        files = " with ".join(source["name"] for source in report["sources"])
        click.echo(f"{folder}: {report['verdict']} ({files})", err=True)
