"""The command line of `scripts/bench`."""

import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from benchmarks.chains import Chains
from benchmarks.contest import Outcome, Row
from benchmarks.processes import FailedError
from benchmarks.rows import MEMORY, all_rows
from benchmarks.session import measure_all, opened, room_for, room_for_plot
from benchmarks.sizes import FULL, QUICK
from benchmarks.table import as_json, brief, growth, load_line, print_table

_INTERRUPTED = 130


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("rows", nargs=-1)
@click.option("--list", "listed", is_flag=True, help="Name the rows and end.")
@click.option("--quick", is_flag=True, help="Small images, one round: does everything work? Judges no speed.")
@click.option("--rounds", type=click.IntRange(1), help="Runs of each side; by default 5, with --quick 1.")
@click.option("--output", type=click.Choice(["human", "json"]), default="human", show_default=True)
@click.option(
    "--plot",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.svg",
    help="Also measure and draw the cost against disk size, depth and readers.",
)
@click.option(
    "--workdir",
    type=click.Path(exists=True, file_okay=False, writable=True, path_type=Path),
    help="Where the images are made; by default TMPDIR or /var/tmp.",
)
def main(
    rows: tuple[str, ...],
    listed: bool,
    quick: bool,
    rounds: int | None,
    output: str,
    plot: Path | None,
    workdir: Path | None,
) -> None:
    """Measure vdifs against its peers: all ROWS, or those that are named, or whose names begin so.

    A figure is the median of runs that alternate with those of the peers. Status 1 if a row failed or missed a target.
    """
    sizes = QUICK if quick else FULL
    rounds = rounds or (1 if quick else 5)
    every = list(all_rows(sizes))
    chosen = [row for row in every if not rows or row.key in _named(every, rows)]
    if listed:
        for row in chosen:
            click.echo(f"{row.key:26} {row.what}{_against(row)}")
        return
    for number in signal.SIGTERM, signal.SIGHUP:
        signal.signal(number, signal.default_int_handler)  # everything is cleared away, as with Ctrl-C
    outcomes: list[Outcome] = []
    interrupted = False
    at_start = os.getloadavg()[0]
    planned = Chains(Path(), sizes)
    room = max(room_for(chosen, planned), room_for_plot(sizes, planned) if plot else 0)
    with opened(workdir, sizes, room, _say) as bench:
        try:
            for outcome in measure_all(chosen, bench, rounds):
                _say(brief(outcome, judged=not quick))
                outcomes.append(outcome)
        except KeyboardInterrupt:
            interrupted = True  # what was measured so far is still of use
        if output == "json":
            click.echo(json.dumps(as_json(outcomes, rounds, bench.folder, at_start), indent=2))
        else:
            print_table(outcomes, judged=not quick)
            click.echo(load_line(outcomes, at_start))
        if plot is not None and not interrupted:
            from benchmarks.plot import draw

            draw(plot, bench, rounds, _say)
    sys.exit(_INTERRUPTED if interrupted else _status(outcomes, judged=not quick))


def _against(row: Row) -> str:
    return f", against {', and '.join(peer.name for peer in row.peers)}" if row.peers else ""


def _named(every: Sequence[Row], wanted: Sequence[str]) -> set[str]:
    """Return the keys that `wanted` stands for."""
    keys = [row.key for row in every]
    found: set[str] = set()
    for word in wanted:
        these = {word} if word in keys else {key for key in keys if key.startswith(word)}
        if not these:
            raise click.UsageError(f"{word}: no row is called so; --list names them")
        found |= these
    return found


def _status(outcomes: Sequence[Outcome], *, judged: bool) -> int:
    if any(outcome.failed for outcome in outcomes):
        return 1
    grown = growth(outcomes)
    too_much = grown is not None and not MEMORY.met_by(grown)
    return int(judged and (too_much or any(outcome.met is False for outcome in outcomes)))


def _say(message: str) -> None:
    click.echo(message, err=True)


if __name__ == "__main__":
    try:
        main(prog_name="scripts/bench")
    except FailedError as error:
        _say(f"scripts/bench: {error}")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
