"""Which files' internal snapshots are offered as images, and the entries of those.

A few megabytes on disk may hold 65,536 snapshots, and stand under a thousand names. So the snapshots that a catalog
offers are bounded in number, before any table is read: those of a file are offered all together or not at all, the
files with the fewest first, and each owner of files has an equal share. What is offered follows from the files alone.
"""

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import groupby
from operator import attrgetter

from vdifs.catalog.entry import Entry
from vdifs.chain.policy import Policy
from vdifs.errors import ChainError, FormatError, VdifsError
from vdifs.formats.image_format import Front
from vdifs.formats.registry import FORMATS
from vdifs.pace import give_way
from vdifs.storage.fingerprint import Fingerprint
from vdifs.units import SECTOR, round_down

__all__ = ["MOST_OFFERED", "OfferedSnapshots", "within_budget"]

MOST_OFFERED = 16_384
"""Snapshots of a catalog in all: each is an image with files of its own, and an image takes up to a kibibyte."""
FOR_EACH_FILE = 32
"""So many there are for each file that has some, where that is more in all: it is like as many files."""

_ENTRIES_AT_ONCE = 256
_Labelled = tuple[tuple[str, int | None], ...]
"""The label of each snapshot of a file, and the size of its disk where it records it."""


@dataclass(frozen=True, slots=True)
class _Expanded:
    """What was made of the file `active`. problem: what is wrong with its table."""

    active: Entry
    snapshots: tuple[Entry, ...] = ()
    problem: VdifsError | None = None

    def of_broken(self, entry: Entry) -> "_Expanded":
        """Return the same snapshots of a file that cannot be read any more: they stay listed, with that as theirs."""
        return _Expanded(entry, _broken(self.snapshots, entry, entry.problem))

    def and_lost(self, before: "_Expanded | None", name: str) -> "_Expanded":
        """Return what was made, and those snapshots of `before` that a damaged table does not tell any more."""
        if before is None or (self.problem is None and len(self.snapshots) >= self.active.snapshots):
            return self
        told = {each.path for each in self.snapshots}
        lost = [each for each in before.snapshots if each.path not in told]
        what, remedy = "this snapshot's entry in its table of snapshots was lost", "restore the file from a copy"
        problem = self.problem or FormatError(what, where=name, remedy=remedy)
        return replace(self, snapshots=(*self.snapshots, *_broken(lost, self.active, problem)))

    def is_of(self, entry: Entry) -> bool:
        """Tell whether that still holds: bad bytes stay bad, a disk that failed may be well again."""
        same = self.active is entry or (entry.live and self.active == entry)  # which is read again at each scan
        return same and (self.problem is None or isinstance(self.problem, FormatError))


class OfferedSnapshots:
    """The snapshots that a catalog offers. Remembers the entries of a file as long as it is as it was."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._known: Mapping[str, _Expanded] = {}

    def expand(self, active: dict[str, Entry], found: Container[str]) -> tuple[list[Entry], list[Entry]]:
        """Return the snapshots of those files `active`, by PATH, that were `found`, and one entry for each file left.

        The problem of such an entry says why its snapshots are not offered. A file whose table of snapshots is damaged
        gets that as its problem.
        """
        able = [each for each in active.values() if each.snapshots and (each.problem is None or each.live)]
        claiming = [each for each in able if each.path in found]
        most = max(MOST_OFFERED, FOR_EACH_FILE * len({each.fingerprint[:2] for each in claiming}))
        chosen = within_budget(claiming, most)
        tables: dict[Fingerprint, _Labelled | VdifsError] = {}
        known: dict[str, _Expanded] = {}
        for entry in (each for each in claiming if each.path in chosen):
            before = self._known.get(entry.path)
            if before is not None and before.is_of(entry):
                made = before
            else:
                made = self._expanded(entry, tables).and_lost(before, self._policy.display(entry.path))
            known[entry.path] = made
            if made.problem is not None:
                active[entry.path] = replace(entry, problem=made.problem)
        for entry in active.values():
            before = self._known.get(entry.path)
            if entry.problem is not None and entry.path not in known and before is not None and entry.path in found:
                known[entry.path] = before.of_broken(entry)
        self._known = known
        snapshots = [snapshot for each in known.values() for snapshot in each.snapshots]
        return snapshots, self._left_out((each for each in claiming if each.path not in chosen), most)

    def _expanded(self, entry: Entry, tables: dict[Fingerprint, _Labelled | VdifsError]) -> _Expanded:
        """Return the snapshots of a file. tables: those that were read already: a file may have several names."""
        if entry.fingerprint not in tables:
            try:
                tables[entry.fingerprint] = self._read(entry)
            except VdifsError as error:
                tables[entry.fingerprint] = error.bare()
        table = tables[entry.fingerprint]
        if isinstance(table, VdifsError):
            return _Expanded(entry, problem=table)
        return _Expanded(entry, tuple(_entries(entry, table)))

    def _read(self, entry: Entry) -> _Labelled:
        file = self._policy.open(entry.path)
        try:
            front, wanted = Front(file), FORMATS[entry.format]
            return wanted.read(front).labels_and_sizes(file) if wanted.probe(front) else ()
        finally:
            file.close()

    def _left_out(self, entries: Iterable[Entry], most: int) -> list[Entry]:
        """Return the first entry of each file, with why its snapshots are not offered as its problem."""
        ordered = sorted(entries, key=lambda entry: (entry.fingerprint[:2], entry.path))
        found = []
        for _, group in groupby(ordered, key=lambda entry: entry.fingerprint[:2]):
            first, *others = group
            where = self._policy.display(first.path)
            problem = ChainError(
                f"its {first.snapshots} snapshots are not offered: {most} are in all, those of the files with the "
                "fewest first",
                where=f"{where} (and {len(others)} other names of it)" if others else where,
                remedy="read one with 'vdifs export IMAGE@SNAPSHOT', delete some with 'qemu-img snapshot -d', or take "
                "fewer images together",
            )
            found.append(replace(first, problem=problem))
        return found


def within_budget(entries: Iterable[Entry], most: int) -> frozenset[str]:
    """Return the PATHs of those `entries` whose snapshots, `most` in all, are offered.

    Owners who need less than an equal share leave the rest to the others.
    """
    ordered = sorted(entries, key=lambda entry: (entry.uid, entry.snapshots, entry.path))
    owners = [list(own) for _, own in groupby(ordered, key=attrgetter("uid"))]
    owners.sort(key=lambda own: sum(entry.snapshots for entry in own))
    chosen: set[str] = set()
    for place, own in enumerate(owners):
        share = most // (len(owners) - place)
        for entry in own:
            if entry.snapshots > share:
                break
            share -= entry.snapshots
            most -= entry.snapshots
            chosen.add(entry.path)
    return frozenset(chosen)


def _entries(active: Entry, table: _Labelled) -> Iterable[Entry]:
    for number, (label, disk_size) in enumerate(table):
        if not number % _ENTRIES_AT_ONCE:
            give_way()
        size = active.virtual_size if disk_size is None else round_down(disk_size, SECTOR)
        yield replace(active, path=f"{active.path}@{label}", snapshot=label, virtual_size=size)


def _broken(snapshots: Iterable[Entry], active: Entry, problem: VdifsError | None) -> tuple[Entry, ...]:
    return tuple(replace(each, fingerprint=active.fingerprint, problem=problem) for each in snapshots)
