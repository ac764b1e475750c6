"""`senet-convert completion SHELL`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from ..cli import main

PROGRAM, VARIABLE = "senet-convert", "_SENET_CONVERT_COMPLETE"


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the completion script for SHELL.

    \b
    bash: eval "$(senet-convert completion bash)"      in ~/.bashrc
    zsh:  eval "$(senet-convert completion zsh)"       in ~/.zshrc, after compinit
    fish: senet-convert completion fish | source       in ~/.config/fish/config.fish
    """
    kind = get_completion_class(shell)
    if kind is None:  # never: the choices are click's own
        raise click.UsageError(f"no completion for {shell}")
    click.echo(kind(main, {}, PROGRAM, VARIABLE).source())
