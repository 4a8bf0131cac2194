"""`vdifs map`: which part of the disk comes from which file."""

import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from typing import Any, Literal

import click

from vdifs.chain.naming import ImageName, base_index, open_chain
from vdifs.chain.open_chain import Chain
from vdifs.chain.paired_chain import PairedChain
from vdifs.chain.policy import Live
from vdifs.cli.arguments import PathName, live_option, trust_option
from vdifs.cli.render.strip import Strip
from vdifs.cli.render.waiting import waiting
from vdifs.report.map import MapRun, map_runs, named_run_json

__all__ = ["show_map"]


@click.command("map", short_help="Show which part of the disk comes from which file.")
@click.argument("image", type=PathName())
@click.option(
    "--base",
    type=PathName(),
    metavar="B",
    help="Show only what IMAGE holds that B does not: an ancestor, or an image that shares a file.",
)
@trust_option
@live_option
@click.option(
    "--output",
    type=click.Choice(["human", "json", "svg"]),
    default="human",
    show_default=True,
    help="How to write the answer; svg: a picture.",
)
def show_map(
    image: str, base: str | None, trusted: tuple[str, ...], live: Live, output: Literal["human", "json", "svg"]
) -> None:
    """Show which part of the disk of IMAGE comes from which file.

    On a terminal a strip of the disk in the colours of the files; in a pipe the table of `qemu-img map`. JSON is that
    of `qemu-img map --output=json`.
    """
    name = ImageName.parse(image)
    with ExitStack() as stack:
        with waiting(f"opening {image}"):
            chain: Chain = stack.enter_context(open_chain(name, trusted, live))
            down_to = None
            if base is not None:
                below = ImageName.parse(base)
                down_to = base_index(chain, below)
                if down_to is None:
                    chain = pair = PairedChain(chain, stack.enter_context(open_chain(below, trusted, live)))
                    down_to = pair.base
        if output == "svg":
            from vdifs.cli.render.strip_svg import CELLS, svg

            click.echo(svg(_strip(chain, down_to, CELLS)), nl=False)
        elif output == "json":
            _echo_array(named_run_json(chain, run) for run in map_runs(chain, down_to))
        elif sys.stdout.isatty():
            from vdifs.cli.render.strip_screen import cells, show

            show(_strip(chain, down_to, cells()))
        else:
            _echo_table(chain, map_runs(chain, down_to))
        chain.check_unchanged()


def _strip(chain: Chain, down_to: int | None, cells: int) -> Strip:
    files = [_as_seen_from_here(member.data[0].name) for member in chain.members[:down_to]]
    with waiting("mapping the disk"):
        return Strip.of(map_runs(chain, down_to), files, chain.virtual_size, cells)


def _as_seen_from_here(path: str) -> str:
    relative = os.path.relpath(path)
    return path if relative.startswith("../") else relative


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
            click.echo(row.format(f"{run.start:#x}", f"{run.length:#x}", place, chain.data_files[run.file].name))
