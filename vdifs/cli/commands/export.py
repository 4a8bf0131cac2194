"""`vdifs export`: a synthetic file into a real one, or into a pipe."""

import os
from dataclasses import replace
from typing import Literal, get_args

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
from vdifs.formats.layer import Codec
from vdifs.formats.qcow2.header import Header
from vdifs.output.export.compressing.compression import LEVELS, Compression
from vdifs.output.export.exporting import export as export_image
from vdifs.output.image import Image
from vdifs.output.library import open_named
from vdifs.output.spec import OutputSpec
from vdifs.output.view import PackedClusters, View

__all__ = ["export"]


def _levels() -> str:
    """Return what the help says of the levels of each method."""
    return ", ".join(f"{name} {one.least} to {one.most} (default {one.default})" for name, one in LEVELS.items())


_HEAD = 4096  # more than a header, its extensions and a backing file name of 1023 bytes


@click.command(short_help="Write a full image, a delta or raw contents to a file or pipe.")
@click.argument("image", type=PathName())
@click.argument("output", type=PathName())
@click.option(
    "--base",
    type=PathName(),
    metavar="B",
    help="Write only what IMAGE holds that B does not: an ancestor, or an image that shares a file.",
)
@format_option
@click.option("--cluster-size", type=Size(), help="Of the output; by default the image's own.")
@click.option("--backing-name", metavar="NAME", help="What a delta calls its base; by default the base's file name.")
@click.option("--extended-l2", is_flag=True, help="Write subclusters; a delta then holds no more than what changed.")
@packed_option
@click.option(
    "--compress",
    type=click.Choice(get_args(Codec)),
    help="Pack every cluster of a qcow2, on all processors; OUTPUT is then a file, and no pipe or device.",
)
@click.option(
    "--level",
    type=int,
    metavar="N",
    help=f"With --compress: {_levels()}. A higher one takes longer and makes a smaller file.",
)
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
    compress: Codec | None,
    level: int | None,
    force: bool,
    progress: Literal["auto", "bar", "json", "none"],
    trusted: tuple[str, ...],
    live: Live,
) -> None:
    """Write IMAGE, flattened or as a delta against --base, to OUTPUT; `-` is standard output.

    OUTPUT appears only when it is complete. No mount is needed.
    """
    check_goes_with_format(view, base, cluster_size, extended_l2)
    compression = _compression(view, compress, level)
    if output.endswith("/"):
        raise UsageError("the name of a folder", where=output, remedy="name a file in it")
    if backing_name is not None and base is None:
        raise click.UsageError("--backing-name needs --base: a full image has no backing file")
    name, below = ImageName.parse(image), None if base is None else ImageName.parse(base)
    spec = OutputSpec(view, below, cluster_size, backing_name, extended_l2, packed=packed)
    with (
        clearing_away(),
        progress_reports(progress) as report,
        _opened(name, spec, compression, trusted=trusted, live=live) as opened,
    ):
        if output != "-" and base is not None:
            _refuse_own_backing(output, opened)
        export_image(opened, output, overwrite=force, progress=report, compression=compression)


def _opened(
    name: ImageName, spec: OutputSpec, compression: Compression | None, *, trusted: tuple[str, ...], live: Live
) -> Image:
    """Open what is exported; where clusters of another codec than asked for would stay packed, with all expanded."""
    opened = open_named(name, spec, trusted=trusted, live=live)
    if compression is None or not opened.packed or compression.type == _header_of(opened).compression_type:
        return opened
    opened.close()
    return open_named(name, replace(spec, packed="expand"), trusted=trusted, live=live)


def _header_of(image: Image) -> Header:
    return Header.parse(image.read_at(0, _HEAD))


def _compression(view: View, method: Codec | None, level: int | None) -> Compression | None:
    if method is None:
        if level is not None:
            raise click.UsageError("--level needs --compress: it says how well to pack")
        return None
    if view != "qcow2":
        raise click.UsageError(f"--compress packs the clusters of a qcow2: it does not go with --format {view}")
    return Compression(method, level)


def _refuse_own_backing(output: str, image: Image) -> None:
    """Refuse an OUTPUT that would be its own backing file: the name in it resolves against OUTPUT's folder.

    Where OUTPUT is a link, that is the folder of the link or the folder of the file, as it will be opened.
    """
    backing_name = _header_of(image).backing_file or ""
    written = os.path.realpath(output)
    for folder in {os.path.realpath(os.path.dirname(os.path.abspath(output))), os.path.dirname(written)}:
        if os.path.realpath(os.path.join(folder, backing_name)) == written:
            what = f"the name of its backing file, {quoted(backing_name)}, would lead back to it"
            raise UsageError(what, where=output, remedy="choose another output, or give --backing-name")
