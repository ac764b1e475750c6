"""The log's two forms."""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from contextvars import copy_context

import pytest

from senet_convert.deploy.serve import context
from senet_convert.deploy.serve.context import RequestContext
from senet_convert.deploy.serve.observe import logs


def record(message: str, level: int = logging.INFO, **more: object) -> logging.LogRecord:
    made = logging.LogRecord("senet_convert.serve", level, "file.py", 1, message, None, None)
    for name, value in more.items():
        setattr(made, name, value)
    return made


def test_json_is_one_object_in_one_line() -> None:
    line = logs.Json().format(record("two\nlines", fields={"status": 200, "ms": 1.5}))
    assert "\n" not in line
    found = json.loads(line)
    assert (found["message"], found["level"], found["status"], found["ms"]) == ("two\nlines", "info", 200, 1.5)
    assert found["time"].endswith("Z")


def test_what_clients_write_cannot_forge_a_line() -> None:
    line = logs.Text().format(record("GET /\n2026 info forged \x1b[31m"))
    assert "\n" not in line
    assert "\x1b" not in line
    assert "GET /\\n2026 info forged" in line


def test_a_traceback_is_told_in_both() -> None:
    try:
        raise ValueError("the cause")
    except ValueError:
        made = record("fault", logging.ERROR)
        made.exc_info = sys.exc_info()
    assert "ValueError: the cause" in logs.Text().format(made)
    assert "ValueError: the cause" in json.loads(logs.Json().format(made))["traceback"]


def test_a_line_of_an_inference(caplog: pytest.LogCaptureFixture) -> None:
    one = RequestContext("an-id", "key-1")
    one.asked("digits", "2", 3)
    one.ran(1_500_000, 2_250_000)
    with caplog.at_level(logging.INFO, logs.ACCESS):
        logs.access(one, "grpc", "ModelInfer", "OK", 0.005, 10, quiet=False)
        logs.access(one, "grpc", "ServerLive", "OK", 0.005, 10, quiet=True)
    [made] = caplog.records
    found = json.loads(logs.Json().format(made))
    expected = {"model": "digits", "version": "2", "rows": 3, "queue_ms": 1.5, "compute_ms": 2.25, "ms": 5.0}
    assert {name: found[name] for name in expected} == expected
    assert (found["message"], found["client"], found["status"]) == ("ModelInfer", "key-1", "OK")


def test_the_id_of_the_request_that_is_answered() -> None:
    def inside() -> str:
        context.current.set(RequestContext("an-id"))
        return logs.Json().format(record("x"))

    assert json.loads(copy_context().run(inside))["request"] == "an-id"
    assert "request" not in json.loads(logs.Json().format(record("x")))


def test_lines_that_find_no_room_are_dropped_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The writer waits in its first write, as it does where nobody reads."""
    written: list[bytes] = []
    may = threading.Event()

    def write(_: int, data: bytes) -> int:
        assert may.wait(10)
        written.append(data)
        return len(data)

    monkeypatch.setattr(logs, "WAITING", 3)
    monkeypatch.setattr(os, "write", write)
    handler = logs.Queued()
    handler.setFormatter(logs.Text())
    for number in range(8):
        handler.handle(record(f"line {number}"))
    assert handler.dropped >= 4
    may.set()
    handler.drain(10)
    handler.handle(record("the last"))
    handler.drain(10)
    assert written[-1].endswith(b" the last\n")
    assert f"{handler.dropped} lines of the log were dropped" in written[-2].decode()
    assert len(written) == 8 - handler.dropped + 2
