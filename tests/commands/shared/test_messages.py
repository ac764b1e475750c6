from __future__ import annotations

import io
import sys
import time
from typing import Any

import pytest
from rich.progress import Progress

from senet_convert.commands.shared.messages import LONG, progress_on_stderr


def test_file_names_in_progress_are_no_markup_and_long_runs_say_how_long(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[dict[str, Any]] = []
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", stream)
    update = Progress.update

    def spy(bar: Progress, task: Any, **given: Any) -> None:
        told.append(given)
        update(bar, task, **given)

    monkeypatch.setattr(Progress, "update", spy)
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    with progress_on_stderr(quiet=False) as progress:
        progress("reading net[bold].prototxt")
        clock[0] = LONG + 1
        progress("checking net[bold]: blob 3 of 7")
    assert told == [
        {"description": "reading net[bold].prototxt", "took": ""},
        {"description": "checking net[bold]: blob 3 of 7", "took": "(3 s)"},
    ]
    assert "checking net[bold]: blob 3 of 7 (3 s)" in stream.getvalue()
