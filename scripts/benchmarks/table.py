"""What is printed: one table for people, or JSON with every sample."""

import os
import platform
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import rich.box
from rich.console import Console
from rich.table import Table

from benchmarks.contest import Outcome, Sample, Target, Unit, median
from benchmarks.processes import output_of
from benchmarks.rows import MEMORY
from benchmarks.servers import VDIFS
from benchmarks.sizes import MIB

__all__ = ["as_json", "brief", "growth", "print_table"]

_HEADINGS = ("row", "what", "against", "vdifs", "peer", "ratio", "target", "met")


def print_table(outcomes: Sequence[Outcome], *, judged: bool) -> None:
    """Print the table on standard output. judged: whether the figures are worth comparing with the targets."""
    table = Table(*_HEADINGS, box=rich.box.MARKDOWN)
    for outcome in outcomes:
        table.add_row(*_cells(outcome, judged=judged))
    if (grown := growth(outcomes)) is not None:
        met = _yes_or_no(MEMORY.met_by(grown)) if judged else ""
        target = f"{MEMORY.sign} {MEMORY.bound / MIB:.0f} MiB"
        table.add_row("memory", "daemon memory after any of the above", "idle mount", _mib(grown), "", "", target, met)
    Console(width=None if os.isatty(1) else 200, highlight=False).print(table)


def brief(outcome: Outcome, *, judged: bool) -> str:
    """Return an outcome in one line."""
    cells = _cells(outcome, judged=judged)
    return "  ".join(cell for cell in (*cells[:1], *cells[3:]) if cell)


def growth(outcomes: Sequence[Outcome]) -> int | None:
    """Return by how much the memory of any daemon of vdifs grew at most."""
    grown = [sample.growth for outcome in outcomes for sample in outcome.ours if sample.growth is not None]
    return max(grown, default=None)


def _cells(outcome: Outcome, *, judged: bool) -> tuple[str, ...]:
    row = outcome.row
    target = _target(row.target, row.unit, absolute=not row.against)
    if outcome.problem is not None:
        verb = "failed" if outcome.failed else "skipped"
        return (row.key, row.what, row.against, f"{verb}: {outcome.problem}", "", "", target, "")
    met = _yes_or_no(outcome.met) if judged and outcome.met is not None else ""
    ratio = "" if outcome.ratio is None else f"{outcome.ratio:.2f}x"
    peer = _value(median(outcome.peer), row.unit) if outcome.peer else ""
    return (row.key, row.what, row.against, _value(median(outcome.ours), row.unit), peer, ratio, target, met)


def _yes_or_no(met: bool) -> str:
    return "yes" if met else "NO"


def _target(target: Target | None, unit: Unit, *, absolute: bool) -> str:
    if target is None:
        return ""
    return f"{target.sign} {target.bound:g}{' s' if absolute else 'x'}"


def _value(value: float, unit: Unit) -> str:
    match unit:
        case "s" | "s/GiB":
            return f"{value:.3f} {unit}"
        case "B/s":
            return f"{value / 1e9:.2f} GB/s"
        case "reads/s":
            return f"{value:,.0f}/s"


def _mib(size: int) -> str:
    return f"{size / MIB:+.0f} MiB"


def as_json(outcomes: Sequence[Outcome], rounds: int, folder: Path) -> dict[str, Any]:
    """Return everything that was measured, and on what."""
    return {
        "machine": {
            "processor": _processor(),
            "processors": os.cpu_count(),
            "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            "kernel": platform.release(),
            "filesystem": output_of("findmnt", "-no", "FSTYPE", "-T", folder).decode().strip(),
            "python": platform.python_version(),
            "vdifs": output_of(VDIFS, "--version").decode().strip(),
            "qemu": output_of("qemu-img", "--version").decode().splitlines()[0],
        },
        "rounds": rounds,
        "rows": [_row_json(outcome) for outcome in outcomes],
        "memory": {"growth": growth(outcomes), "target": MEMORY.bound},
    }


def _row_json(outcome: Outcome) -> dict[str, Any]:
    row = outcome.row
    return {
        "row": row.key,
        "what": row.what,
        "against": row.against or None,
        "unit": row.unit,
        "status": "failed" if outcome.failed else "skipped" if outcome.problem else "measured",
        "problem": outcome.problem,
        "vdifs": _side_json(outcome.ours),
        "peer": _side_json(outcome.peer),
        "ratio": outcome.ratio,
        "target": None if row.target is None else {"sign": row.target.sign, "bound": row.target.bound},
        "met": outcome.met,
    }


def _side_json(samples: Sequence[Sample]) -> dict[str, Any] | None:
    if not samples:
        return None
    return {
        "median": median(samples),
        "samples": [sample.value for sample in samples],
        "cpu_seconds": statistics.median(sample.cpu for sample in samples),
        "daemon_growth": max((sample.growth for sample in samples if sample.growth is not None), default=None),
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
