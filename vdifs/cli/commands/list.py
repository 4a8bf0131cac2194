"""`vdifs list`: the chains of a source as a tree, or as a flat list in JSON."""

import sys
import time
from collections.abc import Sequence
from contextlib import closing
from typing import Any

import click

from vdifs.chain.catalog import Catalog
from vdifs.chain.left_out import LeftOut
from vdifs.chain.policy import Live
from vdifs.cli.arguments import Output, PathName, live_option, output_option, trust_option
from vdifs.cli.image_list import ListedImage, survey, with_marks
from vdifs.cli.render.list_text import plain_line, rows_of
from vdifs.cli.render.text import echo_json, json_name
from vdifs.cli.render.waiting import waiting
from vdifs.errors import VdifsError, printable
from vdifs.formats.problems import Severity

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
    with waiting(f"searching {source}") as at, closing(Catalog(source, trusted=trusted, live=live)) as catalog:
        catalog.scan()
        catalog.check_images()
        images = survey(catalog, at)
        untold = [*catalog.troubles.values(), *_by_severity(catalog.left_out)]
        if live == "allow":
            images = with_marks(images, _in_use(source, trusted))
    if output == "json":
        echo_json([_as_json(image) for image in images.values()])
    elif not images:
        click.echo(f"vdifs: {printable(source)}: no images in it", err=True)
    elif sys.stdout.isatty():
        from vdifs.cli.render.list_screen import show

        show(rows_of(images, time.time()))
    else:
        for row in rows_of(images, time.time()):
            click.echo(plain_line(row))
    _tell(source, untold)


def _by_severity(left_out: Sequence[LeftOut]) -> list[VdifsError]:
    order = list(Severity)
    return [each.error for each in sorted(left_out, key=lambda each: order.index(each.severity))]


def _tell(source: str, untold: Sequence[VdifsError]) -> None:
    """Say what is not in the tree."""
    for error in untold[:_TOLD]:
        click.echo(f"vdifs: {error}", err=True)
    if len(untold) > _TOLD:
        name = printable(source)
        click.echo(f"vdifs: {name}: {len(untold) - _TOLD} more left out: see 'vdifs check {name}'", err=True)


def _in_use(source: str, trusted: tuple[str, ...]) -> set[str]:
    """Return the PATHs of the images that are being written: a catalog that serves them all the same does not look."""
    with closing(Catalog(source, trusted=trusted)) as catalog:
        catalog.scan()
        return {path for path, entry in catalog.entries.items() if entry.live}


def _as_json(image: ListedImage) -> dict[str, Any]:
    value: dict[str, Any] = json_name("name", image.path) | {"format": image.format}
    if image.virtual_size is not None:
        value["virtual-size"] = image.virtual_size
    if image.own_data is not None:
        value["own-data"] = image.own_data
    if image.backing_path is not None:
        value |= json_name("backing-name", image.backing_path)
    if image.modified is not None:
        value["modified"] = image.modified
    if image.live:
        value["in-use"] = True
    if image.hidden:
        value["hidden"] = True
    if image.problem is not None:
        value["problem"] = str(image.problem)
    return value
