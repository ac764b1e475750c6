"""Kinds of settings: what they read, and that they write what they read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from senet_convert.deploy.serve.settings import types
from senet_convert.deploy.serve.settings.types import Kind


@pytest.mark.parametrize(
    ("kind", "given", "found", "written"),
    [
        (types.whole(0), "07", 7, "7"),
        (types.whole(0), 7, 7, "7"),
        (types.SECONDS, "1e1", 10.0, "10"),
        (types.SECONDS, 3, 3.0, "3"),
        (types.MILLISECONDS, "2.5", 0.0025, "2.5"),
        (types.size(0), "64M", 64 * 2**20, "64M"),
        (types.size(0), "64mib", 64 * 2**20, "64M"),
        (types.size(0), "3kB", 3072, "3k"),
        (types.size(0), 1000, 1000, "1000"),
        (types.size(0), "2G", 2**31, "2G"),
        (types.SWITCH, "ON", True, "on"),
        (types.SWITCH, "0", False, "off"),
        (types.SWITCH, False, False, "off"),
        (types.TEXTS, "a, b,,c", ("a", "b", "c"), "a,b,c"),
        (types.TEXTS, ["a"], ("a",), "a"),
        (types.choice("x", "y"), "y", "y", "y"),
        (types.PATH, "some/where", Path("some/where"), "some/where"),
    ],
)
def test_read_and_written(kind: Kind, given: Any, found: Any, written: str) -> None:
    assert kind.read(given) == found
    assert kind.write(found) == written
    assert kind.read(written) == found


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        (types.whole(1), 0),
        (types.whole(1, 5), 6),
        (types.whole(1), 1.5),
        (types.whole(1), True),
        (types.whole(1), [1]),
        (types.SECONDS, "inf"),
        (types.SECONDS, "nan"),
        (types.SECONDS, True),
        (types.SECONDS, {}),
        (types.size(0), "-1"),
        (types.size(0), "1.5M"),
        (types.size(0), "MM"),
        (types.size(0), "1kk"),
        (types.size(0), True),
        (types.size(0), ""),
        (types.SWITCH, 2),
        (types.TEXT, ""),
        (types.TEXTS, {"a": 1}),
        (types.TEXTS, [1]),
        (types.FILE, "/"),
        (types.FOLDER, "/nowhere"),
    ],
)
def test_refused(kind: Kind, given: Any) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        kind.read(given)
