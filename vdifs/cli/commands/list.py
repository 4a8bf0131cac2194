"""`vdifs list`: the chains of a source as a tree, or as a flat list in JSON."""

import sys
import time
from collections.abc import Sequence

import click

from vdifs.chain.policy import Live
from vdifs.cli.arguments import Output, PathName, live_option, output_option, trust_option
from vdifs.cli.render.list_text import plain_line, rows_of
from vdifs.cli.render.text import echo_json
from vdifs.cli.render.waiting import waiting
from vdifs.errors import VdifsError, printable
from vdifs.report.list import image_json, list_source

__all__ = ["list_images"]

_TOLD = 20


@click.command("list", short_help="Show the chains of a directory as a tree.")
@click.argument("source", type=PathName())
@trust_option
@live_option
@output_option
def list_images(source: str, trusted: tuple[str, ...], live: Live, output: Output) -> None:
    """Show the images in SOURCE, each beneath its backing file.

    For each: its virtual size, the data that it holds itself, its age, whether a virtual machine is writing it, whether
    it is hidden, and what is wrong with it. On a terminal a table; in a pipe a line for each image. What is left out,
    such as links and folders that may not be read, is told on standard error.
    """
    with waiting(f"searching {source}") as at:
        listing = list_source(source, trusted, live, at)
    images = listing.images
    if output == "json":
        echo_json([image_json(image) for image in images.values()])
    elif not images:
        click.echo(f"vdifs: {printable(source)}: no images in it", err=True)
    elif sys.stdout.isatty():
        from vdifs.cli.render.list_screen import show

        show(rows_of(images, time.time()))
    else:
        for row in rows_of(images, time.time()):
            click.echo(plain_line(row))
    _tell(source, listing.left_out)


def _tell(source: str, untold: Sequence[VdifsError]) -> None:
    """Say what is not in the tree."""
    for error in untold[:_TOLD]:
        click.echo(f"vdifs: {error}", err=True)
    if len(untold) > _TOLD:
        name = printable(source)
        click.echo(f"vdifs: {name}: {len(untold) - _TOLD} more left out: see 'vdifs check {name}'", err=True)
