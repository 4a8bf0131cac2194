"""What a directory holds: its images, known from stat and the first bytes of each file. No image is resolved here.

    scan   walk -> new and changed files are sniffed -> backing names are resolved -> entries, replaced as a whole

Ancestors that the walk does not reach (hidden, excluded, beneath a trusted directory) are images too.
"""

import os
import stat
import time
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from vdifs.catalog.ancestors import Ancestors
from vdifs.catalog.described import Described, of_broken, of_chain
from vdifs.catalog.entry import Entry
from vdifs.catalog.left_out import LeftOut, of_includes, of_no_images, of_skipped
from vdifs.catalog.listed import Listed
from vdifs.catalog.live import with_writers
from vdifs.catalog.offered import OfferedSnapshots
from vdifs.catalog.parts import without_parts
from vdifs.catalog.readers import Above, Readers, permissions_above
from vdifs.catalog.search import Search, search
from vdifs.catalog.sniff import has_same_links, sniff
from vdifs.catalog.still_known import still_known
from vdifs.catalog.troubles import Images, as_before, emptied, in_trouble, is_within
from vdifs.catalog.walk import Filter, Found, Identity, Passed
from vdifs.chain.access import Access
from vdifs.chain.policy import Live, Policy
from vdifs.errors import ChainError, FormatError, StorageError, VdifsError, printable
from vdifs.formats.problems import Severity
from vdifs.formats.registry import no_image, titles
from vdifs.linux.locks import LockTable
from vdifs.pace import give_way

__all__ = ["Catalog", "Entry"]

_Sniffed = tuple[Found, tuple[Entry, ...]]
"""A file, and the images in it."""


@dataclass(frozen=True, slots=True)
class _State:
    """The result of one scan. racy: files that must be read again to be sure, as their time stamps are too young.

    above: the permissions of the folders above the images. folders: those below the source root. troubles, shut: see
    Catalog. emptied: those of them that hold no image now. parts: see sniff. stated: see Ancestors.
    """

    files: Mapping[str, _Sniffed] = field(default_factory=dict)
    entries: Mapping[str, Entry] = field(default_factory=dict)
    racy: frozenset[str] = frozenset()
    above: Above = field(default_factory=dict)
    missing: Mapping[str, VdifsError] = field(default_factory=dict)
    stated: Mapping[tuple[str, str], Entry] = field(default_factory=dict)
    not_offered: tuple[Entry, ...] = ()
    unread: Mapping[str, VdifsError] = field(default_factory=dict)
    parts: frozenset[str] = frozenset()
    passed: Passed = field(default_factory=lambda: Passed(""))
    folders: Mapping[str, Identity] = field(default_factory=dict)
    troubles: Mapping[str, VdifsError] = field(default_factory=dict)
    emptied: frozenset[str] = frozenset()
    shut: frozenset[str] = frozenset()

    def listed(self, policy: Policy) -> Listed:
        """Return what chains are looked up in."""
        return Listed(policy, self.entries, self.missing, self.stated)

    def differs_from(self, other: "_State") -> bool:
        """Tell whether anything that a request may ask for is another."""
        return (
            self.entries != other.entries
            or self.above != other.above
            or self.missing.keys() != other.missing.keys()
            or self.stated != other.stated
            or self._told() != other._told()
        )

    def _told(self) -> dict[str, str]:
        told = {path: str(entry.problem) for path, entry in self.entries.items() if entry.problem is not None}
        return told | {f"{path}/": str(trouble) for path, trouble in self.troubles.items()}


