"""`vdifs umount`: take a mount away."""

import click

from vdifs.cli.arguments import PathName
from vdifs.mount.daemon.unmount import umount as unmount

__all__ = ["umount"]


@click.command("umount", short_help="Unmount, and wait until the daemon has gone.")
@click.argument("mountpoint", type=PathName("dir"))
@click.option("-l", "--lazy", is_flag=True, help="Even while files are open: they are served until they are closed.")
def umount(mountpoint: str, lazy: bool) -> None:
    """Unmount MOUNTPOINT, and return when its daemon has gone.

    With --lazy it is out of sight at once, and the daemon goes on until the last file is closed.
    """
    unmount(mountpoint, lazy=lazy)
