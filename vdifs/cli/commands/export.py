"""`vdifs export`: a synthetic file into a real one, or into a pipe."""

import os
from typing import Literal

import click

from vdifs.chain.naming import ImageName
from vdifs.chain.policy import Live
from vdifs.cli.arguments import (
    PathName,
    Size,
    check_goes_with_format,
    format_option,
    live_option,
    packed_option,
    trust_option,
)
from vdifs.cli.interrupts import clearing_away
from vdifs.cli.render.progress import progress_reports
from vdifs.errors import UsageError, quoted
from vdifs.formats.qcow2.header import Header
from vdifs.output.export.exporting import export as export_image
from vdifs.output.image import Image
from vdifs.output.library import open_named
from vdifs.output.spec import OutputSpec
from vdifs.output.view import PackedClusters, View

__all__ = ["export"]

_HEAD = 4096  # more than a header, its extensions and a backing file name of 1023 bytes


@click.command(short_help="Write a full image, a delta or raw contents to a file or pipe.")
@click.argument("image", type=PathName())
@click.argument("output", type=PathName())
@click.option(
    "--base",
    type=PathName(),
    metavar="B",
    help="Write only what IMAGE holds that B, an ancestor or IMAGE itself, does not.",
)
@format_option
@click.option("--cluster-size", type=Size(), help="Of the output; by default the image's own.")
@click.option("--backing-name", metavar="NAME", help="What a delta calls its base; by default the base's file name.")
@click.option("--extended-l2", is_flag=True, help="Write subclusters; a delta then holds no more than what changed.")
@packed_option
@click.option("--force", is_flag=True, help="Overwrite an existing OUTPUT.")
@click.option(
    "--progress",
    type=click.Choice(["auto", "bar", "json", "none"]),
    default="auto",
    show_default=True,
    help="On standard error; auto: a bar on a terminal.",
)
@trust_option
@live_option
def export(
    image: str,
    output: str,
    base: str | None,
    view: View,
    cluster_size: int | None,
    backing_name: str | None,
    extended_l2: bool,
    packed: PackedClusters,
    force: bool,
    progress: Literal["auto", "bar", "json", "none"],
    trusted: tuple[str, ...],
    live: Live,
) -> None:
    """Write IMAGE, flattened or as a delta against --base, to OUTPUT; `-` is standard output.

    OUTPUT appears only when it is complete. No mount is needed.
    """
    check_goes_with_format(view, base, cluster_size, extended_l2)
    if output.endswith("/"):
        raise UsageError("the name of a folder", where=output, remedy="name a file in it")
    if backing_name is not None and base is None:
        raise click.UsageError("--backing-name needs --base: a full image has no backing file")
    name, below = ImageName.parse(image), None if base is None else ImageName.parse(base)
    spec = OutputSpec(view, below, cluster_size, backing_name, extended_l2, packed=packed)
    with (
        clearing_away(),
        progress_reports(progress) as report,
        open_named(name, spec, trusted=trusted, live=live) as opened,
    ):
        if output != "-" and base is not None:
            _refuse_own_backing(output, opened)
        export_image(opened, output, overwrite=force, progress=report)


def _refuse_own_backing(output: str, image: Image) -> None:
    """Refuse an OUTPUT that would be its own backing file: the name in it resolves against OUTPUT's folder.

    Where OUTPUT is a link, that is the folder of the link or the folder of the file, as it will be opened.
    """
    backing_name = Header.parse(image.read_at(0, _HEAD)).backing_file or ""
    written = os.path.realpath(output)
    for folder in {os.path.realpath(os.path.dirname(os.path.abspath(output))), os.path.dirname(written)}:
        if os.path.realpath(os.path.join(folder, backing_name)) == written:
            what = f"the name of its backing file, {quoted(backing_name)}, would lead back to it"
            raise UsageError(what, where=output, remedy="choose another output, or give --backing-name")