class Catalog:
    """The images of a source: a directory, or a single image. A scan may run in one thread while others ask."""

    def __init__(
        self,
        source: str,
        *,
        trusted: Sequence[str] = (),
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        skip: Sequence[str] = (),
        live: Live = "refuse",
    ) -> None:
        """Open `source`; nothing is searched before `scan`. skip: absolute directories not to enter.

        live: whether an image that a virtual machine is writing has that for its problem.

        Raises StorageError if `source` or a trusted directory cannot be opened.
        """
        try:
            is_folder = stat.S_ISDIR(os.stat(source).st_mode)
        except OSError as error:
            raise StorageError.from_os(source, error, "name an existing directory or image") from error
        self._only: str | None = None
        if is_folder:
            self.policy = Policy(source, trusted, live=live)
        else:
            self.policy, self._only = Policy.for_image(source, trusted, live=live)
        self._locks = LockTable.open() if live == "refuse" else LockTable(None)
        self._filter = Filter(include, exclude)
        self._skip = frozenset(skip)
        self._snapshots = OfferedSnapshots(self.policy)
        self._state = _State()
        self._searched = False
        self._overlays: tuple[_State, Mapping[str, tuple[str, ...]]] | None = None

    def close(self) -> None:
        """Close the directories; more than once is harmless."""
        self.policy.close()
        self._locks.close()

    @property
    def entries(self) -> Mapping[str, Entry]:
        """PATH to Entry, as the last scan found them, in no order."""
        return MappingProxyType(self._state.entries)

    @property
    def not_offered(self) -> tuple[Entry, ...]:
        """The snapshots that are not among the entries, each with why as its problem, as the last scan found them.

        Of a file of which none is offered, as they are too many: the file itself.
        """
        return self._state.not_offered

    @property
    def left_out(self) -> tuple[LeftOut, ...]:
        """What is not served though one may miss it, apart from refused images, as the last scan found it."""
        state, policy = self._state, self.policy
        named = [LeftOut(e.path, Severity.WARNING, _kind(e), e.problem) for e in state.not_offered if e.problem]
        empty = (path for path, (_, entries) in state.files.items() if not entries and path not in state.entries)
        others = of_no_images((path for path in empty if path not in state.parts), policy.display)
        unread = [LeftOut(path, Severity.WARNING, "unreadable", error) for path, error in state.unread.items()]
        skipped = of_skipped(state.passed, policy.root_names, state.files, state.entries, policy.display)
        images = [path for path, (_, entries) in state.files.items() if entries]
        includes = of_includes(self._filter, images, policy.root) if self._only is None else ()
        return (*named, *others, *unread, *skipped, *includes)

    @property
    def troubles(self) -> Mapping[str, VdifsError]:
        """The folders of which it cannot be told what they hold now, by PATH, "" for the source root, and why.

        What they held is still among the entries, with that as its problem. So are files beneath trusted directories
        that images name and that are not there any more.
        """
        return self._state.troubles

    @property
    def shut(self) -> frozenset[str]:
        """The folders below the source root that cannot be looked into, by PATH: also those that never could be."""
        return self._state.shut

    def scan(self) -> bool:
        """Search the source; return whether anything is different from before. Unchanged files are not read again.

        What cannot be told stays as it was: a source in trouble must not look like an empty one. Raises StorageError
        where nothing is known yet.
        """
        old = self._state
        begun = time.time_ns()
        found = self._search(old)
        if found.nothing is not None and not self._searched:
            raise found.nothing
        files, racy, unread, parts = self._sniffed(old, found, begun)
        empty = self._emptied(old, found, files)
        files |= as_before(old.files, empty)
        troubles = {**found.troubles, **empty}
        active = without_parts({path: entries[0] for path, (_, entries) in files.items() if entries})
        searched = self._only is None
        ancestors = Ancestors(self.policy, found.files, old.entries, troubles, searched=searched, reached=old.files)
        ancestors.add_to(active)
        troubles |= {path: lost for path, lost in ancestors.lost.items() if is_within(path, troubles) is None}
        entries, not_offered = self._with_snapshots(active, files)
        entries = with_writers(self.policy, self._locks, ancestors.named_alike(entries), old.entries)
        new = _State(
            files=files,
            entries=in_trouble(entries, troubles),
            racy=racy,
            above=permissions_above(self.policy, old.above, entries, troubles),
            missing=ancestors.missing,
            stated=ancestors.stated,
            not_offered=not_offered,
            folders=as_before(old.folders, found.kept) | dict(found.folders),
            troubles=troubles,
            emptied=frozenset(empty),
            shut=found.shut,
            unread=unread,
            parts=parts,
            passed=found.passed,
        )
        self.policy.settle(troubles)
        self.policy.name_alike(ancestors.aliases)
        self.policy.know_parents(ancestors.parents)
        self._searched = True
        if new.differs_from(old):
            self._state = new
            return True
        self._state = replace(new, entries=old.entries)
        return False

    def check_images(self) -> None:
        """Raise FormatError if the source is a single file and no image. A directory may be empty."""
        if self._only is not None and not self._state.entries:
            where, remedy = self.policy.display(self._only), f"name a {titles()} image, or a directory of them"
            raise FormatError("no image", where=where, remedy=remedy)

    def chain(self, path: str) -> tuple[Entry, ...]:
        """Return the entries of the chain of PATH, top first.

        Raises what opening would, as far as headers tell: StorageError for an unknown PATH, the problem of a member,
        ChainError for a missing one, a loop, or more than 256.
        """
        return tuple(self._state.listed(self.policy).chain(path))

    def overlays(self, path: str) -> tuple[str, ...]:
        """Return the PATHs of the images that have PATH as an ancestor in its own format, sorted.

        Images whose chain cannot be opened are among them as far as headers tell: they stay listed.
        """
        state = self._state
        if self._overlays is None or self._overlays[0] is not state:
            self._overlays = state, state.listed(self.policy).overlays()
        return self._overlays[1].get(path, ())

    def access(self, path: str) -> Access:
        """Return mode, owner and group for the files of PATH (docs/specification.md 5.6). Raises what `chain` does."""
        state = self._state
        return self._readers(state).of_chain(tuple(state.listed(self.policy).chain(path)))

    def folder_access(self, places: Iterable[tuple[str, int]]) -> Access:
        """Return mode, owner and group for a folder that stands for folders of the source (docs/specification.md 5.6).

        places: those, each as the PATH of an image somewhere in it and how many folders of PATH lead there; none for
        the root.
        """
        return self._readers(self._state).of_folders(places)

    def status_access(self) -> Access:
        """Return mode, owner and group for what tells of all images: who may list every folder that they lie in."""
        return self._readers(self._state).of_all()

    def generation(self, path: str) -> bytes:
        """Return the digest of what determines the contents of PATH: that of `described`."""
        return self.described(path).generation

    def described(self, path: str) -> Described:
        """Return what is known of the image PATH and its chain: of an unknown one, that there is none."""
        state = self._state
        try:
            chain = tuple(state.listed(self.policy).chain(path))
        except VdifsError as error:
            return of_broken(path, state.entries.get(path), error)
        return of_chain(path, chain, self._readers(state).of_chain(chain))

    def _readers(self, state: _State) -> Readers:
        return Readers(self.policy, state.entries, state.above)

    def _search(self, old: _State) -> Search:
        def known(path: str) -> Found | None:
            before = old.files.get(path)
            return before[0] if before and path not in old.racy else None

        return search(self.policy, self._only, self._filter, self._skip, known)

    def _sniffed(
        self, old: _State, found: Search, begun: int
    ) -> tuple[dict[str, _Sniffed], frozenset[str], dict[str, VdifsError], frozenset[str]]:
        """Return the files by PATH, each with its images, which of them are racy, what is unread, and the parts."""
        files = as_before(old.files, found.kept)
        unread = {path: error for path, error in old.unread.items() if path in files}
        racy, parts = set(old.racy & files.keys()), set(old.parts & files.keys())
        for each in found.files.values():
            known = old.files.get(each.path)
            if known is None or known[0] != each or each.path in old.racy or not self._holds(old, known):
                if each.fingerprint.was_racy(begun, time.time_ns()):
                    racy.add(each.path)
                before = () if known is None else known[1]
                now = sniff(self.policy, each, known=found.files, unread=unread, parts=parts)
                if now or self._only is None:  # of a single image that is none any more, see _emptied
                    now = still_known(before, each, now, unread.get(each.path), self.policy.display(each.path))
                known = each, now
                give_way()
            elif each.path in old.unread:
                unread[each.path] = old.unread[each.path]
            elif each.path in old.parts:
                parts.add(each.path)
            files[known[0].path] = known  # the same string in every scan: there may be very many
        return files, frozenset(racy), unread, frozenset(parts)

    def _emptied(self, old: _State, found: Search, files: Mapping[str, _Sniffed]) -> dict[str, VdifsError]:
        """Return the folders that another one has replaced which holds no image; see `emptied`."""
        if self._only is not None:
            gone = found.nothing is None and old.entries and not any(entries for _, entries in files.values())
            return {"": no_image(self.policy.display(self._only))} if gone else {}
        if found.folders == old.folders and not old.emptied:
            return {}
        held, holds = ([path for path, (_, entries) in each.items() if entries] for each in (old.files, files))
        return emptied(old.folders, found.folders, old.emptied, Images(held, holds), self.policy.root)

    def _with_snapshots(
        self, active: dict[str, Entry], files: Container[str]
    ) -> tuple[dict[str, Entry], tuple[Entry, ...]]:
        """Return the images and their snapshots, whose names give way to files, and the snapshots not offered."""
        snapshots, not_offered = self._snapshots.expand(active, files)
        entries = dict(active)
        for snapshot in snapshots:
            if entries.setdefault(snapshot.path, snapshot) is not snapshot:
                where = self.policy.display(snapshot.file_path)
                what = f"its snapshot would be called {printable(snapshot.path)}, which is taken"
                problem = ChainError(what, where=where, remedy="rename the file or the snapshot")
                not_offered.append(replace(snapshot, problem=problem))
        return entries, tuple(not_offered)

    def _holds(self, old: _State, known: _Sniffed) -> bool:
        """Tell whether what was made of a file that has not changed would be made of it again."""
        found, entries = known
        if entries:
            return has_same_links(self.policy, entries[0])
        unread = old.unread.get(found.path)
        return unread is None or not unread.passing  # a disk that failed may be well again


def _kind(not_offered: Entry) -> str:
    return "too-many-snapshots" if not_offered.snapshot is None else "name-taken"
