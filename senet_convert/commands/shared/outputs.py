"""Where commands print: results on stdout, which may be closed or full; all else on stderr."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from ...errors import ConvertError


@contextmanager
def results(done: str = "") -> Iterator[None]:
    """Around what prints a result. Raises ConvertError where stdout is closed or takes no more.

    `done` is what the command has done all the same, for that message.
    """
    if sys.stdout is None:  # closed by whoever started this
        raise ConvertError(f"standard output is closed, the result goes nowhere{done}")
    if isinstance(sys.stdout, io.TextIOWrapper):  # names of files may be anything
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as fault:
        _discard()
        raise ConvertError(f"standard output cannot be written: {fault.strerror or fault}{done}") from fault


def on_terminal() -> bool:
    """Does a person see what goes to stderr?"""
    return sys.stderr is not None and sys.stderr.isatty()


def _discard() -> None:
    """What stdout still holds would fail again when the interpreter ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
