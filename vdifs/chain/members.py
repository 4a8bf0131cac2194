"""Opening the files of a chain under a policy, top first, with their data files and snapshots."""

import errno
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from vdifs.chain.access import Permission
from vdifs.chain.ownership import check_owner, folders_below_root
from vdifs.chain.policy import Policy
from vdifs.errors import (
    ChainError,
    FormatError,
    PolicyError,
    UnsupportedError,
    VdifsError,
    printable,
    quoted,
)
from vdifs.formats.layer import Layer
from vdifs.formats.qcow2.bitmaps import Bitmap, parse_bitmaps
from vdifs.formats.qcow2.extensions import has_end_mark
from vdifs.formats.qcow2.geometry import MAX_CLUSTER_BITS
from vdifs.formats.qcow2.header import MAGIC, NOT_QCOW2, Header, Incompatible
from vdifs.formats.qcow2.layer import L1Place, Qcow2Layer
from vdifs.formats.qcow2.snapshot_places import check_snapshots, read_snapshots, snapshot_places
from vdifs.formats.qcow2.snapshots import Snapshot, snapshot_labels
from vdifs.formats.raw import RawLayer
from vdifs.storage.host_file import HostFile

__all__ = [
    "MAX_DEPTH",
    "RAW_SUFFIXES",
    "Member",
    "cannot_be_opened",
    "damage_only_if_unchanged",
    "each_member",
    "find_snapshot",
    "loop_error",
    "open_image_file",
    "open_members",
    "read_bitmaps",
    "read_header",
    "read_snapshots",
]

MAX_DEPTH = 256
RAW_SUFFIXES = (".raw", ".img")
_HEAD = 4096


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


def open_members(
    policy: Policy, path: str, snapshot: str | None, opened: ExitStack, stated: str | None = None
) -> tuple[Member, ...]:
    """Open the image PATH, or its internal `snapshot`, and its backing files, top first: all of `each_member`."""
    return tuple(each_member(policy, path, snapshot, opened, stated))


def each_member(
    policy: Policy, path: str, snapshot: str | None, opened: ExitStack, stated: str | None = None
) -> Iterator[Member]:
    """Yield the image PATH, or its internal `snapshot`, and its backing files; `opened` gets what closes them.

    stated: the format of PATH, None where it is to be found out.
    Raises FormatError, UnsupportedError, PolicyError, StorageError, InUseError for a file that is being written unless
    the policy allows it, and ChainError for a chain with a missing member, one that contains a file twice, or one of
    more than 256 files.
    """
    seen: dict[tuple[int, int], None] = {}  # in order
    file: HostFile | None = None
    while True:
        file = _open(policy, path, file, "backing file", opened)
        if file.fingerprint[:2] in seen:
            what = "it is in its own chain: rebase one of the images that name it"
            raise loop_error(f"{file.name}: {what}", tuple(seen), file.fingerprint[:2])
        if len(seen) == MAX_DEPTH:
            raise ChainError(
                f"{file.name}: the chain above it has {MAX_DEPTH} images already: commit some", errno=errno.ELOOP
            )
        with damage_only_if_unchanged(file):
            header = _header(path, file, stated, top=not seen)
        if header is None:
            if snapshot is not None:
                raise ChainError(f"{file.name}: a raw image has no snapshots", errno=errno.ENOENT)
            yield Member(path, file, file, None, RawLayer(file))
            return
        with damage_only_if_unchanged(file):
            member = _member(policy, path, file, header, snapshot, opened)
        yield member
        if header.backing_file is None:
            return
        seen[file.fingerprint[:2]] = None
        snapshot = None
        path, stated = policy.usual(policy.resolve(path, header.backing_file)), header.backing_format


@contextmanager
def damage_only_if_unchanged(*files: HostFile) -> Iterator[None]:
    """Raise SourceChangedError instead of FormatError if a file was written: torn tables are no damage."""
    try:
        yield
    except FormatError:
        for file in files:
            file.check_unchanged()
        raise


