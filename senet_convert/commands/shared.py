"""What the commands share: option types, messages and exit codes."""

from __future__ import annotations

import math
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click
from click.shell_completion import CompletionItem

from ..errors import ConvertError
from .inputs import FILE, MEAN, PROTOTXT, PYTHON, files, require_given
from .outputs import on_terminal

if TYPE_CHECKING:
    from ..converter.graph.draft import Options
    from ..converter.layers import Layer
    from ..deploy.model import Model

GRACE = 5.0  # seconds that SIGTERM leaves for tidying up


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


def finite(text: str) -> float:
    """A number. Raises ValueError, also for NaN and infinity."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number


class Number(click.ParamType[Any]):
    """A finite number."""

    name = "float"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """A float."""
        try:
            return finite(value)
        except ValueError:
            self.fail(f"'{value}' is not a finite number", param, ctx)


class Numbers(click.ParamType[Any]):
    """B,G,R or one value."""

    name = "numbers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """A tuple of floats."""
        if isinstance(value, tuple):
            return value
        try:
            return tuple(finite(number) for number in str(value).split(","))
        except ValueError:
            self.fail(f"'{value}' is not a list of finite numbers such as 104,117,123", param, ctx)


class Mean(Numbers):
    """B,G,R or one value, or a mean.binaryproto."""

    name = "mean"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """A tuple of floats, or a path."""
        path = Path(str(value))
        if isinstance(value, str) and (os.access(path, os.F_OK) or os.sep in value or path.suffix[1:].isalpha()):
            return MEAN.convert(value, param, ctx)
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
    return click.option("-v", "--verbose", is_flag=True, help="Show the traceback of an unexpected fault.")(command)


def network(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options that say which network a file means."""
    for option in reversed(
        [
            click.option(
                "--prototxt",
                type=PROTOTXT,
                help="The network's definition; default: the one beside the caffemodel. Where that is of another "
                "network, give the caffemodel itself, which mostly holds its definition.",
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
                "--layers",
                "layer_files",
                multiple=True,
                type=PYTHON,
                help="A Python file with layer types of your own.",
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
    from ..converter.graph.draft import Options
    from ..proto import State

    state = State(given["phase"], given["level"], given["stages"])
    return Options(state, _by_input(given["shapes"]), own_layers(given["layer_files"]), given["ignore_fields"])


def _by_input(shapes: Iterable[tuple[str | None, tuple[int, ...]]]) -> dict[str | None, tuple[int, ...]]:
    found: dict[str | None, tuple[int, ...]] = {}
    for name, shape in shapes:
        if name in found:
            whose = f"of input '{name}' is" if name else "without a name is"
            both = " and ".join(",".join(map(str, given)) for given in (found[name], shape))
            raise ConvertError(f"--input-shape: the shape {whose} given twice, as {both}; keep one")
        found[name] = shape
    return found


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
    from ..deploy.runtime.providers import Tuning

    tuning = Tuning(cache=given["engine_cache"])
    model = Opened.open(path, given["provider"], given["threads"], spin=False, tuning=tuning)
    return model.with_ten_crops() if given["ten_crop"] else model


@contextmanager
def refusals(verbose: bool) -> Iterator[None]:
    """Faults as messages and exit codes; SIGTERM and SIGHUP unwind like Ctrl-C: nothing stays half-written."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup wants it
            signal.signal(number, _terminated)
    try:
        require_given()
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
    except OSError as fault:  # of the system, where no room has said more
        if verbose:
            traceback.print_exc()
        where = f"{fault.filename}: cannot be read or written" if fault.filename else "reading or writing failed"
        fail(f"{where}: {fault.strerror or fault}")
    except Exception as fault:  # a fault of ours: say so, and leave the traceback to those who ask
        if verbose:
            traceback.print_exc()
        fail(f"unexpected fault ({type(fault).__name__}: {fault}). Please report it, with what -v prints")


def _terminated(number: int, _: object) -> NoReturn:
    """Unwind and end; end all the same when that waits for a thread that hangs in a read."""
    code = 128 + number
    last = threading.Timer(GRACE, os._exit, [code])
    last.daemon = True
    last.start()
    sys.exit(code)


def fail(message: str) -> NoReturn:
    """Exit code 1 with one message."""
    click.echo(f"senet-convert: {message}", err=True)
    raise SystemExit(1)


@contextmanager
def progress_on_stderr(quiet: bool) -> Iterator[Callable[[str], None]]:
    """Says what happens next: a spinner on a terminal, nothing elsewhere."""
    if quiet or not on_terminal():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True)
    with console.status("starting") as status:
        yield lambda text: status.update(Text(text))  # file names are no markup


def warn(warnings: Iterable[str]) -> None:
    """Warnings on stderr."""
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)


def summary(folder: Path, report: Mapping[str, Any]) -> None:
    """The outcome of a conversion on stderr: tables on a terminal, one line elsewhere."""
    if on_terminal():
        from ..tables import print_report

        print_report(folder, report)
    else:
        files = " with ".join(source["name"] for source in report["sources"])
        click.echo(f"{folder}: {report['verdict']} ({files})", err=True)
