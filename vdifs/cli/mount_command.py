"""`vdifs mount`: every option of a mount, also as `-o name=value`, for mount(8) and fstab."""

from collections.abc import Iterable
from typing import Any

import click

from vdifs.cli.arguments import Size, live_option, trust_option
from vdifs.cli.mount_options import as_arguments
from vdifs.mount.daemon import mount as run_mount
from vdifs.mount.options import MountOptions

__all__ = ["mount"]


class MountCommand(click.Command):
    """A command whose `-o` options stand for its long ones: click then checks both alike."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put what `-o` says in front, so that an option given on its own has the last word."""
        given, _, _ = self.make_parser(ctx).parse_args(list(args))
        texts: Iterable[str] = given.get("o") or ()
        flags = {
            name.removeprefix("--"): bool(param.is_flag)
            for param in self.params
            if isinstance(param, click.Option)
            for name in param.opts
            if name.startswith("--")
        }
        return super().parse_args(ctx, [*as_arguments(texts, flags), *args])


@click.command("mount", cls=MountCommand, short_help="Mount the images of a directory.")
@click.argument("source")
@click.argument("mountpoint")
@click.option("-f", "--foreground", is_flag=True, help="Stay in the foreground and log to standard error.")
@click.option("-o", metavar="NAME[=VALUE],...", multiple=True, help="The options below, as mount(8) writes them.")
@click.option("--cluster-size", type=Size(), help="Of the synthetic qcow2; by default each image's own.")
@click.option("--allow-other", is_flag=True, help="Let other users in, as far as the sources allow them.")
@trust_option
@live_option
@click.option("--threads", type=click.IntRange(1), metavar="N", help="Reads that may wait for a disk at the same time.")
@click.option("--log-file", metavar="FILE", help="Where the daemon logs.")
@click.option("--pid-file", metavar="FILE", help="Where the daemon writes its process id.")
def mount(o: tuple[str, ...], **options: Any) -> None:
    """Mount the images in SOURCE, a directory or one image, at MOUNTPOINT.

    Returns once the mount answers; -f stays until it is unmounted.
    """
    del o  # MountCommand has turned these into the options that follow
    run_mount(MountOptions(**{name: value for name, value in options.items() if value is not None}))
