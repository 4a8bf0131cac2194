"""The command line of `scripts/torture`."""

import json
import os
import secrets
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import click

from tests.torture.scratch import remove
from tests.torture.sections import SECTIONS
from tests.torture.table import brief, print_table
from tests.torture.tally import Tally
from tests.torture.task import Section, Task, run_section

_INTERRUPTED = 130
_SHORT_MINUTES = 5.0
_WORKING = 0.8
"""This part of the time is for trying; the rest is for making images, mounting and clearing away."""


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("sections", nargs=-1)
@click.option("--list", "listed", is_flag=True, help="Name the sections and end.")
@click.option("--minutes", type=click.FloatRange(0.1), help="How long to go on, all sections together; 5 unless told.")
@click.option("--short", is_flag=True, help="The same as --minutes 5.")
@click.option("--long", "long", is_flag=True, help="Until every section has tried what its long form asks for.")
@click.option("--count", type=click.IntRange(1), help="Try so many in each section, however long that takes.")
@click.option("--seed", type=click.IntRange(0), help="Where random choices start; the seed of a finding repeats it.")
@click.option("--jobs", type=click.IntRange(1), default=os.cpu_count() or 1, help="Processors that fuzzing uses.")
@click.option("--output", type=click.Choice(["human", "json"]), default="human", show_default=True)
@click.option(
    "--resume",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Keep the results of finished sections in FILE, and pass over those that are in it already.",
)
@click.option(
    "--keep",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Keep the images that went wrong.",
)
@click.option(
    "--workdir",
    type=click.Path(exists=True, file_okay=False, writable=True, path_type=Path),
    help="Where images are made and mounted; by default TMPDIR or /var/tmp.",
)
def main(
    sections: tuple[str, ...],
    listed: bool,
    minutes: float | None,
    short: bool,
    long: bool,
    count: int | None,
    seed: int | None,
    jobs: int,
    output: str,
    resume: Path | None,
    keep: Path | None,
    workdir: Path | None,
) -> None:
    """Try to break vdifs in all SECTIONS, or those that are named. Status 1 if anything went wrong."""
    chosen = _chosen(sections)
    if listed:
        for section in chosen:
            click.echo(f"{section.key:8} {section.what}; --long: {_asked_by_long(section)}")
        return
    if sum([minutes is not None, short, long, count is not None]) > 1:
        raise click.UsageError("--minutes, --short, --long and --count exclude each other")
    for number in signal.SIGTERM, signal.SIGHUP:
        signal.signal(number, signal.default_int_handler)  # everything is cleared away, as with Ctrl-C
    if seed is None:
        seed = secrets.randbelow(1 << 32)
    _say(f"seed {seed}")
    done = _load(resume)
    status = 0
    try:
        with _workplace(workdir) as folder:
            for section in chosen:
                if section.key in done:
                    continue
                limits = limits_of(section, chosen, minutes or _SHORT_MINUTES, long=long, count=count)
                own = folder / section.key
                own.mkdir()
                _say(f"{section.key}: {section.what}")
                task = Task(own, seed, *limits, jobs, partial(_say_of, section.key), keep)
                done[section.key] = run_section(section, task)
                remove(own)
                _say(brief(section, done[section.key]))
                _save(resume, done)
    except KeyboardInterrupt:
        status = _INTERRUPTED  # what was tried so far is still of use
    if output == "json":
        click.echo(json.dumps(_as_json(chosen, done, seed), indent=2))
    else:
        print_table(chosen, done)
    wrong = any(done[section.key].findings for section in chosen if section.key in done)
    sys.exit(status or int(wrong))


def _chosen(names: Sequence[str]) -> list[Section]:
    known = {section.key: section for section in SECTIONS}
    for name in names:
        if name not in known:
            raise click.UsageError(f"{name}: no section is called so; there are {', '.join(known)}")
    return [section for section in SECTIONS if not names or section.key in names]


def _asked_by_long(section: Section) -> str:
    return f"{section.long:,} {section.unit}" if section.long else f"{(section.long_seconds or 0) / 60:.0f} minutes"


def limits_of(
    section: Section, chosen: Sequence[Section], minutes: float, *, long: bool, count: int | None
) -> tuple[int | None, float | None]:
    """Return after how many trials, and after how many seconds, a section is to end."""
    if count is not None:
        return count, None
    if long:
        return section.long, section.long_seconds
    return None, minutes * 60 * _WORKING * section.share / sum(each.share for each in chosen)


@contextmanager
def _workplace(workdir: Path | None) -> Iterator[Path]:
    parent = (workdir or Path(os.environ.get("TMPDIR", "/var/tmp"))).resolve()
    folder = Path(mkdtemp(prefix="vdifs-torture-", dir=parent))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        remove(folder)


def _load(file: Path | None) -> dict[str, Tally]:
    if file is None or not file.exists():
        return {}
    return {key: Tally.from_json(value) for key, value in json.loads(file.read_text()).items()}


def _save(file: Path | None, done: dict[str, Tally]) -> None:
    if file is not None:
        fresh = file.with_name(f"{file.name}.new")
        fresh.write_text(json.dumps({key: tally.as_json() for key, tally in done.items()}, indent=1))
        fresh.replace(file)


def _as_json(sections: Sequence[Section], done: dict[str, Tally], seed: int) -> dict[str, Any]:
    rows = [
        {"section": section.key, "what": section.what, "unit": section.unit, **done[section.key].as_json()}
        for section in sections
        if section.key in done
    ]
    return {"seed": seed, "sections": rows}


def _say_of(key: str, message: str) -> None:
    _say(f"{key}: {message}")


def _say(message: str) -> None:
    click.echo(message, err=True)


if __name__ == "__main__":
    main(prog_name="scripts/torture")
