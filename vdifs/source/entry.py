"""What is known of an image without opening its chain: a value, from stat and the first bytes of its file."""

from dataclasses import dataclass, field, replace
from typing import Literal

from vdifs.errors import VdifsError
from vdifs.qcow2.geometry import SECTOR, round_up
from vdifs.qcow2.header import Header
from vdifs.source.access import Permission
from vdifs.source.hostfile import Fingerprint
from vdifs.source.walk import Found

__all__ = ["Entry", "as_raw"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One image. path: its PATH. problem: what is wrong with this file alone, whatever its chain.

    snapshot: for an internal snapshot its label, with which `path` ends. data: the external data file, if it has one.
    """

    path: str
    format: Literal["qcow2", "raw"]
    fingerprint: Fingerprint
    uid: int
    gid: int
    permissions: tuple[Permission, ...]
    virtual_size: int | None = None
    header: Header | None = None
    backing_path: str | None = None
    data: Found | None = None
    snapshot: str | None = None
    problem: VdifsError | None = field(default=None, compare=False)

    @property
    def file_path(self) -> str:
        """The PATH of the file: `path` without the name of the snapshot."""
        return self.path if self.snapshot is None else self.path.removesuffix(f"@{self.snapshot}")

    @property
    def fingerprints(self) -> tuple[Fingerprint, ...]:
        """The fingerprints of the file and, if there is one, of its data file."""
        return (self.fingerprint,) if self.data is None else (self.fingerprint, self.data.fingerprint)

    @property
    def backing_format(self) -> str | None:
        """The format that the image states for its backing file."""
        return self.header.backing_format if self.header else None


def as_raw(entry: Entry) -> Entry:
    """Return the same file taken as a raw image."""
    size = round_up(entry.fingerprint.size, SECTOR)
    return replace(entry, format="raw", virtual_size=size, header=None, backing_path=None, data=None, problem=None)
