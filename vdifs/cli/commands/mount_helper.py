"""`mount.fuse.vdifs` and `mount.vdifs`: what mount(8) runs for `mount -t fuse.vdifs` and for lines of fstab.

/sbin/mount.fuse.vdifs SOURCE MOUNTPOINT [-sfnv] [-N NAMESPACE] [-o OPTIONS] [-t TYPE]
"""

import os
import sys
from collections.abc import Sequence

import click

from vdifs.cli.arguments import PathName
from vdifs.cli.main import run
from vdifs.errors import UsageError, printable
from vdifs.mount.daemon.remedies import typed

__all__ = ["main"]


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("source", type=PathName())
@click.argument("mountpoint", type=PathName("dir"))
@click.option("-s", "sloppy", is_flag=True, help="Pass over unknown options.")
@click.option("-f", "fake", is_flag=True, help="Check the options, and do not mount.")
@click.option("-n", "no_table", is_flag=True, help="Ignored: there is no table of mounts to write.")
@click.option("-v", "verbose", is_flag=True, help="Say what was mounted.")
@click.option("-o", "texts", metavar="NAME[=VALUE],...", multiple=True, help="See 'vdifs mount --help'.")
@click.option("-t", "kind", metavar="TYPE", help="Ignored: fuse.vdifs.")
@click.option("-N", "namespace", metavar="NAMESPACE", help="Refused: enter the namespace before.")
def helper(
    source: str,
    mountpoint: str,
    sloppy: bool,
    fake: bool,
    no_table: bool,
    verbose: bool,
    texts: tuple[str, ...],
    kind: str | None,
    namespace: str | None,
) -> None:
    """Mount the images in SOURCE at MOUNTPOINT, as mount(8) asks."""
    del no_table, kind
    if namespace is not None:
        place = f"/proc/{namespace}/ns/mnt" if namespace.isdigit() else namespace
        command = f"nsenter --mount={typed(place)} vdifs mount {typed(source)} {typed(mountpoint)}"
        raise UsageError("mounts in its own namespace alone", where=f"-N {namespace}", remedy=f"use '{command}'")
    from vdifs.cli.commands.mount import mount, mount_flags, mount_options
    from vdifs.cli.mount_options import known_alone

    wanted = known_alone(texts, mount_flags(mount)) if sloppy else texts
    words = [*(f"-o{text}" for text in wanted), "--", source, mountpoint]
    with mount.make_context("vdifs mount", words) as ctx:
        if fake:
            mount_options(ctx.params).checked()
        else:
            mount.invoke(ctx)
    if verbose:
        click.echo(f"vdifs: {printable(source)} mounted on {printable(mountpoint)}")


def main(args: Sequence[str] | None = None) -> int:
    """Run it; the name is that by which it was called."""
    return run(helper, args, os.path.basename(sys.argv[0]))
