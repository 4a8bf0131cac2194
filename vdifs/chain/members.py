"""Opening the files of a chain under a policy, top first, with their data files and snapshots."""

import errno
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from vdifs.chain.access import Permission
from vdifs.chain.links import (
    Fault,
    ImageRef,
    backing_of,
    cannot_be_opened,
    data_files_of,
    read_as,
    resolve,
    said_of_file,
)
from vdifs.chain.nearby import files_of_source
from vdifs.chain.ownership import check_owner, folders_below_root
from vdifs.chain.parents import Fit, find_parent, fits, is_known_by_identity
from vdifs.chain.policy import Policy
from vdifs.errors import ChainError, FormatError, VdifsError
from vdifs.formats.image_format import Front, Metadata, Parent
from vdifs.formats.registry import FORMATS, probed
from vdifs.storage.host_file import HostFile

if TYPE_CHECKING:
    from vdifs.formats.layer import Layer  # and with it numpy, which `vdifs info` does without

__all__ = [
    "Member",
    "OpenedFile",
    "damage_only_if_unchanged",
    "each_member",
    "open_image_file",
    "open_members",
    "open_parent",
]


@dataclass(frozen=True, slots=True)
class Member:
    """One image of a chain. data: the files that hold the guest data, `file` itself or others, at least one.

    snapshot: the label of an internal snapshot, with which `path` then ends.
    """

    path: str
    file: HostFile
    data: tuple[HostFile, ...]
    metadata: Metadata
    layer: "Layer"
    snapshot: str | None = None

    @property
    def file_path(self) -> str:
        """The PATH of the file: `path` without the name of the snapshot."""
        return self.path if self.snapshot is None else self.path.removesuffix(f"@{self.snapshot}")

    @property
    def format(self) -> str:
        """The format's name as QEMU writes it."""
        return self.metadata.format.name


def open_members(policy: Policy, ref: ImageRef, opened: ExitStack) -> tuple[Member, ...]:
    """Open an image and its backing files, top first: all of `each_member`."""
    return tuple(each_member(policy, ref, opened))


def each_member(policy: Policy, ref: ImageRef, opened: ExitStack) -> Iterator[Member]:
    """Yield the image `ref`, or its internal snapshot, and its backing files; `opened` gets what closes them.

    Raises FormatError, UnsupportedError, PolicyError, StorageError, InUseError for a file that is being written unless
    the policy allows it, and ChainError for a chain with a missing member, one that contains a file twice, or one of
    more than 256 files.
    """
    return resolve(ref, _Opening(policy, opened))


class OpenedFile(NamedTuple):
    """A file of a chain, open. metadata: what was read of it already, in looking whether it is a parent."""

    front: Front
    metadata: Metadata | None = None


@dataclass(frozen=True, slots=True)
class _Opening:
    """The files beneath the directories of `policy`, opened, as the lookup of a chain."""

    policy: Policy
    opened: ExitStack

    def find(self, ref: ImageRef, above: Member | None) -> tuple[ImageRef, OpenedFile]:
        """Open the file of an image."""
        if ref.parent is None or above is None:
            namer = None if above is None else above.file
            return ref, OpenedFile(Front(_open(self.policy, ref.path, namer, "backing file", self.opened)))
        path, opened = open_parent(self.policy, ref.path, ref.parent, self.opened)
        path = self.policy.usual(path)
        _check_may_be_used(self.policy, path, opened.front.file, above.file, "parent")
        return ref._replace(path=path, parent=None), opened

    def identity(self, opened: OpenedFile) -> tuple[int, int]:
        """Return the device and the inode number of a file."""
        return opened.front.file.fingerprint[:2]

    def read(self, ref: ImageRef, opened: OpenedFile, above: Member | None) -> Member:
        """Return the member that a file is, read in its format, with its data files opened."""
        front, known = opened
        file = front.file
        with damage_only_if_unchanged(file):
            image_format = read_as(
                ref,
                lambda: probed(front, ref.stated),
                lambda fault: self.refusal(fault, ref, opened, above),
                by_name=above is None,
            )
            metadata = known if known is not None and known.format is image_format else image_format.read(front)
        if above is not None and above.metadata.parent is not None:
            metadata = metadata.as_parent()
        with damage_only_if_unchanged(file):
            return _member(self.policy, ref, file, metadata, self.opened)

    def backing(self, member: Member) -> ImageRef | None:
        """Return the backing file that a member names, by the PATH that it is known by."""
        if (ref := backing_of(self.policy, member.file_path, member.metadata)) is None:
            return None
        return ref._replace(path=self.policy.usual(ref.path))

    def refusal(self, fault: Fault, ref: ImageRef, opened: OpenedFile, _above: Member | None) -> VdifsError:
        """Return the error for a file, said of it by its own name."""
        return said_of_file(opened.front.file.name, fault, ref.stated)


