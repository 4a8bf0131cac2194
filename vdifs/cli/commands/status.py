"""`vdifs status`: what a running mount says of itself in `.vdifs/status.json`, once or again and again."""

import errno
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import click

from vdifs.cli.arguments import Output, PathName, output_option
from vdifs.cli.interrupts import clearing_away
from vdifs.cli.render.status_text import Rates, file_line, report_fields
from vdifs.cli.render.text import echo_field_list, echo_json
from vdifs.errors import Interrupted, VdifsError
from vdifs.mount.daemon.remedies import take_away
from vdifs.report.status import SCHEMA, OpenFile

__all__ = ["status"]

PERIOD_S = 1.0
Report = dict[str, Any]


class NotServedError(VdifsError):
    """No mount of vdifs is there, or no longer."""

    remedy = "name the mountpoint of a 'vdifs mount'"


@click.command(short_help="Show what a running mount serves.")
@click.argument("mountpoint", type=PathName("dir"))
@click.option(
    "--watch", is_flag=True, help="Show how far the readers of each open file are, until Ctrl-C or unmounting."
)
@output_option
@click.pass_context
def status(ctx: click.Context, mountpoint: str, watch: bool, output: Output) -> None:
    """Show what the mount at MOUNTPOINT serves, what it refuses and why, and who reads what.

    The exit status is 1 where SOURCE, or a folder of it, is in trouble: gone, replaced, or not readable any more.
    JSON is that of MOUNTPOINT/.vdifs/status.json; with --watch, one object a line.
    """
    if not watch:
        report = _read(mountpoint)
        if output == "json":
            echo_json(report)
        else:
            echo_field_list(report_fields(report, time.time()))
        if any("place" in problem for problem in report["problems"]):
            ctx.exit(1)
        return
    reports = _reports(mountpoint)
    with suppress(Interrupted), clearing_away():  # the way in which one stops watching
        if output == "json":
            for report in reports:
                click.echo(json.dumps(report))
        elif sys.stdout.isatty():
            from vdifs.cli.render.status_screen import show

            show(reports)
        else:
            _echo_lines(reports)


def _reports(mountpoint: str) -> Iterator[Report]:
    """Yield a report now and then, until the mount is taken away. Raises VdifsError if there is none at first."""
    yield _read(mountpoint)
    while True:
        time.sleep(PERIOD_S)
        try:
            report = _read(mountpoint)
        except NotServedError:
            return
        yield report


def _echo_lines(reports: Iterator[Report]) -> None:
    rates = Rates()
    for report in reports:
        for reading in rates.update(OpenFile.all_in(report), time.monotonic()):
            click.echo(file_line(reading))


def _read(mountpoint: str) -> Report:
    if not os.path.isabs(mountpoint):
        os.getcwd()  # one that is gone is no place without a mount
    try:
        with open(os.path.join(mountpoint, ".vdifs", "status.json"), "rb") as file:
            report = json.load(file)
        if not isinstance(report, dict) or report.get("schema") != SCHEMA:
            raise VdifsError("another version of vdifs serves it", where=mountpoint, remedy="ask with that one")
    except ValueError as error:
        raise NotServedError(".vdifs/status.json is no report of vdifs", where=mountpoint) from error
    except OSError as error:
        raise _refusal(mountpoint, error) from error
    return report


def _refusal(mountpoint: str, error: OSError) -> VdifsError:
    what = f"{error.strerror}"
    match error.errno:
        case errno.ENOTCONN | errno.ECONNABORTED:
            what, remedy = "a mount whose daemon has gone", take_away(mountpoint)
        case errno.ENOENT | errno.ENOTDIR:
            return NotServedError("no vdifs mount", where=mountpoint)
        case errno.EACCES:
            remedy = "ask as the user who mounted it, or mount with --allow-other"
        case _:
            remedy = "look into the log of the mount"
    return VdifsError(what, where=mountpoint, remedy=remedy)
