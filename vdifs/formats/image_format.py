"""What a format of disk images is to the rest of vdifs, which knows no format by name.

    file -> Front -> a format's `probe` -> its `read` -> Metadata: a value, and what opens, checks and audits the image

A new format is a folder beside this file: an `ImageFormat`, a `Metadata` of its own where it has more to tell than
virtual size and parents, and a layer, and one line in `vdifs.formats.registry`.
"""

import errno
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

from vdifs.errors import ChainError, quoted
from vdifs.formats.problems import FileAudit, SnapshotStates
from vdifs.storage.host_file import HostFile

if TYPE_CHECKING:
    from vdifs.formats.layer import Layer  # and with it numpy, which `vdifs info` does without

__all__ = [
    "BackingName",
    "Description",
    "Front",
    "HasParts",
    "ImageFormat",
    "MarkedAtEnd",
    "Metadata",
    "Parent",
    "Snapshot",
]

_HEAD = 4096
_FOOT = 512


class Front:
    """What a format is recognized by: the first bytes of an open file, read once, when asked for."""

    def __init__(self, file: HostFile) -> None:
        """Read nothing yet."""
        self.file = file

    @cached_property
    def head(self) -> bytes:
        """The first 4,096 bytes, fewer of a shorter file. Raises StorageError."""
        return self.file.read_at(0, min(_HEAD, self.file.size))

    @cached_property
    def foot(self) -> bytes:
        """The last 512 bytes, fewer of a shorter file. Raises StorageError."""
        size = min(_FOOT, self.file.size)
        return self.file.read_at(self.file.size - size, size)


class Parent(NamedTuple):
    """The image below one of a format whose images know one another by identity, not by name alone.

    names: where it may be, each relative to the folder of the image that names it, with `/` between components, in the
    order in which they are tried: the first file that has one of `identities` is it. None where the format has no
    names: then it is looked for among all images of the source. identities: as in `Metadata.identities`. said: how the
    image names it, for a message. format: that of the image itself, or "raw" where the image states a raw parent,
    which has no identity. tells_state: whether an identity is of one state of an image alone; if not, files that have
    it and otherwise other identities are different disks, and nothing tells which of them is the parent. near_miss:
    says of the identities of another image, in how far they are nearly the wanted ones; None where they are not.
    """

    names: tuple[str, ...]
    identities: frozenset[str]
    said: str
    format: str
    tells_state: bool = True
    near_miss: "Callable[[frozenset[str], frozenset[str]], str | None] | None" = None


class BackingName(NamedTuple):
    """The backing file as an image names it. format: that it states for it, None if it states none."""

    name: str
    format: str | None


@dataclass(frozen=True, slots=True)
class Description:
    """What is told of an image besides names and lengths: of a format that has no more than this to tell.

    virtual_size: bytes of guest disk in the state that is described. label: of the snapshot that this is.
    """

    virtual_size: int
    label: str | None = None

    def warnings(self) -> list[str]:
        """Return what its user should know."""
        return []

    def fields(self, full_backing_name: str | None) -> dict[str, object]:  # noqa: ARG002 - headers say it
        """Return a name and a value for each line. full_backing_name: of the backing file, as seen from here."""
        return {}

    def as_qemu(self) -> dict[str, Any]:
        """Return what `qemu-img info --output=json` tells of this format besides."""
        return {}

    def all_fields(self) -> dict[str, Any] | None:
        """Return every field of the header, as JSON, None if there is no header."""
        return None


