"""Every problem of an image, with a severity: what opening refuses, and what QEMU and vdifs read but should not be.

An ERROR keeps the image from being served. A WARNING does not, but deserves a look. A NOTE is worth knowing.

What the states of a file share, which is all but an L1 table and what it leads to, is looked at once for all of them:

    active state   file: header, bitmaps, refcounts, tables of all states | backing files | own L1, L2
    snapshot       (known)                                                | (known)       | own L1, L2
    snapshot       (known)                                                | (known)       | (known: claims the same)
"""

from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from weakref import WeakKeyDictionary

from vdifs.chain.links import ImageRef
from vdifs.chain.members import Member, each_member, open_image_file
from vdifs.chain.open_chain import Chain
from vdifs.chain.policy import Policy
from vdifs.errors import InUseError, SourceChangedError, VdifsError
from vdifs.formats.problems import Problem, Severity, Teller
from vdifs.formats.qcow2.file_tables import FileTables
from vdifs.formats.qcow2.layer import L1Place, Qcow2Layer
from vdifs.formats.qcow2.snapshot_places import SnapshotPlaces, snapshot_places
from vdifs.report.findings import failed, of_bitmaps, of_header, of_size, of_state, of_tables, told
from vdifs.storage.fingerprint import Fingerprint
from vdifs.units import SECTOR, round_down

__all__ = ["Problem", "Severity", "audit"]


@dataclass(frozen=True, slots=True)
class _Whole:
    """What was found of a file in all of its states. tables: None if there are none, or for `error`."""

    problems: tuple[Problem, ...] = ()
    tables: FileTables | None = None
    error: VdifsError | None = None


@dataclass(frozen=True, slots=True)
class _Known:
    """What was found of an image, for its other states: of its file, and of its backing files.

    asked: PATH and stated format. broken: why the backing files cannot be opened. sizes: of those. first: what tells of
    the topmost. states: what was found of each state, by what it claims.
    """

    asked: tuple[str, str | None]
    fingerprints: tuple[Fingerprint, ...]
    snapshots: SnapshotPlaces
    whole: _Whole
    below: tuple[Problem, ...]
    broken: VdifsError | None
    sizes: tuple[int, ...]
    first: Teller | None
    states: dict[L1Place, tuple[Problem, ...]] = field(default_factory=dict)


_last: WeakKeyDictionary[Policy, _Known] = WeakKeyDictionary()
"""The image with snapshots that was looked at last, for each policy, which is one run of a command."""


def audit(policy: Policy, path: str, snapshot: str | None = None, *, stated: str | None = None) -> list[Problem]:
    """Return the problems of the image PATH and of its chain, as far as its tables tell; no guest data are read.

    stated: the format of PATH, None where it is to be found out. Of a snapshot, what is not its own is as it was when
    another state of the same file was looked at before it, with the same policy.
    """
    name = path if snapshot is None else f"{path}@{snapshot}"
    known = None if snapshot is None else _last.get(policy)
    if known is not None and known.asked != (path, stated):
        known = None
    try:
        with ExitStack() as opened:
            if known is not None and snapshot is not None:
                place = known.snapshots.find(snapshot)
                same = place if place in known.states or known.broken else None
                if same and open_image_file(policy, path, opened).fingerprint == known.fingerprints[0]:
                    return _in_state(known, name, same)
            return _look(policy, (path, stated), snapshot, known, opened)
    except SourceChangedError as error:
        return [failed(name, _writer_of(policy, path) or error)]
    except VdifsError as error:
        return [failed(name, error)]


def _writer_of(policy: Policy, path: str) -> InUseError | None:
    """Return what is said of a file that a machine is writing, None if none does."""
    try:
        with closing(policy.open(path)) as file:
            file.check_no_writer()
    except InUseError as error:
        return error
    except VdifsError:
        pass  # which says less than that it has changed
    return None


def _look(
    policy: Policy, asked: tuple[str, str | None], snapshot: str | None, known: _Known | None, opened: ExitStack
) -> list[Problem]:
    """Open a state and look at it, and at what is not `known` yet. Raises VdifsError where it cannot be opened."""
    members = each_member(policy, ImageRef(asked[0], snapshot, asked[1]), opened)
    chain = Chain((next(members),))
    top = chain.members[0]
    if known is None or known.fingerprints != chain.fingerprints:
        known, chain = _shared(asked, top, members)
    place = None
    if isinstance(top.layer, Qcow2Layer):
        place = top.layer.place
        if not known.broken:
            known.states[place] = tuple(_of_state(top, known.whole))
    found = _in_state(known, top.path, place)
    chain.check_unchanged()  # or what was found belongs to no state of it
    if len(known.snapshots):
        _last[policy] = known
    return found


def _shared(asked: tuple[str, str | None], top: Member, members: Iterator[Member]) -> tuple[_Known, Chain]:
    """Look at all that the states of a file share. members: those below `top`."""
    below, broken = list[Member](), None
    try:
        below += members
    except VdifsError as error:
        broken = error
    sizes = tuple(member.layer.virtual_size for member in below)
    found: list[Problem] = []
    for depth, member in enumerate(() if broken else below):
        if depth:
            found += of_size(told(member, member.file_path), sizes[depth - 1 :])
        whole = _of_whole(member, has_overlay=True)
        found += [*whole.problems, *_of_state(member, whole)]
    snapshots = SnapshotPlaces.of((), 0) if top.header is None else snapshot_places(top.file, top.header)
    known = _Known(
        asked,
        Chain((top,)).fingerprints,
        snapshots,
        _Whole() if broken else _of_whole(top, has_overlay=False),
        tuple(found),
        broken,
        sizes,
        told(below[0], below[0].file_path) if below else None,
    )
    return known, Chain((top, *below))


def _in_state(known: _Known, path: str, place: L1Place | None) -> list[Problem]:
    """Return what was found of the state PATH, which claims `place`, and of its chain."""
    if known.broken is not None:
        return [failed(path, known.broken)]
    found = list(known.whole.problems)
    if place is not None:
        found += [replace(problem, path=path) for problem in known.states[place]]
        if known.first is not None:
            found += of_size(known.first, (round_down(place.virtual_size, SECTOR), *known.sizes))
    return [*found, *known.below]


def _of_whole(member: Member, *, has_overlay: bool) -> _Whole:
    """Look at what the states of a file share."""
    if member.header is None:
        return _Whole()
    of_file = told(member, member.file_path)
    found = list(of_header(member.header, of_file, has_overlay=has_overlay))
    try:
        found += of_bitmaps(member, member.header)
        tables = FileTables.of(member.file, member.header)
    except VdifsError as error:
        return _Whole(tuple(found), None, error)
    return _Whole((*found, *of_tables(tables, of_file)), tables)


def _of_state(member: Member, whole: _Whole) -> list[Problem]:
    """Return what is wrong with the L1 table and the L2 tables of a state."""
    if whole.error is not None:
        return [failed(member.path, whole.error)]
    if whole.tables is None or not isinstance(member.layer, Qcow2Layer):
        return []
    return list(of_state(member, member.layer, whole.tables))
