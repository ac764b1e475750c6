"""`senet-convert completion SHELL`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from ..cli import main

PROGRAM, VARIABLE = "senet-convert", "_SENET_CONVERT_COMPLETE"
# What click's scripts get wrong, and right: fish cuts an explanation off at its first comma; zsh loses empty values,
# and then no longer knows which values belong together.
REPAIRS = {
    "fish": ('(string split ","', '(string split --max 1 ","'),
    "zsh": ("in ${response};", 'in "${(@)response}";'),
}


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
    script = kind(main, {}, PROGRAM, VARIABLE).source()
    click.echo(script.replace(*REPAIRS[shell]) if shell in REPAIRS else script)
