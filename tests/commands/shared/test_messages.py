from __future__ import annotations

import sys
from typing import Any

import pytest
from rich.status import Status

from senet_convert.commands.shared.messages import progress_on_stderr


def test_file_names_in_progress_are_no_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(Status, "update", lambda _, status: told.append(status))
    with progress_on_stderr(quiet=False) as progress:
        progress("reading net[bold].prototxt")
    assert [text.plain for text in told] == ["reading net[bold].prototxt"]
