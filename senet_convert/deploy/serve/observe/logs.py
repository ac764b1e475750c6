"""The log on stderr: a line for each thing, as text for people or JSON for programs. No bodies, no keys.

Lines are written by a thread of their own, from a queue: where nobody reads stderr, lines are dropped and counted, and
requests go on.
"""

from __future__ import annotations

import json
import logging
import logging.config
import os
import time
from collections.abc import Iterator
from copy import copy
from datetime import UTC, datetime
from logging.handlers import QueueHandler, QueueListener
from queue import Full, Queue
from typing import Any

from ..context import RequestContext, current

ACCESS = "senet_convert.access"
WAITING = 10_000  # lines that may wait to be written
LONGEST = 16_384  # characters of a line; tracebacks are the longest
_STDERR = 2
_access = logging.getLogger(ACCESS)


class Text(logging.Formatter):
    """`TIME LEVEL message key=value ...`; what clients wrote cannot begin a new line."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, and a traceback behind it where there is one."""
        line = f"{_when(record)} {record.levelname.lower():7} {_printable(record.getMessage())}"
        fields = _fields(record)
        line += "".join(f" {name}={value}" for name, value in fields.items())
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class Json(logging.Formatter):
    """One JSON object for each record."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        found = {"time": _when(record), "level": record.levelname.lower(), "message": record.getMessage()}
        found |= _fields(record)
        if record.exc_info:
            found["traceback"] = self.formatException(record.exc_info)
        return json.dumps(found, default=str)


FORMS: dict[str, type[logging.Formatter]] = {"text": Text, "json": Json}


class Queued(QueueHandler):
    """Takes records without ever waiting: lines are made at once, where it is known whose request they belong to."""

    def __init__(self) -> None:
        self._lines: Queue[logging.LogRecord] = Queue(WAITING)
        super().__init__(self._lines)
        self.dropped = 0
        self._untold = 0
        self._writer = QueueListener(self.queue, _Stderr())
        self._writer.start()

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """A record whose message is the line."""
        ready = copy(record)
        ready.msg, ready.args, ready.exc_info, ready.exc_text = self.format(record)[:LONGEST], None, None, None
        return ready

    def enqueue(self, record: logging.LogRecord) -> None:
        """Put it into the queue, or count it where the queue is full."""
        try:
            if self._untold:
                told = logging.makeLogRecord(record.__dict__)
                told.msg = f"{self._untold} lines of the log were dropped: nobody took them"
                self.queue.put_nowait(told)
                self._untold = 0
            self.queue.put_nowait(record)
        except Full:
            self.dropped += 1
            self._untold += 1

    def drain(self, seconds: float) -> None:
        """Wait until all that was said is written, at most so long."""
        ends = time.monotonic() + seconds
        while self._lines.unfinished_tasks and time.monotonic() < ends:
            time.sleep(0.002)


class _Stderr(logging.Handler):
    """Writes lines past Python's own buffer, whose lock a thread that waits for a reader would keep."""

    def createLock(self) -> None:  # noqa: N802 - logging's name
        """None: one thread uses it, and logging waits for locks when the process ends."""
        self.lock = None

    def emit(self, record: logging.LogRecord) -> None:
        """Write the line; where nobody can ever read it, forget it."""
        rest = f"{record.msg}\n".encode(errors="backslashreplace")
        try:
            while rest:
                rest = rest[os.write(_STDERR, rest) :]
        except OSError:
            return


def _handlers() -> Iterator[Queued]:
    return (handler for handler in logging.getLogger().handlers if isinstance(handler, Queued))


def dropped() -> int:
    """Lines that nobody took, since the start."""
    return sum(handler.dropped for handler in _handlers())


def drain(seconds: float) -> None:
    """Wait until what was said is written, at most so many seconds."""
    for handler in _handlers():
        handler.drain(seconds)


def configure(form: str, level: str) -> None:
    """Send every logger of the process to stderr, in one form; uvicorn's talk of start and stop is left out."""
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"one": {"()": FORMS[form]}},
            "handlers": {"stderr": {"()": Queued, "formatter": "one"}},
            "root": {"handlers": ["stderr"], "level": "WARNING"},
            "loggers": {
                "senet_convert": {"level": level.upper()},
                "uvicorn.error": {"level": "ERROR"},  # its warnings are about what single clients send
                "python_multipart": {"level": "ERROR"},  # as are its
                "uvicorn.access": {"level": "CRITICAL"},  # ours says more
            },
        }
    )
    logging.captureWarnings(True)


def access(
    one: RequestContext, protocol: str, target: str, status: Any, seconds: float, size: int, quiet: bool
) -> None:
    """A line for a request; `size` are the bytes of the answer. `quiet` ones are for debugging."""
    level = logging.DEBUG if quiet else logging.INFO
    if not _access.isEnabledFor(level):
        return
    fields = {"protocol": protocol, "status": status, "ms": round(seconds * 1e3, 2), "bytes": size}
    if one.model:
        fields |= {"model": one.model, "version": one.version, "rows": one.rows}
        fields |= {"queue_ms": round(one.queued / 1e6, 2), "compute_ms": round(one.computed / 1e6, 2)}
    _access.log(level, "%s", target, extra={"fields": {**fields, "client": one.client}})


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    found = dict(getattr(record, "fields", {}))
    one = current.there()
    if one is not None:
        found["request"] = one.id
    return found


def _when(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _printable(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)
