"""`vdifs list`: the chains of a source as a tree, or as a flat list in JSON."""

from contextlib import closing
from typing import Any

import click

from vdifs.cli.arguments import Output, PathName, live_option, output_option, trust_option
from vdifs.cli.image_list import ListedImage, roots_and_overlays, survey
from vdifs.cli.text import echo_json, json_name, size_text
from vdifs.errors import printable
from vdifs.source.catalog import Catalog
from vdifs.source.policy import Live

__all__ = ["list_images"]

_WIDTH = 1 << 14  # rich cuts lines off at the width it is told; a terminal wraps them, a pipe takes them whole


@click.command("list", short_help="Show the chains of a directory as a tree.")
@click.argument("source", type=PathName())
@trust_option
@live_option
@output_option
def list_images(source: str, trusted: tuple[str, ...], live: Live, output: Output) -> None:
    """Show the images in SOURCE, each beneath its backing file: virtual size, data of its own, problems."""
    with closing(Catalog(source, trusted=trusted, live=live)) as catalog:
        catalog.scan()
        images = survey(catalog)
    if output == "json":
        echo_json([_as_json(image) for image in images.values()])
    elif images:
        _echo_tree(images)
    else:
        click.echo(f"vdifs: {printable(source)}: no images in it", err=True)


def _as_json(image: ListedImage) -> dict[str, Any]:
    value: dict[str, Any] = json_name("name", image.path) | {"format": image.format}
    if image.virtual_size is not None:
        value["virtual-size"] = image.virtual_size
    if image.own_data is not None:
        value["own-data"] = image.own_data
    if image.backing_path is not None:
        value |= json_name("backing-name", image.backing_path)
    if image.hidden:
        value["hidden"] = True
    if image.problem is not None:
        value["problem"] = str(image.problem)
    return value


def _echo_tree(images: dict[str, ListedImage]) -> None:
    from rich.console import Console
    from rich.text import Text
    from rich.tree import Tree

    roots, overlays = roots_and_overlays(images)
    forest = Tree("", hide_root=True)
    waiting = [(forest, path) for path in reversed(roots)]
    while waiting:
        above, path = waiting.pop()
        image = images[path]
        label = Text.assemble(printable(path), (f"  {_sizes(image)}", "dim"))
        if image.hidden:
            label.append("  hidden", "dim")
        if image.problem is not None:
            label.append(f"  {image.problem}", "red")
        branch = above.add(label)
        waiting += [(branch, overlay) for overlay in reversed(overlays[path])]
    Console(width=_WIDTH).print(forest)


def _sizes(image: ListedImage) -> str:
    if image.virtual_size is None:
        return "size unknown"
    held = "" if image.own_data is None else f", {size_text(image.own_data)} of its own"
    return size_text(image.virtual_size) + held
