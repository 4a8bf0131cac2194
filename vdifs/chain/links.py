"""The rules of a chain: which image comes next, as what it is read, and where a chain ends. No file is opened here.

    resolve   find what is named -> is it new, and not too deep? -> read it in its format -> what does it name?

Where images are found is for a lookup: among files that are opened, or among those that a search listed.
"""

import errno
from collections.abc import Callable, Iterator, Sequence
from enum import Enum, auto
from typing import NamedTuple, Protocol, TypeVar, assert_never

from vdifs.chain.policy import MAX_DEPTH, Policy
from vdifs.errors import ChainError, PolicyError, UnsupportedError, VdifsError, quoted
from vdifs.formats.image_format import ImageFormat, Metadata, Parent
from vdifs.formats.registry import FORMATS, by_suffix, marked_names, names, no_image

__all__ = [
    "STATE_RAW",
    "Fault",
    "ImageRef",
    "Lookup",
    "backing_of",
    "cannot_be_opened",
    "data_files_of",
    "read_as",
    "resolve",
    "said_of_file",
]

STATE_RAW = "state it with 'qemu-img rebase -u -F raw'"

Identity = tuple[int, int]
"""Device and inode number: what tells a file, whatever its names."""
_File = TypeVar("_File")
_Link = TypeVar("_Link")


class ImageRef(NamedTuple):
    """An image as a user or an overlay names it.

    path: the PATH of its file. snapshot: one of its internal snapshots. stated: its format, None if it is not stated.
    parent: what an image says of it that knows it by identity; `path` is that of this image then, until it is found.
    """

    path: str
    snapshot: str | None = None
    stated: str | None = None
    parent: Parent | None = None

    @property
    def name(self) -> str:
        """The PATH of the image: that of its file and, behind an `@`, the snapshot."""
        return self.path if self.snapshot is None else f"{self.path}@{self.snapshot}"


class Fault(Enum):
    """Why a chain cannot be followed, though the file that comes next was found."""

    LOOP = auto()
    """The file is in the chain above already."""
    TOO_DEEP = auto()
    """There are MAX_DEPTH images above it."""
    OTHER_FORMAT = auto()
    """A format is stated for it that is not read."""
    NO_IMAGE = auto()
    """It bears the mark of no format, or not that of the one that is stated."""
    NOT_STATED = auto()
    """It bears no mark, and no format is stated: it is not taken for raw, or its content would choose its format."""


class Lookup(Protocol[_File, _Link]):
    """Where the images of a chain are found. above: the link that names an image, None for the first of a chain."""

    def find(self, ref: ImageRef, above: _Link | None, /) -> tuple[ImageRef, _File]:
        """Return the file that `ref` names, and its name: that of a parent is known when this is found.

        Raises VdifsError if there is none, or `above` may not name it.
        """

    def identity(self, file: _File, /) -> Identity:
        """Return what tells the file."""

    def read(self, ref: ImageRef, file: _File, above: _Link | None, /) -> _Link:
        """Return the link that the file is in the format that `read_as` gives. Raises VdifsError."""

    def backing(self, link: _Link, /) -> ImageRef | None:
        """Return the backing file that a link names, None if it has none. Raises PolicyError for an unsafe name."""

    def refusal(self, fault: Fault, ref: ImageRef, file: _File, above: _Link | None, /) -> VdifsError:
        """Return the error that says that the file is not read for `fault`."""


def resolve(ref: ImageRef, lookup: Lookup[_File, _Link]) -> Iterator[_Link]:
    """Yield the links of the chain of `ref`, MAX_DEPTH at most, top first, each before the next is looked for.

    Raises what `lookup` does, and its refusals.
    """
    seen: dict[Identity, None] = {}  # in order
    above: _Link | None = None
    while True:
        ref, file = lookup.find(ref, above)
        identity = lookup.identity(file)
        if identity in seen:
            looped = lookup.refusal(Fault.LOOP, ref, file, above)
            known = tuple(seen)
            looped.about = "loop", min(known[known.index(identity) :])  # the same from wherever it is entered
            raise looped
        if len(seen) == MAX_DEPTH:
            raise lookup.refusal(Fault.TOO_DEEP, ref, file, above)
        seen[identity] = None
        above = lookup.read(ref, file, above)
        yield above
        if (backing := lookup.backing(above)) is None:
            return
        ref = backing


