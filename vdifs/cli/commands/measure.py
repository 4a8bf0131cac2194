"""`vdifs measure`: the exact size of a synthetic file."""

import click

from vdifs.chain.naming import ImageName
from vdifs.chain.policy import Live
from vdifs.cli.arguments import (
    Output,
    PathName,
    Size,
    check_goes_with_format,
    format_option,
    live_option,
    output_option,
    packed_option,
    trust_option,
)
from vdifs.cli.render.text import echo_fields, echo_json
from vdifs.cli.render.waiting import waiting
from vdifs.output.view import PackedClusters, View
from vdifs.report.measure import Measured, measured_json
from vdifs.wording import size_with_bytes

__all__ = ["measure"]


@click.command(short_help="Show the exact size of a synthetic file.")
@click.argument("image", type=PathName())
@click.option(
    "--base",
    type=PathName(),
    metavar="B",
    help="Measure the delta against B, an ancestor or an image that shares a file.",
)
@format_option
@click.option("--cluster-size", type=Size(), help="Of the output; by default the image's own.")
@click.option("--extended-l2", is_flag=True, help="Measure a file with extended L2 entries.")
@packed_option
@trust_option
@live_option
@output_option
def measure(
    image: str,
    base: str | None,
    view: View,
    cluster_size: int | None,
    extended_l2: bool,
    packed: PackedClusters,
    trusted: tuple[str, ...],
    live: Live,
    output: Output,
) -> None:
    """Show how long the export of IMAGE will be, to the byte; no guest data are read.

    JSON is that of `qemu-img measure --output=json`.
    """
    from vdifs.output.library import open_named  # which --help does not wait for
    from vdifs.output.spec import OutputSpec

    check_goes_with_format(view, base, cluster_size, extended_l2)
    name, below = ImageName.parse(image), None if base is None else ImageName.parse(base)
    spec = OutputSpec(view, below, cluster_size, extended_l2=extended_l2, packed=packed)
    with waiting(f"opening {image}"), open_named(name, spec, trusted=trusted, live=live) as opened:
        measured = Measured.of(opened)
    if output == "json":
        echo_json(measured_json(measured))
        return
    echo_fields(
        {
            "required size": size_with_bytes(measured.required),
            "fully allocated size": size_with_bytes(measured.fully_allocated),
        }
    )
