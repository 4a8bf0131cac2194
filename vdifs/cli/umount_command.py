"""`vdifs umount`: take a mount away."""

import click

from vdifs.cli.arguments import PathName
from vdifs.mount.unmount import umount as unmount

__all__ = ["umount"]


@click.command("umount", short_help="Unmount, and wait until the daemon has gone.")
@click.argument("mountpoint", type=PathName("dir"))
def umount(mountpoint: str) -> None:
    """Unmount MOUNTPOINT, and return when its daemon has gone."""
    unmount(mountpoint)
