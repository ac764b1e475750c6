"""The log on stderr: a line for each thing, as text for people or JSON for programs. No bodies, no keys."""

from __future__ import annotations

import json
import logging
import logging.config
from datetime import UTC, datetime
from typing import Any

from .account import Account, current

ACCESS = "senet_convert.access"
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


def configure(form: str, level: str) -> None:
    """Send every logger of the process to stderr, in one form; uvicorn's talk of start and stop is left out."""
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"one": {"()": FORMS[form]}},
            "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "one"}},
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


def access(one: Account, protocol: str, target: str, status: Any, seconds: float, size: int, quiet: bool) -> None:
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