def read_header(file: HostFile, *, corrupt_too: bool = False) -> Header | None:
    """Return the header of `file`, None if it does not start with the qcow2 magic.

    Raises what Header.parse does, with the file's name in front.
    """
    head = file.read_at(0, min(_HEAD, file.size))
    if head[:4] != MAGIC:
        return None
    try:
        bits = int.from_bytes(head[20:24], "big")
        if len(head) == _HEAD and 12 < bits <= MAX_CLUSTER_BITS and _reaches_beyond(head):
            head = file.read_at(0, min(1 << bits, file.size))
        return Header.parse(head, corrupt_too=corrupt_too)
    except FormatError as error:
        raise type(error)(f"{file.name}: {error.finding}") from error


def _reaches_beyond(head: bytes) -> bool:
    """Tell whether header extensions or the backing file name may lie beyond the first 4 KiB."""
    name_end = int.from_bytes(head[8:16], "big") + int.from_bytes(head[16:20], "big")
    length = int.from_bytes(head[100:104], "big") if head[7] >= 3 else 72
    return name_end > len(head) or not has_end_mark(head[length:])


def read_bitmaps(file: HostFile, header: Header) -> tuple[Bitmap, ...]:
    """Return the dirty bitmaps of `file`. Raises FormatError with the file's name in front."""
    try:
        return parse_bitmaps(header, file.read_at)
    except FormatError as error:
        raise FormatError(f"{file.name}: {error.finding}") from error


def find_snapshot(file: HostFile, snapshots: tuple[Snapshot, ...], wanted: str) -> tuple[str, Snapshot]:
    """Return label and entry of the snapshot whose label, else name, else ID, is `wanted`. Raises ChainError."""
    labels = snapshot_labels(snapshots)
    for names in (labels, [s.name for s in snapshots], [s.id for s in snapshots]):
        if wanted in names:
            index = list(names).index(wanted)
            return labels[index], snapshots[index]
    listed = ", ".join(printable(label) for label in labels) or "none"
    raise ChainError(
        f"{file.name}: it has no snapshot {quoted(wanted)}: choose one of its snapshots ({listed})",
        errno=errno.ENOENT,
    )


def cannot_be_opened(namer: str, role: str, error: VdifsError) -> PolicyError | ChainError:
    """Return what is wrong with the image `namer` if the file that it names as its `role` fails with `error`."""
    kind = PolicyError if isinstance(error, PolicyError) else ChainError
    code = error.errno if error.errno in (errno.EACCES, errno.ELOOP) else errno.EIO
    failed = kind(f"{namer}: its {role} cannot be opened: {error}", errno=code)
    failed.about = "opening", error.subject  # whichever images name that file
    failed.passing, failed.unreachable = error.passing, error.unreachable
    return failed


def loop_error(message: str, seen: tuple[tuple[int, int], ...], again: tuple[int, int]) -> ChainError:
    """Return the error for a chain that comes to `again`, one of the files that it has `seen`, in that order."""
    error = ChainError(message, errno=errno.ELOOP)
    error.about = "loop", min(seen[seen.index(again) :])  # the same from wherever it is entered
    return error


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


def _header(path: str, file: HostFile, stated: str | None, *, top: bool) -> Header | None:
    """Return the header of a qcow2, None for a file to be read as raw."""
    if stated == "raw":
        return None
    if stated not in (None, "qcow2"):
        raise UnsupportedError(
            f"{file.name}: its overlay states the format {quoted(stated)}: only qcow2 and raw are read"
        )
    header = read_header(file)
    if header is not None or (top and path.endswith(RAW_SUFFIXES)):
        return header
    if top or stated == "qcow2":
        raise FormatError(f"{file.name}: {NOT_QCOW2}")
    raise PolicyError(
        f"{file.name}: its overlay states no format and it is no qcow2 image: it is not taken for raw unless stated; "
        "state it with 'qemu-img rebase -u -F raw'"
    )


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
    if not header.data_file:
        raise FormatError(f"{file.name}: it keeps its data in an external data file, but does not name one")
    return _open(policy, policy.resolve(path, header.data_file), file, "data file", opened)
