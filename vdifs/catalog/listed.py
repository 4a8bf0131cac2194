"""The chains of listed images, as far as their headers tell: looked up among the entries of a search. Opens nothing."""

import errno
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import assert_never

from vdifs.catalog.entry import Entry, unmarked
from vdifs.chain.links import STATE_RAW, Fault, ImageRef, cannot_be_opened, read_as, resolve
from vdifs.chain.ownership import check_owner, may_name
from vdifs.chain.policy import Policy
from vdifs.errors import (
    ChainError,
    FormatError,
    PolicyError,
    StorageError,
    UnsupportedError,
    VdifsError,
    printable,
    quoted,
)
from vdifs.formats.registry import FORMATS, marked_names

__all__ = ["Listed"]

_THERE_IS_NONE = "restore it, or correct the name"
_REBASE = "rebase one of the images above it"


@dataclass(frozen=True, slots=True)
class Listed:
    """What a search listed, as the lookup of a chain.

    entries: by PATH. missing: why those cannot be had that are named and not listed. stated: see Ancestors.
    despite_problems: whether chains go on below an image that has a problem, or may not use its backing file.
    """

    policy: Policy
    entries: Mapping[str, Entry]
    missing: Mapping[str, VdifsError]
    stated: Mapping[tuple[str, str], Entry] = field(default_factory=dict)
    despite_problems: bool = False

    def chain(self, path: str) -> Iterator[Entry]:
        """Yield the entries of the chain of PATH, top first, each in the format that it is read in.

        Raises what opening would, as far as headers tell: StorageError for an unknown PATH, the problem of a member,
        ChainError for a missing one, a loop, or more than 256.
        """
        if (entry := self.entries.get(path)) is None:
            raise StorageError("no such image", where=path, remedy=_THERE_IS_NONE, errno=errno.ENOENT)
        return resolve(ImageRef(entry.file_path, entry.snapshot, entry.format), self)

    def overlays(self) -> dict[str, tuple[str, ...]]:
        """Return for each PATH those of the images that have it as an ancestor in its own format, sorted."""
        despite_problems = Listed(self.policy, self.entries, self.missing, self.stated, despite_problems=True)
        found: dict[str, list[str]] = {}
        for path in sorted(self.entries):
            for ancestor in despite_problems._ancestors(path):
                if self.entries[ancestor.path].format == ancestor.format:
                    found.setdefault(ancestor.path, []).append(path)
        return {path: tuple(overlays) for path, overlays in found.items()}

    def _ancestors(self, path: str) -> Iterator[Entry]:
        """Yield the entries below PATH in its chain, down to where it breaks or comes round again."""
        try:
            yield from islice(self.chain(path), 1, None)
        except VdifsError:
            return

    def find(self, ref: ImageRef, above: Entry | None) -> tuple[ImageRef, Entry]:
        """Return the entry of an image. Raises PolicyError, ChainError if `above` names what is not there."""
        if above is None:
            return ref, self.entries[ref.name]
        if (entry := self.entries.get(ref.path)) is None:
            gone = StorageError("it is not there", where=ref.path, remedy=_THERE_IS_NONE, errno=errno.ENOENT)
            raise cannot_be_opened(self._where(above), "backing file", self.missing.get(ref.path) or gone)
        # Asked of every link of every image: names are made if need be.
        if not self.despite_problems and not may_name(above.uid, entry.permissions):
            namer, named = self.policy.display(above.file_path), self.policy.display(ref.path)
            check_owner(namer, above.uid, "backing file", named, entry.permissions)
        return ref, entry

    def identity(self, entry: Entry) -> tuple[int, int]:
        """Return the device and the inode number of the image's file."""
        return entry.fingerprint[:2]

    def read(self, ref: ImageRef, entry: Entry, above: Entry | None) -> Entry:
        """Return the entry in the format that it is read in. Raises its problem."""
        if above is not None:  # the format of the first was found out when it was listed
            as_stated = self.stated.get((entry.path, ref.stated or ""))
            found = FORMATS[entry.format if as_stated is None else as_stated.format]
            wanted = read_as(
                ref,
                lambda: None if found.unmarked else found,
                lambda fault: self.refusal(fault, ref, entry, above),
                by_name=False,
            )
            if wanted is not found:
                entry = unmarked(entry, wanted)
            elif as_stated is not None:
                its_own = None if isinstance(entry.problem, FormatError) else entry.problem
                entry = replace(as_stated, live=entry.live, problem=its_own or as_stated.problem)
        if entry.problem is not None and not self.despite_problems:
            raise entry.problem.bare()
        return entry

    def backing(self, entry: Entry) -> ImageRef | None:
        """Return the backing file that an entry names."""
        return None if entry.backing_path is None else ImageRef(entry.backing_path, stated=entry.backing_format)

    def refusal(self, fault: Fault, ref: ImageRef, entry: Entry, above: Entry | None) -> VdifsError:
        """Return the error for an entry, said of the overlay if that is what states too little, or too much."""
        where = self._where(entry if above is None or fault in (Fault.LOOP, Fault.TOO_DEEP) else above)
        match fault:
            case Fault.LOOP:
                return ChainError("it is in its own chain", where=where, remedy=_REBASE, errno=errno.ELOOP)
            case Fault.TOO_DEEP:
                return ChainError("the chain above it is too long", where=where, remedy=_REBASE, errno=errno.ELOOP)
            case Fault.OTHER_FORMAT:
                what = f"it states the format {quoted(ref.stated or '')} for its backing file: not supported"
                return UnsupportedError(what, where=where)
            case Fault.NO_IMAGE if not FORMATS[entry.format].unmarked:
                is_a = f"its backing file {printable(ref.path)} is a {FORMATS[entry.format].title} image"
                what = f"{is_a}, and it states the format {quoted(ref.stated or '')} for it"
                return FormatError(what, where=where, remedy="state its format with 'qemu-img rebase -u -F'")
            case Fault.NO_IMAGE | Fault.NOT_STATED:
                what = f"its backing file {printable(ref.path)} is no {marked_names()} image and not stated to be raw"
                return PolicyError(what, where=where, remedy=STATE_RAW)
            case _:
                assert_never(fault)

    def _where(self, entry: Entry) -> str:
        return self.policy.display(entry.path)
