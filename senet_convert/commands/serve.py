"""`senet-convert serve MODEL...`: every option comes from the table of settings."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from .shared.inputs import TOML
from .shared.outputs import results
from .shared.refusals import refusals


class _Option(click.Option):
    """An option of a setting; `group` is the heading that it is shown under."""

    group = ""


class _Word(click.ParamType[Any]):
    """A setting's value, read as the table says."""

    def __init__(self, read: Callable[[str], Any], name: str) -> None:
        self.read = read
        self.name = name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The value, or wrong usage."""
        try:
            return self.read(value)
        except ValueError as fault:
            self.fail(str(fault), param, ctx)


class _Command(click.Command):
    """Options are made when they are needed, for the table is a heavy import, and shown by group."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        if not any(isinstance(param, _Option) for param in self.params):
            self.params[1:1] = _options()
        return super().get_params(ctx)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        groups: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx) if isinstance(param, click.Option) else None
            if record:
                groups.setdefault(param.group if isinstance(param, _Option) else "Options", []).append(record)
        for group, records in groups.items():
            with formatter.section(group):
                formatter.write_dl(records)


def _options() -> list[click.Parameter]:
    from ..deploy.serve.settings import types
    from ..deploy.serve.settings.settings import TABLE

    found: list[click.Parameter] = []
    for row in TABLE:
        if row.secret or row.field == "models":
            continue
        default = row.show(row.default)
        text = row.help + (f"  [default: {default}]" if default else "")
        if row.kind is types.SWITCH:
            option = _Option([f"{row.flag}/--no-{row.flag[2:]}", row.field], default=None, help=text)
        else:
            kind = _Word(row.kind.read, row.name)
            option = _Option([row.flag, row.field], type=kind, default=None, metavar=row.kind.metavar, help=text)
        option.group = row.group
        found.append(option)
    return found


@click.command("serve", cls=_Command)
@click.argument("models", nargs=-1, metavar="[MODEL]...")
@click.option("--config", type=TOML, help="Settings as TOML: the names of the options, with _ for -.")
@click.option("--show-config", is_flag=True, help="Print as TOML what is in force and where it comes from, and stop.")
@click.option("-q", "--quiet", is_flag=True, help="Log errors only, as --log-level error.")
@click.option(
    "-v", "--verbose", is_flag=True, help="Log all there is, as --log-level debug; tracebacks of unexpected faults."
)
def command(models: tuple[str, ...], config: Path | None, show_config: bool, verbose: bool, **given: Any) -> None:
    """Serve each MODEL over HTTP, and over gRPC with --grpc-port.

    MODEL is a folder that senet-convert wrote, its .onnx file, or a folder with versions (MODEL/1/model.onnx).
    NAME=PATH gives it another name. --repository serves every model of a folder.

    Every option can also stand in the file of --config, or in the environment, where --max-batch is
    SENET_CONVERT_SERVE_MAX_BATCH. The command line counts before the environment, and the environment before the file.
    """
    with refusals(verbose):
        from ..deploy.serve.settings.config import as_toml, read

        if given.pop("quiet") or verbose:
            given["log_level"] = given["log_level"] or ("debug" if verbose else "error")
        flags = {name: value for name, value in given.items() if value is not None}
        settings, origins = read(flags | ({"models": _places(models)} if models else {}), os.environ, config)
        if show_config:
            with results():
                click.echo(as_toml(settings, origins))
            return
        os.environ["OPENCV_IO_MAX_IMAGE_PIXELS"] = str(settings.max_pixels)  # OpenCV reads it when it is imported
        from ..deploy.serve import server

        raise SystemExit(server.run(settings))


def _places(words: tuple[str, ...]) -> Any:
    from ..deploy.serve.models import model_paths

    return tuple(model_paths.parse(word) for word in words)
