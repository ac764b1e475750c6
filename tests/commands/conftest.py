"""What tests of the commands share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.nets import Files, write


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """A small network in a folder of its own."""
    (tmp_path / "in").mkdir()
    return write(tmp_path / "in")
