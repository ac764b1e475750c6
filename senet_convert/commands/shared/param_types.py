"""Types of option values that click does not have."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from .inputs import FILE, MEAN, files


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


class Resize(click.ParamType[Any]):
    """A length in pixels, or 'squash'."""

    name = "resize"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """A length of 1 or more; 0, `preprocess.SQUASH`, for pictures that are squashed to the input's size."""
        if value == "squash":
            return 0
        if isinstance(value, int) or (str(value).isdecimal() and int(value)):
            return int(value)
        return self.fail(f"'{value}' is neither a length in pixels nor 'squash'", param, ctx)


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
