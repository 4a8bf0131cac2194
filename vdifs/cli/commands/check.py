"""`vdifs check`: every problem in the chains of a source."""

import click

from vdifs.chain.naming import ImageName
from vdifs.chain.policy import Live
from vdifs.cli.arguments import Output, PathName, live_option, output_option, trust_option
from vdifs.cli.render.text import echo_json, kept_text
from vdifs.cli.render.waiting import waiting
from vdifs.report.check import check_source, checked_json
from vdifs.wording import counted

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
    with waiting(f"searching {source}") as at:
        checked = check_source(named, trusted, live, at)
    if output == "json":
        echo_json(checked_json(checked))
    else:
        for problem in checked.problems:
            click.echo(f"{problem.severity}: {problem.message}{kept_text(problem.path, problem.keeps)}")
        errors = counted(checked.errors, "error", "errors")
        click.echo(f"{counted(checked.images, 'image', 'images')}, {errors}")
    if checked.errors:
        ctx.exit(1)
