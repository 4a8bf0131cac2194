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

from benchmarks.contest import Compared, Outcome, Sample, Target, Unit, median
from benchmarks.processes import output_of
from benchmarks.rows import MEMORY
from benchmarks.servers import VDIFS
from benchmarks.sizes import MIB

__all__ = ["as_json", "brief", "growth", "load_line", "print_table"]

_HEADINGS = ("row", "what", "against", "vdifs", "peer", "ratio", "target", "met")
_Cells = tuple[str, ...]


def print_table(outcomes: Sequence[Outcome], *, judged: bool) -> None:
    """Print the table on standard output. judged: whether the figures are worth comparing with the targets."""
    table = Table(*_HEADINGS, box=rich.box.MARKDOWN)
    for outcome in outcomes:
        for cells in _lines(outcome, judged=judged):
            table.add_row(*cells)
    if (grown := growth(outcomes)) is not None:
        met = _yes_or_no(MEMORY.met_by(grown)) if judged else ""
        target = f"{MEMORY.sign} {MEMORY.bound / MIB:.0f} MiB"
        table.add_row("memory", "daemon memory after any of the above", "idle mount", _mib(grown), "", "", target, met)
    Console(width=None if os.isatty(1) else 220, highlight=False).print(table)


def brief(outcome: Outcome, *, judged: bool) -> str:
    """Return an outcome in one line."""
    first, *others = _lines(outcome, judged=judged)
    parts = [(*first[:1], *first[3:]), *(cells[4:] for cells in others)]
    return ";  ".join("  ".join(cell for cell in cells if cell) for cells in parts)


def load_line(outcomes: Sequence[Outcome], at_start: float) -> str:
    """Return in one line what else the machine did. at_start: the load average before anything was measured."""
    others = [outcome.others for outcome in outcomes if outcome.ours]
    line = f"load of the machine: {at_start:.2f} at the start"
    if not others:
        return line
    kept = f"{statistics.median(others):.2f} of {os.cpu_count()} processors, at most {max(others):.2f}"
    return f"{line}; while rows were measured, other programs and the kernel's threads kept {kept} busy"


def growth(outcomes: Sequence[Outcome]) -> int | None:
    """Return by how much the memory of any daemon of vdifs grew at most."""
    grown = [sample.growth for outcome in outcomes for sample in outcome.ours if sample.growth is not None]
    return max(grown, default=None)


def _lines(outcome: Outcome, *, judged: bool) -> list[_Cells]:
    """Return the lines of a row: one for each peer, or one alone."""
    row = outcome.row
    if outcome.problem is not None:
        problem = f"{'failed' if outcome.failed else 'skipped'}: {outcome.problem}"
        return [(row.key, row.what, "", problem, "", "", "", "")]
    ours = _value(median(outcome.ours), row.unit)
    if not row.peers:
        met = _yes_or_no(outcome.met) if judged and outcome.met is not None else ""
        target = "" if row.target is None else f"{row.target.sign} {_bound(row.target.bound, row.unit)}"
        return [(row.key, row.what, "", ours, "", "", target, met)]
    return [(row.key, row.what, *_against(each, ours, row.unit, judged=judged)) for each in outcome.compared]


def _against(each: Compared, ours: str, unit: Unit, *, judged: bool) -> _Cells:
    """Return the cells of one peer."""
    target = "" if each.peer.target is None else _ratio_wanted(each.peer.target)
    if each.problem is not None:
        return each.peer.name, ours, f"skipped: {each.problem}", "", target, ""
    ratio = "" if each.ratio is None else f"{each.ratio:.2f}x"
    met = _yes_or_no(each.met) if judged and each.met is not None else ""
    return each.peer.name, ours, _value(median(each.samples), unit), ratio, target, met


def _yes_or_no(met: bool) -> str:
    return "yes" if met else "NO"


def _ratio_wanted(target: Target) -> str:
    return f"{target.sign} {target.bound:g}x{' the time' * target.time}"


def _bound(bound: float, unit: Unit) -> str:
    return f"{bound:g} {unit}"


def _value(value: float, unit: Unit) -> str:
    match unit:
        case "s" | "s/GiB":
            return f"{value:.3f} {unit}"
        case "B":
            return f"{value / 1e6:,.1f} MB"
        case "B/s":
            return f"{value / 1e9:.2f} GB/s"
        case "reads/s":
            return f"{value:,.0f}/s"
        case "%":
            return f"{value:.2f} %"


def _mib(size: int) -> str:
    return f"{size / MIB:+.0f} MiB"


def as_json(outcomes: Sequence[Outcome], rounds: int, folder: Path, at_start: float) -> dict[str, Any]:
    """Return everything that was measured, and on what. at_start: the load average before anything was measured."""
    return {
        "machine": {
            "processor": _processor(),
            "processors": os.cpu_count(),
            "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            "kernel": platform.release(),
            "load": at_start,
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
        "unit": row.unit,
        "status": "failed" if outcome.failed else "skipped" if outcome.problem else "measured",
        "problem": outcome.problem,
        "vdifs": _side_json(outcome.ours),
        "peers": [_compared_json(each) for each in outcome.compared],
        "target": _target_json(row.target),
        "met": outcome.met,
        "processors_of_others": outcome.others,
    }


def _compared_json(each: Compared) -> dict[str, Any]:
    return {
        "against": each.peer.name,
        "problem": each.problem,
        "measured": _side_json(each.samples),
        "ratio": each.ratio,
        "target": _target_json(each.peer.target),
        "met": each.met,
    }


def _target_json(target: Target | None) -> dict[str, Any] | None:
    return None if target is None else {"sign": target.sign, "bound": target.bound, "of_times": target.time}


def _side_json(samples: Sequence[Sample]) -> dict[str, Any] | None:
    if not samples:
        return None
    return {
        "median": median(samples),
        "samples": [sample.value for sample in samples],
        "cpu_seconds": statistics.median(sample.cpu for sample in samples),
        "daemon_cpu_seconds": statistics.median(sample.daemon for sample in samples),
        "daemon_growth": max((sample.growth for sample in samples if sample.growth is not None), default=None),
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
