"""`vdifs mount`: every option of a mount, also as `-o name=value`, for mount(8) and fstab."""

import os
from collections.abc import Iterable, Mapping
from typing import Any

import click

from vdifs.cli.arguments import Account, Octal, PathName, Size, Words, live_option, packed_option, trust_option
from vdifs.cli.mount_options import as_arguments
from vdifs.cli.render.waiting import shown
from vdifs.errors import printable
from vdifs.mount.daemon.mount import mount as run_mount
from vdifs.mount.daemon.remedies import unmounting
from vdifs.mount.daemon.signals import ignore_all_but_ending
from vdifs.mount.view.names import DEFAULT_VIEWS, VIEWS
from vdifs.mount.view.options import MountOptions

__all__ = ["mount", "mount_flags", "mount_options"]

_NOT_AFTER_O = frozenset({"foreground", "debug"})
"""Options of the command, not of the mount: an fstab line that has them would keep mount(8) waiting."""


class MountCommand(click.Command):
    """A command whose `-o` options stand for its long ones: click then checks both alike."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put what `-o` says in front, so that an option given on its own has the last word."""
        try:
            given, _, _ = self.make_parser(ctx).parse_args(list(args))
            texts: Iterable[str] = given.get("o") or ()
            return super().parse_args(ctx, [*as_arguments(texts, mount_flags(self)), *args])
        except click.UsageError as error:
            error.ctx = error.ctx or ctx  # also where another command, the helper of mount(8), has called this one
            raise


def mount_flags(command: click.Command) -> Mapping[str, bool]:
    """Return the names that may stand after `-o`; True: it takes no value."""
    return {
        name.removeprefix("--"): bool(param.is_flag)
        for param in command.params
        if isinstance(param, click.Option) and param.name not in _NOT_AFTER_O
        for name in param.opts
        if name.startswith("--")
    }


def mount_options(values: Mapping[str, Any]) -> MountOptions:
    """Return the options of a mount from the parameters of the command."""
    return MountOptions(**{name: value for name, value in values.items() if value is not None and name != "o"})


@click.command("mount", cls=MountCommand, short_help="Mount the images of a directory.")
@click.argument("source", type=PathName())
@click.argument("mountpoint", type=PathName("dir"))
@click.option("-f", "--foreground", is_flag=True, help="Stay in the foreground and log to standard error.")
@click.option("-o", metavar="NAME[=VALUE],...", multiple=True, help="The options below, as mount(8) writes them.")
@click.option("--cluster-size", type=Size(), help="Of the synthetic qcow2; by default each image's own.")
@packed_option
@click.option("--allow-other", is_flag=True, help="Let other users in, as far as the sources allow them.")
@click.option("--uid", type=Account("user"), help="Let everything belong to USER, instead of the owner of its source.")
@click.option("--gid", type=Account("group"), help="Let everything belong to GROUP.")
@click.option("--umask", type=Octal(), help="Mode 666, folders 777, less these bits, whatever the sources say.")
@trust_option
@live_option
@click.option(
    "--refused",
    type=click.Choice(["list", "hide"]),
    default="list",
    show_default=True,
    help="What to do with an image that cannot be served; hide: 'vdifs status' and 'vdifs check' alone tell of it.",
)
@click.option(
    "--views",
    type=Words(VIEWS),
    default=",".join(DEFAULT_VIEWS),
    show_default=True,
    metavar="LIST",
    help=f"The folders to show, of {', '.join(VIEWS)}; after -o with colons between: -o views=full:vhd-fixed.",
)
@click.option(
    "--deadline", type=float, metavar="SECONDS", help="Until a read of a source that hangs fails; 30 if not given."
)
@click.option(
    "--threads", type=click.IntRange(1), metavar="N", help="Reads that may wait for a disk at the same time; 16."
)
@click.option("--readahead", type=Size(), help="What the kernel reads ahead; 1M if not given. Only root may change it.")
@click.option("--log-file", type=PathName(), metavar="FILE", help="Where the daemon logs.")
@click.option("--pid-file", type=PathName(), metavar="FILE", help="Where the daemon writes its process id.")
@click.option("--include", metavar="GLOB", multiple=True, help="Serve only images whose path or name is like GLOB.")
@click.option("--exclude", metavar="GLOB", multiple=True, help="Leave out images and folders like GLOB.")
def mount(**options: Any) -> None:
    """Mount the images in SOURCE, a directory or one image, at MOUNTPOINT.

    Returns once the mount answers; -f stays until it is unmounted. --trust, --include and --exclude may be given
    several times. --uid, --gid and --umask replace the permissions of the sources.
    """
    ignore_all_but_ending()
    hides = _holds_something(options["mountpoint"])
    line = run_mount(mount_options(options), lambda: shown(f"searching {options['source']}"))
    if line:
        click.echo(f"vdifs: {line}", err=True)
    if hides and not options["foreground"]:
        name = printable(options["mountpoint"])
        until = unmounting(options["mountpoint"])
        click.echo(f"vdifs: {name}: was not empty: its files are out of sight until '{until}'", err=True)


def _holds_something(folder: str) -> bool:
    try:
        with os.scandir(folder) as entries:
            return any(True for _ in entries)
    except OSError:
        return False  # mounting there says what is wrong with it
