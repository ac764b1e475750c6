"""Runs commands in this process."""

from __future__ import annotations

from click.testing import CliRunner, Result

from senet_convert.cli import main


def invoke(*args: object) -> Result:
    """`senet-convert` with these words."""
    return CliRunner().invoke(main, [str(arg) for arg in args])
