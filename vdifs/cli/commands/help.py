"""`vdifs help`: what `--help` shows, and all of it as a man page."""

import click

from vdifs.cli.group import LazyGroup
from vdifs.cli.main import cli

__all__ = ["show_help"]


@click.command("help", short_help="Show the help of a command, or all of it as a man page.")
@click.argument("command", required=False)
@click.option("--man", is_flag=True, help="Print the man page vdifs(1): vdifs help --man | man -l -")
@click.pass_context
def show_help(ctx: click.Context, command: str | None, man: bool) -> None:
    """Show the help of COMMAND, or that of vdifs itself."""
    above = click.Context(cli, info_name="vdifs", **cli.context_settings)
    if man:
        if command is not None:
            raise click.UsageError("--man is about all commands: leave out COMMAND")
        from vdifs.cli.render.manual import man_page

        click.echo(man_page(cli, above), nl=False)
        return
    assert isinstance(cli, LazyGroup)
    wanted = cli if command is None else cli.get_command(above, command)
    if wanted is None:
        raise click.UsageError(f"no such command '{command}'", ctx.parent)
    inner = above if command is None else click.Context(wanted, info_name=command, parent=above)
    click.echo(wanted.get_help(inner))