class Snapshot(Protocol):
    """An internal snapshot, whatever a format keeps of it besides."""

    @property
    def id(self) -> str:
        """Its ID."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def date_sec(self) -> int:
        """When it was taken: seconds since 1970."""


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a file says of the image in it, but for its tables: of a format that has no more than this to tell.

    virtual_size: bytes of guest disk. cluster_bits: the default cluster size of what is made of it, as a power of two.
    data_files: the names of the external files that hold the guest data; empty where the file itself does.
    snapshot_count: how many internal snapshots it claims. hidden: XCP-ng's mark. parent: the image below, where the
    format knows it by identity; `backing` is None then. identities: by which children of this image may name it, each
    in the form in which they do: empty where the format has none.
    """

    format: "ImageFormat"
    virtual_size: int
    cluster_bits: int = 16
    backing: BackingName | None = None
    data_files: tuple[str, ...] = ()
    snapshot_count: int = 0
    hidden: bool = False
    parent: Parent | None = None
    identities: frozenset[str] = frozenset()

    def check(self, file: HostFile) -> None:
        """Raise FormatError for what keeps every state of the image from being opened, and its tables alone tell."""

    def layer(self, file: HostFile, data: Sequence[HostFile], snapshot: str | None) -> "Layer":
        """Return the layer of the active state, or of the snapshot with that label.

        data: the open `data_files`, `file` itself where there are none. Raises FormatError, StorageError.
        """
        raise NotImplementedError

    def data_names(self) -> Sequence[tuple[str, ...]]:
        """Return for each of `data_files` how its name may be spelled: the first that is there is meant."""
        return [(name,) for name in self.data_files]

    def as_parent(self) -> "Metadata":
        """Return what an image of this format that names this one as its parent sees of it: perhaps another size."""
        return self

    @property
    def size_alone(self) -> int:
        """Bytes of guest disk where the image is no parent: `virtual_size`, also of what `as_parent` returns."""
        return self.virtual_size

    def label_of(self, file: HostFile, wanted: str) -> str:
        """Return the label of the snapshot whose label, else name, else ID, is `wanted`. Raises ChainError."""
        what, remedy = f"it has no snapshot {quoted(wanted)}", "choose one of its snapshots (none)"
        raise ChainError(what, where=file.name, remedy=remedy, errno=errno.ENOENT)

    def labelled_snapshots(self, _file: HostFile) -> tuple[tuple[str, Snapshot], ...]:
        """Return the internal snapshots, each with its label. Raises FormatError, StorageError."""
        return ()

    def labels_and_sizes(self, _file: HostFile) -> tuple[tuple[str, int | None], ...]:
        """Return the label of each snapshot, and the size of its disk where it records it. Raises the same."""
        return ()

    def describe(self, file: HostFile, snapshot: str | None) -> Description:
        """Return what is told of the active state, or of the snapshot whose label, name or ID is given.

        Reads no tables. Raises ChainError, FormatError, StorageError.
        """
        return Description(self.virtual_size, None if snapshot is None else self.label_of(file, snapshot))

    def snapshot_states(self, _file: HostFile) -> SnapshotStates:
        """Return the states that the snapshots are. Raises the same."""
        return _NoStates()

    def audit(self, _file: HostFile, _path: str, *, has_overlay: bool) -> FileAudit:  # noqa: ARG002 - those that have tables use it
        """Return what is wrong with the file PATH in all of its states. has_overlay: an image of its chain is above."""
        return FileAudit()


class _NoStates:
    """Of a file without internal snapshots."""

    def find(self, _label: str) -> None:
        """Return None."""

    def __len__(self) -> int:
        return 0


class ImageFormat(Protocol):
    """A format of disk images."""

    @property
    def name(self) -> str:
        """As QEMU writes it."""

    @property
    def title(self) -> str:
        """As its users write it."""

    @property
    def suffixes(self) -> tuple[str, ...]:
        """How files in it are usually called."""

    @property
    def unmarked(self) -> bool:
        """Whether its files bear no mark, so that any may be one.

        One is taken for that where an overlay states it, or where its own name says so and a user asks for it.
        """

    @property
    def no_mark(self) -> str:
        """What is said of a file that does not bear its mark, empty for a format without one."""

    def probe(self, front: Front, /) -> bool:
        """Tell whether a file bears the mark of this format. Raises StorageError."""

    def read(self, front: Front, /, *, corrupt_too: bool = False) -> Metadata:
        """Return what a file in this format says. corrupt_too: also of one that is marked corrupt.

        Raises FormatError with the file's name in front, UnsupportedError, StorageError.
        """


@runtime_checkable
class MarkedAtEnd(Protocol):
    """A format that has its mark behind the disk, which then begins as its guest wants."""

    def is_at_end(self, front: Front, /) -> bool:
        """Tell whether a file is an image in this format by its end, whatever it begins with. Raises StorageError."""


@runtime_checkable
class HasParts(Protocol):
    """A format whose images may lie in several files, which are no images of their own, but for one."""

    def is_part(self, front: Front, name: str, /) -> bool:
        """Tell whether a file that is called so, or has such a path, is one of those. Raises StorageError."""
