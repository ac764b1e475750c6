"""Every module and folder that CONTRIBUTING.md names is there."""

from __future__ import annotations

import re

from tests.paths import ROOT

TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
PACKAGE = ROOT / "senet_convert"


def test_what_the_map_names_exists() -> None:
    named = set(re.findall(r"`([\w./]+(?:\.py|/))`", TEXT))
    rooms = [ROOT, PACKAGE, *(path for path in PACKAGE.rglob("*") if path.is_dir())]
    assert len(named) > 40
    assert [name for name in sorted(named) if not any((room / name).exists() for room in rooms)] == []


def test_every_sub_room_is_on_the_map() -> None:
    for house in ("converter", "deploy"):
        rooms = [path.name for path in (PACKAGE / house).iterdir() if (path / "__init__.py").exists()]
        assert rooms
        assert [name for name in rooms if f"`{name}/`" not in TEXT] == []
