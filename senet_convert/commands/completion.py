"""`senet-convert completion SHELL`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from ..cli import main


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the completion script for SHELL; for bash: eval "$(senet-convert completion bash)"."""
    kind = get_completion_class(shell)
    if kind is not None:  # never: the choices are click's own
        click.echo(kind(main, {}, "senet-convert", "_SENET_CONVERT_COMPLETE").source())
