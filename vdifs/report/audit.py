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
from vdifs.formats.layer import State
from vdifs.formats.problems import FileAudit, Problem, Severity, SnapshotStates, Tell, failed, of_file
from vdifs.storage.fingerprint import Fingerprint
from vdifs.units import SECTOR, round_down

__all__ = ["Problem", "Severity", "audit"]


@dataclass(frozen=True, slots=True)
class _Known:
    """What was found of an image, for its other states: of its file, and of its backing files.

    asked: PATH and stated format. broken: why the backing files cannot be opened. sizes: of those. first: what tells of
    the topmost. states: what was found of each state, by what it claims.
    """

    asked: tuple[str, str | None]
    fingerprints: tuple[Fingerprint, ...]
    snapshots: SnapshotStates
    whole: FileAudit
    below: tuple[Problem, ...]
    broken: VdifsError | None
    sizes: tuple[int, ...]
    first: Tell | None
    states: dict[State, tuple[Problem, ...]] = field(default_factory=dict)


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
                state = known.snapshots.find(snapshot)
                same = state if state in known.states or known.broken else None
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
    state = top.layer.state
    if not known.broken:
        known.states[state] = tuple(known.whole.of_state(top.layer, top.path))
    found = _in_state(known, top.path, state)
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
            found += _of_size(of_file(member.file.name, member.file_path), sizes[depth - 1 :])
        whole = _of_file(member, has_overlay=True)
        found += [*whole.problems, *whole.of_state(member.layer, member.path)]
    known = _Known(
        asked,
        Chain((top,)).fingerprints,
        top.metadata.snapshot_states(top.file),
        FileAudit() if broken else _of_file(top, has_overlay=False),
        tuple(found),
        broken,
        sizes,
        of_file(below[0].file.name, below[0].file_path) if below else None,
    )
    return known, Chain((top, *below))


def _in_state(known: _Known, path: str, state: State) -> list[Problem]:
    """Return what was found of the state PATH, and of its chain."""
    if known.broken is not None:
        return [failed(path, known.broken)]
    found = list(known.whole.problems)
    found += [replace(problem, path=path) for problem in known.states[state]]
    if known.first is not None:
        found += _of_size(known.first, (round_down(state.virtual_size, SECTOR), *known.sizes))
    return [*found, *known.below]


def _of_file(member: Member, *, has_overlay: bool) -> FileAudit:
    """Look at what the states of a file share."""
    return member.metadata.audit(member.file, member.file_path, has_overlay=has_overlay)


def _of_size(tell: Tell, sizes: tuple[int, ...]) -> Iterator[Problem]:
    """Yield what is wrong with the size of a backing file. sizes: of its overlay, its own, and those below it."""
    overlay, own, *below = sizes
    if own < overlay:
        hides = any(size > own for size in below)
        severity, kind = (Severity.WARNING, "shrunk") if hides else (Severity.NOTE, "shorter")
        yield tell(severity, kind, f"it ends at {own}, before its overlay: from there on zeros are read")
