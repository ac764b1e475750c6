"""Files that commands read: a fault of a file is exit code 1, told once the usage is in order, of all files."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from ... import bundle
from ...errors import each
from ...files import require_file

_GIVEN = f"{__name__}.given"  # in click's notes of a run: the files that were given, each with its type


class File(click.ParamType[Any]):
    """The path of a file that is read. `suffixes` are those of the files to name where it lacks; with `folders` it may
    be a folder as well.
    """

    def __init__(self, *suffixes: str, folders: bool = False) -> None:
        self.suffixes = suffixes
        self.folders = folders
        self.name = "path" if folders else "file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """A path, noted for `require_given`."""
        path = Path(value)
        if ctx is not None:
            ctx.meta.setdefault(_GIVEN, {})[path] = self
        return path

    def require(self, path: Path) -> None:
        """Raise ReadError where the path is not what it should be."""
        require_file(path, *self.suffixes, folders=self.folders)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Files."""
        return files(ctx, param, incomplete)


class OrBundle(File):
    """The path of a file, or of a folder that senet-convert wrote."""

    def require(self, path: Path) -> None:
        """Raise ReadError where it is neither; of any other folder, the files that may be meant are named."""
        with suppress(OSError):
            if (path / bundle.REPORT).is_file():
                return
        super().require(path)


def files(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Completion by file names, of what is not always one. The shell looks them up; a value that is empty would be lost
    in zsh, and all that follow be out of step.
    """
    return [CompletionItem(incomplete or "*", type="file")]


FILE, FOLDER = File(), File(folders=True)
CAFFEMODEL, PROTOTXT, NETWORK = File(".caffemodel"), File(".prototxt"), File(".caffemodel", ".prototxt")
BUNDLE, STATE = File(".onnx", folders=True), File(".safetensors", folders=True)
SOURCE, ANY_NETWORK = OrBundle(".caffemodel"), OrBundle(".caffemodel", ".prototxt")
MEAN, REFERENCE, PYTHON, TOML = File(".binaryproto"), File(".npz"), File(".py"), File(".toml")


def require_given() -> None:
    """Raise ReadError with every file of this run that cannot be read."""
    given: Mapping[Path, File] = click.get_current_context().meta.get(_GIVEN, {})
    each(partial(kind.require, path) for path, kind in given.items())
