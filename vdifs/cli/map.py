"""`vdifs map`: which part of the disk comes from which file."""

import json
from collections.abc import Iterable, Iterator
from typing import Any

import click

from vdifs.cli.arguments import Output, PathName, live_option, output_option, trust_option
from vdifs.cli.text import json_name
from vdifs.source.chain import Chain
from vdifs.source.map import MapRun, map_runs
from vdifs.source.naming import ImageName, base_index, open_chain
from vdifs.source.policy import Live

__all__ = ["show_map"]


@click.command("map", short_help="Show which part of the disk comes from which file.")
@click.argument("image", type=PathName())
@click.option(
    "--base", type=PathName(), metavar="B", help="Show only what the layers above B, an ancestor or IMAGE itself, hold."
)
@trust_option
@live_option
@output_option
def show_map(image: str, base: str | None, trusted: tuple[str, ...], live: Live, output: Output) -> None:
    """Show the runs of the disk of IMAGE in order; JSON is that of `qemu-img map --output=json`."""
    name = ImageName.parse(image)
    with open_chain(name, trusted, live) as chain:
        down_to = None if base is None else base_index(chain, ImageName.parse(base))
        runs = map_runs(chain, down_to)
        if output == "json":
            _echo_array(_as_json(chain, run) for run in runs)
        else:
            _echo_table(chain, runs)
        chain.check_unchanged()


def _as_json(chain: Chain, run: MapRun) -> dict[str, Any]:
    value: dict[str, Any] = {
        "start": run.start,
        "length": run.length,
        "depth": run.depth,
        "present": run.present,
        "zero": run.zero,
        "data": run.data,
        "compressed": run.compressed,
    }
    if run.offset is not None:
        value["offset"] = run.offset
        value |= json_name("filename", chain.members[run.depth].data.path)
    return value


def _echo_array(values: Iterable[dict[str, Any]]) -> None:
    """Write a JSON array an element a line, as qemu-img does: a map may have millions."""
    before = "["
    for value in values:
        click.echo(f"{before}{json.dumps(value)}", nl=False)
        before = ",\n"
    click.echo("[]" if before == "[" else "]")


def _echo_table(chain: Chain, runs: Iterator[MapRun]) -> None:
    """Write the runs that hold data, as `qemu-img map` does."""
    row = "{:<18} {:<18} {:<18} {}"
    click.echo(row.format("Offset", "Length", "Mapped to", "File"))
    for run in runs:
        if run.data and not run.zero:
            place = "compressed" if run.offset is None else f"{run.offset:#x}"
            click.echo(row.format(f"{run.start:#x}", f"{run.length:#x}", place, chain.members[run.depth].data.name))