@contextmanager
def damage_only_if_unchanged(*files: HostFile) -> Iterator[None]:
    """Raise SourceChangedError instead of FormatError if a file was written: torn tables are no damage."""
    try:
        yield
    except FormatError:
        for file in files:
            file.check_unchanged()
        raise


def open_parent(policy: Policy, path: str, parent: Parent, opened: ExitStack) -> tuple[str, OpenedFile]:
    """Open the parent of the image PATH, which knows it by identity; return its PATH too.

    Raises ChainError if no file is it.
    """

    def look(candidate: str) -> Fit[OpenedFile] | None:
        with ExitStack() as unless_it_fits:
            file = policy.open(candidate)
            unless_it_fits.callback(file.close)
            file.watch(strict=policy.live == "refuse")
            file.settle()
            front = Front(file)
            metadata = _read_alike(front, parent) if is_known_by_identity(parent) else None
            identities = frozenset[str]() if metadata is None else metadata.identities
            if not fits(parent, identities):
                return None
            unless_it_fits.pop_all()
        return Fit(file.fingerprint[:2], identities, OpenedFile(front, metadata))

    def among() -> Sequence[str]:
        known = policy.known_parent(path)
        return files_of_source(policy) if known is None else [known]

    path_of, file = find_parent(policy, path, parent, look, among=among, beside=policy.names_beside)
    opened.callback(file.front.file.close)
    return path_of, file


def _read_alike(front: Front, parent: Parent) -> Metadata | None:
    """Return what stands in the file that may be `parent`, None if it is in another format."""
    wanted = FORMATS[parent.format]
    with damage_only_if_unchanged(front.file):
        return wanted.read(front) if wanted.probe(front) else None


def open_image_file(policy: Policy, path: str, opened: ExitStack) -> HostFile:
    """Open the file of an image as `each_member` does, and nothing else. Raises what that does."""
    return _open(policy, path, None, "", opened)


def _open(policy: Policy, path: str, namer: HostFile | None, role: str, opened: ExitStack) -> HostFile:
    """Open a file of the chain; namer: the image that names it, None for the image that was asked for."""
    try:
        file = policy.open(path)
    except VdifsError as error:
        if namer is None:
            raise
        raise cannot_be_opened(namer.name, role, error) from error
    opened.callback(file.close)
    file.watch(strict=policy.live == "refuse")
    file.settle()
    _check_may_be_used(policy, path, file, namer, role)
    return file


def _check_may_be_used(policy: Policy, path: str, file: HostFile, namer: HostFile | None, role: str) -> None:
    """Raise PolicyError if `namer` may not use the file PATH as its `role`, InUseError if it is being written."""
    if namer is not None:
        own, owner = Permission.of(file.fd, file.status), namer.status.st_uid
        check_owner(namer.name, owner, role, file.name, [own, *folders_below_root(policy, path)])
    if policy.live == "refuse":
        file.check_no_writer()


def _member(policy: Policy, ref: ImageRef, file: HostFile, metadata: Metadata, opened: ExitStack) -> Member:
    """Return the member for the active state or, if asked for, for a snapshot, whose name its path gets."""
    if ref.snapshot is not None and metadata.format.unmarked:
        what, remedy = f"a {metadata.format.name} image has no snapshots", "name the image itself"
        raise ChainError(what, where=file.name, remedy=remedy, errno=errno.ENOENT)
    metadata.check(file)
    names = data_files_of(policy, ref.path, metadata)
    data = tuple(_open(policy, name, file, "data file", opened) for name in names) or (file,)
    label = None if ref.snapshot is None else metadata.label_of(file, ref.snapshot)
    path = ref.path if label is None else f"{ref.path}@{label}"
    return Member(path, file, data, metadata, metadata.layer(file, data, label), label)
