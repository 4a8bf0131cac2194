"""A click group that imports a command's module only when that command is called."""

import importlib
import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

import click
from click.shell_completion import CompletionItem

__all__ = ["LazyGroup", "Place"]


class Place(NamedTuple):
    """Where a command is, and the line that `--help` shows for it without importing it."""

    module: str
    name: str
    summary: str


class LazyGroup(click.Group):
    """Commands by name, each in its place. The group and every command take --debug.

    helper: what runs instead where the words are those of mount.fuse, which `mount -t fuse vdifs#SOURCE` starts:
    `SOURCE MOUNTPOINT -o OPTIONS`.
    """

    def __init__(self, *args: Any, places: Mapping[str, Place], helper: Place, **options: Any) -> None:
        super().__init__(*args, **options)
        self.places = places
        self.helper = helper
        self.params.append(_debug_option())

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.places)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.places:
            return None
        command = _load(self.places[cmd_name])
        if not any(param.name == "debug" for param in command.params):
            command.params.append(_debug_option())
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that `args` begin with; of one that is not there, say which may have been meant."""
        if args[0] not in self.places and args[2:3] == ["-o"]:
            return "mount", _load(self.helper), args
        if args[0] not in self.places and not args[0].startswith("-"):
            from difflib import get_close_matches

            meant = "".join(f" Did you mean {name!r}?" for name in get_close_matches(args[0], self.places, 1))
            ctx.fail(f"No such command {args[0]!r}.{meant}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; what is wrong with its words is said to be wrong with it, as click does not always do."""
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            command = self.get_command(ctx, ctx.invoked_subcommand or "")
            if error.ctx is None and command is not None:
                error.ctx = click.Context(command, info_name=ctx.invoked_subcommand, parent=ctx)
            raise

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return the commands, and the options, that begin with `incomplete`."""
        commands = [
            CompletionItem(name, help=place.summary)
            for name, place in self.places.items()
            if name.startswith(incomplete)
        ]
        return [*commands, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, place.summary) for name, place in self.places.items()])


def _load(place: Place) -> click.Command:
    command: click.Command = getattr(importlib.import_module(place.module), place.name)
    return command


def _debug_option() -> click.Option:
    return click.Option(
        ["--debug"],
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=_log_everything,
        help="Log more, and show where in the code a failure came from.",
    )


def _log_everything(_ctx: click.Context, _param: click.Parameter, debug: bool) -> None:
    if debug:
        logging.getLogger("vdifs").setLevel(logging.DEBUG)
