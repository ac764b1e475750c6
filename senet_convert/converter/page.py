"""report.html."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from typing import Any


def render(report: Mapping[str, Any]) -> str:
    """A page with everything in it."""
    return f"<!doctype html><title>report</title><pre>{html.escape(json.dumps(report, indent=1))}</pre>"
