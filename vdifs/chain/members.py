"""Opening the files of a chain under a policy, top first, with their data files and snapshots."""

import errno
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from vdifs.chain.access import Permission
from vdifs.chain.links import (
    Fault,
    ImageRef,
    backing_of,
    cannot_be_opened,
    data_file_of,
    read_as,
    resolve,
    said_of_file,
)
from vdifs.chain.ownership import check_owner, folders_below_root
from vdifs.chain.policy import Policy
from vdifs.errors import ChainError, FormatError, VdifsError
from vdifs.formats.layer import Layer
from vdifs.formats.qcow2.header import Header, Incompatible
from vdifs.formats.qcow2.layer import L1Place, Qcow2Layer
from vdifs.formats.qcow2.metadata import find_snapshot, read_header, read_snapshots
from vdifs.formats.qcow2.snapshot_places import check_snapshots, snapshot_places
from vdifs.formats.raw import RawLayer
from vdifs.storage.host_file import HostFile

__all__ = [
    "Member",
    "damage_only_if_unchanged",
    "each_member",
    "open_image_file",
    "open_members",
]


@dataclass(frozen=True, slots=True)
class Member:
    """One image of a chain. header: None for a raw file. data: the file that holds the guest data.

    snapshot: the label of an internal snapshot, with which `path` then ends.
    """

    path: str
    file: HostFile
    data: HostFile
    header: Header | None
    layer: Layer
    snapshot: str | None = None

    @property
    def file_path(self) -> str:
        """The PATH of the file: `path` without the name of the snapshot."""
        return self.path if self.snapshot is None else self.path.removesuffix(f"@{self.snapshot}")

    @property
    def format(self) -> str:
        """The format's name as QEMU writes it."""
        return "raw" if self.header is None else "qcow2"


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


@dataclass(frozen=True, slots=True)
class _Opening:
    """The files beneath the directories of `policy`, opened, as the lookup of a chain."""

    policy: Policy
    opened: ExitStack

    def find(self, ref: ImageRef, above: Member | None) -> HostFile:
        """Open the file of an image."""
        return _open(self.policy, ref.path, None if above is None else above.file, "backing file", self.opened)

    def identity(self, file: HostFile) -> tuple[int, int]:
        """Return the device and the inode number of a file."""
        return file.fingerprint[:2]

    def read(self, ref: ImageRef, file: HostFile, above: Member | None) -> Member:
        """Return the member that a file is, with its header read and its data file opened."""
        with damage_only_if_unchanged(file):
            header = read_as(
                ref,
                lambda: read_header(file),
                lambda fault: self.refusal(fault, ref, file, above),
                by_name=above is None,
            )
        if header is None:
            if ref.snapshot is not None:
                raise ChainError(f"{file.name}: a raw image has no snapshots", errno=errno.ENOENT)
            return Member(ref.path, file, file, None, RawLayer(file))
        with damage_only_if_unchanged(file):
            return _member(self.policy, ref.path, file, header, ref.snapshot, self.opened)

    def backing(self, member: Member) -> ImageRef | None:
        """Return the backing file that a member names, by the PATH that it is known by."""
        if member.header is None or (ref := backing_of(self.policy, member.file_path, member.header)) is None:
            return None
        return ref._replace(path=self.policy.usual(ref.path))

    def refusal(self, fault: Fault, ref: ImageRef, file: HostFile, _above: Member | None) -> VdifsError:
        """Return the error for a file, said of it by its own name."""
        return said_of_file(file.name, fault, ref.stated)


@contextmanager
def damage_only_if_unchanged(*files: HostFile) -> Iterator[None]:
    """Raise SourceChangedError instead of FormatError if a file was written: torn tables are no damage."""
    try:
        yield
    except FormatError:
        for file in files:
            file.check_unchanged()
        raise


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
    if namer is not None:
        own, owner = Permission.of(file.fd, file.status), namer.status.st_uid
        check_owner(namer.name, owner, role, file.name, [own, *folders_below_root(policy, path)])
    if policy.live == "refuse":
        file.check_no_writer()
    return file


def _member(
    policy: Policy, path: str, file: HostFile, header: Header, snapshot: str | None, opened: ExitStack
) -> Member:
    """Return the member for the active state or, if asked for, for a snapshot, whose name its path gets."""
    check_snapshots(file, header)
    data = _data_file(policy, path, file, header, opened)
    if snapshot is None:
        place: L1Place | None = L1Place(header.l1_table_offset, header.l1_size, header.virtual_size)
    elif (place := snapshot_places(file, header).find(snapshot)) is None:
        snapshot, _ = find_snapshot(file, read_snapshots(file, header), snapshot)
        place = snapshot_places(file, header).find(snapshot)
    assert place is not None, "every label has its place"
    path = path if snapshot is None else f"{path}@{snapshot}"
    return Member(path, file, data, header, Qcow2Layer(file, data, header, place), snapshot)


def _data_file(policy: Policy, path: str, file: HostFile, header: Header, opened: ExitStack) -> HostFile:
    if not header.incompatible_features & Incompatible.DATA_FILE:
        return file
    if (data := data_file_of(policy, path, header)) is None:
        raise FormatError(f"{file.name}: it keeps its data in an external data file, but does not name one")
    return _open(policy, data, file, "data file", opened)
