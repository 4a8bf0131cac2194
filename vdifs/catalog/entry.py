"""What is known of an image without opening its chain: a value, from stat and the first bytes of its file."""

from dataclasses import dataclass, field

from vdifs.catalog.walk import Found
from vdifs.chain.access import Permission
from vdifs.errors import VdifsError
from vdifs.formats.image_format import ImageFormat, Parent
from vdifs.storage.fingerprint import Fingerprint
from vdifs.units import SECTOR, round_up

__all__ = ["Entry", "KnownByIdentity", "identities_of", "parent_of", "unmarked"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One image. path: its PATH. format: its name. problem: what is wrong with this file alone, whatever its chain.

    snapshot: for an internal snapshot its label, with which `path` ends. snapshots: how many the header of the file
    claims. data: the external files that hold its guest data, if it has such.
    backing_format: what the image states for its backing file. hidden: XCP-ng's mark. live: a program is writing it,
    which is then its problem.
    """

    path: str
    format: str
    fingerprint: Fingerprint
    uid: int
    gid: int
    permissions: tuple[Permission, ...]
    virtual_size: int | None = None
    backing_path: str | None = None
    backing_format: str | None = None
    data: tuple[Found, ...] = ()
    snapshot: str | None = None
    snapshots: int = 0
    hidden: bool = False
    live: bool = False
    problem: VdifsError | None = field(default=None, compare=False)

    @property
    def file_path(self) -> str:
        """The PATH of the file: `path` without the name of the snapshot."""
        return self.path if self.snapshot is None else self.path.removesuffix(f"@{self.snapshot}")

    @property
    def fingerprints(self) -> tuple[Fingerprint, ...]:
        """The fingerprints of the file and of its external data files."""
        return self.fingerprint, *(each.fingerprint for each in self.data)


@dataclass(frozen=True, slots=True)
class KnownByIdentity(Entry):
    """One image of a format whose images know one another by identity: few have these fields, and entries are many.

    identities: see Metadata. parent: what it says of the image below it, None if there is none; `backing_path` is
    where that was found.
    """

    identities: frozenset[str] = frozenset()
    parent: Parent | None = None


def parent_of(entry: Entry) -> Parent | None:
    """Return what an image says of the one below it if it knows it by identity."""
    return entry.parent if isinstance(entry, KnownByIdentity) else None


def identities_of(entry: Entry) -> frozenset[str]:
    """Return the identities by which an image may be named; none of an image that cannot be read."""
    return entry.identities if isinstance(entry, KnownByIdentity) else frozenset()


def unmarked(entry: Entry, image_format: ImageFormat) -> Entry:
    """Return the same file taken as an image in a format without a mark, whatever stands in it."""
    size = round_up(entry.fingerprint.size, SECTOR)
    file = entry.path, image_format.name, entry.fingerprint, entry.uid, entry.gid, entry.permissions, size
    return Entry(*file, snapshot=entry.snapshot, live=entry.live, problem=entry.problem if entry.live else None)
