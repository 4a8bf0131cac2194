"""What `vdifs check` tells of a source: every problem of its images, and what of it is not looked at."""

import os
from collections import defaultdict
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

from vdifs.catalog.catalog import Catalog, Entry
from vdifs.catalog.grouping import place_of
from vdifs.chain.naming import ImageName
from vdifs.chain.policy import Live
from vdifs.report.audit import Problem, Severity, audit
from vdifs.wording import json_name

__all__ = ["Checked", "check_source", "checked_json"]


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found in a source. images: how many were looked at. problems: worst first, then by PATH."""

    images: int
    problems: tuple[Problem, ...]

    @property
    def errors(self) -> int:
        """How many problems keep images from being served."""
        return sum(problem.severity is Severity.ERROR for problem in self.problems)


def check_source(named: ImageName, trusted: tuple[str, ...], live: Live, at: Callable[[str], None]) -> Checked:
    """Return the problems of a directory, of one image with its snapshots, or of one snapshot; and of backing files.

    at: is told which image is looked at. Raises VdifsError if the source cannot be searched.
    """
    with closing(Catalog(named.path, trusted=trusted, live=live)) as catalog:
        catalog.scan()
        catalog.check_images()
        entries = _asked_for(catalog, named)
        return Checked(len(entries), tuple(_audit_all(catalog, entries, at)))


def checked_json(checked: Checked) -> dict[str, Any]:
    """Return all that was found, for JSON."""
    return {"images": checked.images, "problems": [_problem_json(problem) for problem in checked.problems]}


def _asked_for(catalog: Catalog, named: ImageName) -> list[Entry]:
    """Return the images to look at: all, those that are not offered too, or one snapshot and the backing files."""
    named_alike = (entry for entry in catalog.not_offered if entry.snapshot is not None)
    entries = [*catalog.entries.values(), *named_alike]
    if named.snapshot is None:
        return entries
    path = os.path.basename(named.path)
    wanted = replace(catalog.entries[path], path=f"{path}@{named.snapshot}", snapshot=named.snapshot)
    return [wanted, *(entry for entry in entries if entry.file_path != path)]


def _audit_all(catalog: Catalog, entries: list[Entry], at: Callable[[str], None]) -> list[Problem]:
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
    left_out = [Problem.of(each.path, each.severity, each.kind, each.error) for each in catalog.left_out]
    troubles = [Problem.of(path, Severity.ERROR, "trouble", error) for path, error in catalog.troubles.items()]
    return sorted(
        [*refused, *found.values(), *left_out, *troubles],
        key=lambda problem: (order.index(problem.severity), problem.path),
    )


def _problem_json(problem: Problem) -> dict[str, Any]:
    value: dict[str, Any] = json_name("name", problem.path)
    value |= {"severity": str(problem.severity), "kind": problem.kind, "message": problem.message}
    return value | {"keeps": [json_name("name", path) for path in problem.keeps]}
