"""`vdifs check`: every problem in the chains of a source."""

from contextlib import closing
from typing import Any

import click

from vdifs.cli.arguments import Output, output_option, trust_option
from vdifs.cli.text import counted, echo_json, json_name
from vdifs.source.audit import Problem, Severity, audit
from vdifs.source.catalog import Catalog

__all__ = ["check"]


@click.command(short_help="List every problem in the chains of a directory.")
@click.argument("source")
@trust_option
@output_option
@click.pass_context
def check(ctx: click.Context, source: str, trusted: tuple[str, ...], output: Output) -> None:
    """List every problem of the images in SOURCE, a directory or one image, with a severity.

    An error keeps an image from being served; then the exit status is 1. No guest data are read.
    """
    with closing(Catalog(source, trusted=trusted)) as catalog:
        catalog.scan()
        found = _audit_all(catalog)
        count = len(catalog.entries)
    if output == "json":
        echo_json({"images": count, "problems": [_as_json(problem) for problem in found]})
    else:
        for problem in found:
            click.echo(f"{problem.severity}: {problem.message}")
        errors = sum(problem.severity is Severity.ERROR for problem in found)
        click.echo(f"{counted(count, 'image', 'images')}, {counted(errors, 'error', 'errors')}")
    if any(problem.severity is Severity.ERROR for problem in found):
        ctx.exit(1)


def _audit_all(catalog: Catalog) -> list[Problem]:
    """Return the problems of every image, those that several chains share once, worst first."""
    found: dict[tuple[str, str, str], Problem] = {}
    for entry in catalog.entries.values():
        for problem in audit(catalog.policy, entry.file_path, entry.snapshot):
            found.setdefault((problem.path, problem.kind, problem.message), problem)
    taken = [Problem("", Severity.WARNING, "name-taken", str(error)) for error in catalog.problems]
    order = list(Severity)
    return sorted([*found.values(), *taken], key=lambda problem: (order.index(problem.severity), problem.path))


def _as_json(problem: Problem) -> dict[str, Any]:
    value: dict[str, Any] = json_name("name", problem.path)
    return value | {"severity": str(problem.severity), "kind": problem.kind, "message": problem.message}
