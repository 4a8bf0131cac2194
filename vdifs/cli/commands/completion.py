"""`vdifs completion`: what a shell evaluates to complete vdifs's commands, options and file names."""

from typing import Literal

import click
from click.shell_completion import get_completion_class

from vdifs.cli.main import cli
from vdifs.errors import VdifsError

__all__ = ["completion"]

_OLD_CLICK = "this version of click does not complete for it"


@click.command(short_help="Print what completes command lines in a shell.")
@click.argument("shell", metavar="SHELL", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: Literal["bash", "zsh", "fish"]) -> None:
    """Print a script that makes SHELL complete the commands, options and file names of vdifs.

    In ~/.bashrc: eval "$(vdifs completion bash)". In ~/.zshrc, after compinit: eval "$(vdifs completion zsh)". For
    fish: vdifs completion fish > ~/.config/fish/completions/vdifs.fish
    """
    kind = get_completion_class(shell)
    if kind is None:
        raise VdifsError(_OLD_CLICK, where=shell, remedy="install click 8.1 or later")
    script = kind(cli, {}, "vdifs", "_VDIFS_COMPLETE")
    click.echo(script.source_template % script.source_vars())
