"""Where the tests find what they read."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
GOLDEN = ROOT / "tests" / "golden"  # small networks with every blob as Caffe computed it
SHARED = ROOT.parent / "shared"  # beside the project, where it is: released prototxts and more; its tests skip without
