"""`vdifs check`: every problem in the chains of a source."""

import os
from collections import defaultdict
from contextlib import closing
from dataclasses import replace
from typing import Any

import click

from vdifs.chain.catalog import Catalog, Entry
from vdifs.chain.grouping import place_of
from vdifs.chain.naming import ImageName
from vdifs.chain.policy import Live
from vdifs.cli.arguments import Output, PathName, live_option, output_option, trust_option
from vdifs.cli.render.text import counted, echo_json, json_name, kept_text
from vdifs.cli.render.waiting import At, waiting
from vdifs.errors import FormatError, UnsupportedError
from vdifs.report.audit import Problem, Severity, audit

__all__ = ["check"]


@click.command(short_help="List every problem in the chains of a directory.")
@click.argument("source", type=PathName())
@trust_option
@live_option
@output_option
@click.pass_context
def check(ctx: click.Context, source: str, trusted: tuple[str, ...], live: Live, output: Output) -> None:
    """List every problem of the images in SOURCE, a directory or one image, with a severity.

    Of an image, its snapshots and its backing files are looked at as well; of IMAGE@SNAPSHOT, that one and its
    backing files. An error keeps images from being served; then the exit status is 1. That a machine is writing an
    image is a note. What is left out is told too: links, folders that may not be read. No guest data are read.
    """
    named = ImageName.parse(source)
    with waiting(f"searching {source}") as at, closing(Catalog(named.path, trusted=trusted, live=live)) as catalog:
        catalog.scan()
        catalog.check_images()
        entries = _asked_for(catalog, named)
        found = _audit_all(catalog, entries, at)
    count = len(entries)
    if output == "json":
        echo_json({"images": count, "problems": [_as_json(problem) for problem in found]})
    else:
        for problem in found:
            click.echo(f"{problem.severity}: {_message(problem)}{kept_text(problem.path, problem.keeps)}")
        errors = sum(problem.severity is Severity.ERROR for problem in found)
        click.echo(f"{counted(count, 'image', 'images')}, {counted(errors, 'error', 'errors')}")
    if any(problem.severity is Severity.ERROR for problem in found):
        ctx.exit(1)


def _asked_for(catalog: Catalog, named: ImageName) -> list[Entry]:
    """Return the images to look at: all, those that are not offered too, or one snapshot and the backing files."""
    named_alike = (entry for entry in catalog.not_offered if entry.snapshot is not None)
    entries = [*catalog.entries.values(), *named_alike]
    if named.snapshot is None:
        return entries
    path = os.path.basename(named.path)
    wanted = replace(catalog.entries[path], path=f"{path}@{named.snapshot}", snapshot=named.snapshot)
    return [wanted, *(entry for entry in entries if entry.file_path != path)]


def _audit_all(catalog: Catalog, entries: list[Entry], at: At) -> list[Problem]:
    """Return the problems of every image, those that several chains share once, worst first."""
    found: dict[object, Problem] = {}
    kept: dict[object, dict[str, Problem]] = defaultdict(dict)
    for number, entry in enumerate(entries):
        at(f"checking image {number + 1} of {len(entries)}: {entry.path}")
        for problem in audit(catalog.policy, entry.file_path, entry.snapshot, stated=entry.format):
            if problem.about is None:
                found.setdefault((problem.path, problem.kind, problem.message), problem)
            else:
                kept[problem.kind, problem.about].setdefault(entry.path, problem)
    backing = {entry.path: entry.backing_path for entry in entries}
    refused = [replace(each[place_of(each, backing.get)], keeps=tuple(sorted(each))) for each in kept.values()]
    order = list(Severity)
    left_out = [Problem(each.path, each.severity, each.kind, str(each.error)) for each in catalog.left_out]
    troubles = [Problem(path, Severity.ERROR, "trouble", str(error)) for path, error in catalog.troubles.items()]
    return sorted(
        [*refused, *found.values(), *left_out, *troubles],
        key=lambda problem: (order.index(problem.severity), problem.path),
    )


def _message(problem: Problem) -> str:
    """Return what is wrong, and what to do."""
    kinds = {"damaged": FormatError, "unsupported": UnsupportedError}
    kind = kinds.get(problem.kind) if problem.severity is Severity.ERROR else None
    return problem.message if kind is None else str(kind(problem.message))


def _as_json(problem: Problem) -> dict[str, Any]:
    value: dict[str, Any] = json_name("name", problem.path)
    value |= {"severity": str(problem.severity), "kind": problem.kind, "message": _message(problem)}
    return value | {"keeps": [json_name("name", path) for path in problem.keeps]}
