"""Faults as messages and exit codes, and signals that leave nothing half-written."""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import click

from ... import extras
from ...errors import ConvertError
from .inputs import require_given

GRACE = 5.0  # seconds that SIGTERM leaves for tidying up


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
        fail(extras.lacking(lacking.name))
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