def read_as(
    ref: ImageRef,
    probe: Callable[[], ImageFormat | None],
    refusal: Callable[[Fault], VdifsError],
    *,
    by_name: bool,
) -> ImageFormat:
    """Return the format that a file is read in.

    probe: returns the format whose mark it bears, None if it bears none; it is not asked where a format without a mark
    is stated. by_name: whether the file's own name may say that it is raw: if a user asks for it, not if an overlay
    names it. Raises what `refusal` returns for a file that is read in no format.
    """
    stated = None if ref.stated is None else FORMATS.get(ref.stated)
    if stated is None and ref.stated is not None:
        raise refusal(Fault.OTHER_FORMAT)
    if stated is not None and stated.unmarked:
        return stated
    found = probe()
    if found is not None and stated in (None, found):
        return found
    if by_name and found is None and (unmarked := by_suffix(ref.path)) is not None:
        return unmarked
    raise refusal(Fault.NO_IMAGE if by_name or ref.stated else Fault.NOT_STATED)


def backing_of(policy: Policy, path: str, metadata: Metadata) -> ImageRef | None:
    """Return the backing file that the image PATH names, None if it has none. Raises PolicyError."""
    if metadata.parent is not None:
        return ImageRef(path, stated=metadata.parent.format, parent=metadata.parent)
    if metadata.backing is None:
        return None
    return ImageRef(policy.resolve(path, metadata.backing.name), stated=metadata.backing.format)


def data_files_of(policy: Policy, path: str, metadata: Metadata) -> list[str]:
    """Return the PATHs of the external files with guest data that the image PATH names. Raises PolicyError."""
    return [_first_that_is_there(policy, path, names) for names in metadata.data_names()]


def _first_that_is_there(policy: Policy, path: str, names: Sequence[str]) -> str:
    """Return the PATH of the first of the names that leads to something, that of the first of all if none does."""
    first, *others = (policy.resolve(path, name) for name in names)
    return next(filter(policy.is_there, [first, *others]), first) if others else first


def said_of_file(name: str, fault: Fault, stated: str | None) -> VdifsError:
    """Return the error for the file `name`, which was opened, and for which its overlay states a format or None."""
    match fault:
        case Fault.LOOP:
            remedy = "rebase one of the images that name it"
            return ChainError("it is in its own chain", where=name, remedy=remedy, errno=errno.ELOOP)
        case Fault.TOO_DEEP:
            what = f"the chain above it has {MAX_DEPTH} images already"
            return ChainError(what, where=name, remedy="commit some", errno=errno.ELOOP)
        case Fault.OTHER_FORMAT:
            what = f"its overlay states the format {quoted(stated or '')}: only {names()} are read"
            return UnsupportedError(what, where=name)
        case Fault.NO_IMAGE:
            return no_image(name)
        case Fault.NOT_STATED:
            return PolicyError(
                f"its overlay states no format and it is no {marked_names()} image",
                where=name,
                remedy=f"it is not taken for raw unless stated; {STATE_RAW}",
            )
        case _:
            assert_never(fault)


def cannot_be_opened(namer: str, role: str, error: VdifsError) -> ChainError:
    """Return what is wrong with the image `namer` if the file that it names as its `role` fails with `error`."""
    what = f"its {role} cannot be opened: {error.finding}"
    code = error.errno if error.errno in (errno.EACCES, errno.ELOOP) else errno.EIO
    about = "opening", error.subject  # whichever images name that file
    failed = ChainError(what, where=namer, remedy=error.remedy, errno=code, about=about)
    failed.passing, failed.unreachable = error.passing, error.unreachable
    return failed
