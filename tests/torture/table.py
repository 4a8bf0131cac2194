"""What is printed: one table of what was tried and what went wrong."""

import os
from collections.abc import Mapping, Sequence

import rich.box
from rich.console import Console
from rich.table import Table

from tests.torture.tally import Kind, Tally
from tests.torture.task import Section

__all__ = ["brief", "print_table"]

_SHOWN = 20


def print_table(sections: Sequence[Section], tallies: Mapping[str, Tally]) -> None:
    """Print the table on standard output, then every finding."""
    console = Console(width=None if os.isatty(1) else 200, highlight=False, markup=False)
    table = Table("section", "what was tried", "count", *(str(kind) for kind in Kind), "time", box=rich.box.MARKDOWN)
    done = [section for section in sections if section.key in tallies]
    for section in done:
        tally = tallies[section.key]
        wrong = [str(tally.count(kind)) for kind in Kind]
        count = f"{tally.tried:,} {section.unit}"
        table.add_row(section.key, section.what, count, *wrong, f"{tally.seconds:.0f} s")
    console.print(table)
    for section in done:
        tally = tallies[section.key]
        console.print(f"{section.key}: {facts(tally)}")
        for finding in tally.findings[:_SHOWN]:
            console.print(f"  {finding.kind}: {finding.what}")
        if len(tally.findings) > _SHOWN:
            console.print(f"  and {len(tally.findings) - _SHOWN} more")


def brief(section: Section, tally: Tally) -> str:
    """Return a result in one line."""
    wrong = ", ".join(f"{tally.count(kind)} {kind}" for kind in Kind if tally.count(kind)) or "nothing went wrong"
    return f"{section.key}: {tally.tried:,} {section.unit} in {tally.seconds:.0f} s: {wrong} ({facts(tally)})"


def facts(tally: Tally) -> str:
    """Return what was counted and measured in one line."""
    return ", ".join(f"{name} {_number(value)}" for name, value in sorted(tally.facts.items()))


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:,.2f}"
