"""Kinds of settings: what they read, and that they write what they read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from senet_convert.deploy.serve import kinds
from senet_convert.deploy.serve.kinds import Kind


@pytest.mark.parametrize(
    ("kind", "given", "found", "written"),
    [
        (kinds.whole(0), "07", 7, "7"),
        (kinds.whole(0), 7, 7, "7"),
        (kinds.SECONDS, "1e1", 10.0, "10"),
        (kinds.SECONDS, 3, 3.0, "3"),
        (kinds.MILLISECONDS, "2.5", 0.0025, "2.5"),
        (kinds.size(0), "64M", 64 * 2**20, "64M"),
        (kinds.size(0), "64mib", 64 * 2**20, "64M"),
        (kinds.size(0), "3kB", 3072, "3k"),
        (kinds.size(0), 1000, 1000, "1000"),
        (kinds.size(0), "2G", 2**31, "2G"),
        (kinds.SWITCH, "ON", True, "on"),
        (kinds.SWITCH, "0", False, "off"),
        (kinds.SWITCH, False, False, "off"),
        (kinds.TEXTS, "a, b,,c", ("a", "b", "c"), "a,b,c"),
        (kinds.TEXTS, ["a"], ("a",), "a"),
        (kinds.choice("x", "y"), "y", "y", "y"),
        (kinds.PATH, "some/where", Path("some/where"), "some/where"),
    ],
)
def test_read_and_written(kind: Kind, given: Any, found: Any, written: str) -> None:
    assert kind.read(given) == found
    assert kind.write(found) == written
    assert kind.read(written) == found


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        (kinds.whole(1), 0),
        (kinds.whole(1, 5), 6),
        (kinds.whole(1), 1.5),
        (kinds.whole(1), True),
        (kinds.whole(1), [1]),
        (kinds.SECONDS, "inf"),
        (kinds.SECONDS, "nan"),
        (kinds.SECONDS, True),
        (kinds.SECONDS, {}),
        (kinds.size(0), "-1"),
        (kinds.size(0), "1.5M"),
        (kinds.size(0), "MM"),
        (kinds.size(0), "1kk"),
        (kinds.size(0), True),
        (kinds.size(0), ""),
        (kinds.SWITCH, 2),
        (kinds.TEXT, ""),
        (kinds.TEXTS, {"a": 1}),
        (kinds.TEXTS, [1]),
        (kinds.FILE, "/"),
        (kinds.FOLDER, "/nowhere"),
    ],
)
def test_refused(kind: Kind, given: Any) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        kind.read(given)
