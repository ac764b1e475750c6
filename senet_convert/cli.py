"""The command line: one file per command in `commands/`, each parses, calls one function and prints.

Exit codes: 0 written and checked; 1 refused, one message on stderr, nothing written (with `--keep-going`, a bundle that
failed the check); 2 wrong usage. Tables and progress go to stderr when it is a terminal; stdout is for results.
"""

from __future__ import annotations

import os
from importlib import import_module

import click
from click.shell_completion import CompletionItem

from .version import __version__

# Name -> module in `commands/`, imported when it is used: --help answers at once.
COMMANDS = {
    "convert": "Convert a caffemodel to a folder with ONNX model, PyTorch weights and report.",
    "classify": "Name what is in images, with a converted model.",
    "validate": "Measure top-1 and top-5 errors on labelled images, and diagnose a wrong one.",
    "serve": "Serve converted models over HTTP and gRPC: Open Inference Protocol v2, and a page for people.",
    "inspect": "Show layers, shapes, parameters and multiply-accumulates of a network.",
    "upgrade": "Write a network of 2013 or 2014 in today's form of prototxt and caffemodel.",
    "to-caffe": "Write a converted, perhaps fine-tuned network as prototxt and caffemodel again.",
    "demo": "Convert the embedded network, check it, and reproduce Caffe's probabilities.",
    "completion": "Print the completion script for a shell.",
}
DEFAULT = "convert"
TALK = ("-q", "--quiet", "-v", "--verbose")


class _Main(click.Group):
    """Loads commands when they are used. A file name in a command's place converts that file."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f".commands.{cmd_name.replace('-', '_')}", __package__).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        if incomplete.startswith("-"):
            of_all = click.Command.shell_complete(self, ctx, incomplete)
            default = self.get_command(ctx, DEFAULT)
            of_default = default.shell_complete(ctx, incomplete) if default else []
            return [*of_all, *(item for item in of_default if item.value not in {other.value for other in of_all})]
        commands = [CompletionItem(name, help=text) for name, text in COMMANDS.items() if name.startswith(incomplete)]
        return [CompletionItem(incomplete or "*", type="file"), *commands]  # bash forgets what stands before files

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        args = _command_first(args)
        own = {option for param in self.params for option in param.opts} | set(ctx.help_option_names)
        if args and args[0] not in COMMANDS and args[0] not in own:
            if not (ctx.resilient_parsing or args[0].startswith("-") or _is_path(args[0])):
                raise click.UsageError(f"no such file or command: '{args[0]}'. Commands: {', '.join(COMMANDS)}", ctx)
            args = [DEFAULT, *args]
        return super().parse_args(ctx, args)


def _command_first(args: list[str]) -> list[str]:
    """`-q inspect FILE` as `inspect -q FILE`: what every command takes may stand before it."""
    ahead = next((i for i, word in enumerate(args) if word not in TALK), len(args))
    if ahead == len(args) or args[ahead] not in COMMANDS:
        return args
    return [args[ahead], *args[:ahead], *args[ahead + 1 :]]


def _is_path(word: str) -> bool:
    """Whether a file is meant, be it there or not: commands have neither dots nor slashes in their names."""
    return "." in word or os.sep in word or os.access(word, os.F_OK)  # False for a name too long


@click.group(cls=_Main, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="senet-convert")
def main() -> None:
    """Take Caffe networks out of Caffe and into production, and prove that nothing changed on the way.

    \b
    senet-convert SE-ResNet-50.caffemodel     convert, check, write SE-ResNet-50/
    senet-convert inspect FILE                look at a network
    senet-convert demo                        try it on the embedded network
    """
