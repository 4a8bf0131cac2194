"""What stat(2) says of a node: plain values, before they become FUSE's."""

import os
from dataclasses import dataclass
from typing import NamedTuple

from vdifs.chain.access import Access
from vdifs.mount.view.options import MountOptions
from vdifs.output.image import Image

__all__ = ["TIMEOUT_S", "Attributes", "FileSize", "Ownership", "folder_access"]

TIMEOUT_S = 0.3
"""How long the kernel may keep names and attributes: with the age that the scanner allows, less than a second."""

_SECTOR = 512


@dataclass(frozen=True, slots=True)
class FileSize:
    """What only opening an image tells: how many bytes its file has, and how many 512-byte blocks are there of them."""

    length: int
    blocks: int

    @classmethod
    def of(cls, image: Image) -> "FileSize":
        """Return the size of the file that an image is open as."""
        return cls(image.size, -(-image.stored // _SECTOR))


class Attributes(NamedTuple):
    """The fields of stat(2). mode: with the file type. lasting: the kernel may keep them for a while.

    Attributes of a file that no request has looked into are a placeholder of size 0 and must not be kept.
    """

    inode: int
    mode: int
    uid: int
    gid: int
    links: int = 1
    size: int = 0
    blocks: int = 0
    mtime_ns: int = 0
    ctime_ns: int = 0
    lasting: bool = True

    def with_size(self, size: int) -> "Attributes":
        """Return these attributes with a size, without holes: a file of no blocks `tar -S` would not even read."""
        return self._replace(size=size, blocks=-(-size // _SECTOR))


@dataclass(frozen=True, slots=True)
class Ownership:
    """Who owns what: as the sources say, unless the user of the mount says otherwise.

    folder: of all folders where no other user may look in, so that the mounting user may, though by his groups alone.
    """

    options: MountOptions
    folder: Access

    def of_file(self, access: Access) -> Access:
        """Return mode, owner and group of a file whose sources give `access`."""
        return self._overridden(access, 0o666)

    def of_folder(self, access: Access) -> Access:
        """Return mode, owner and group of a folder whose folders in the source give `access`."""
        if not self.options.allow_other:
            access = self.folder._replace(mode=self.folder.mode | access.mode & 0o222)
        return self._overridden(access, 0o777)

    def of_broken(self, access: Access) -> Access:
        """Return mode, owner and group of a file that cannot be opened: no user may read it."""
        return self.of_file(access)._replace(mode=0)

    def of_report(self, access: Access) -> Access:
        """Return mode, owner and group of a file about images that `access` may read: its owner may write a copy."""
        return self._overridden(access._replace(mode=access.mode & 0o444 | access.mode >> 1 & 0o200), 0o666)

    def _overridden(self, access: Access, everything: int) -> Access:
        mode = access.mode if self.options.umask is None else everything & ~self.options.umask
        uid = access.uid if self.options.uid is None else self.options.uid
        gid = access.gid if self.options.gid is None else self.options.gid
        return Access(mode, uid, gid)


def folder_access(status: os.stat_result) -> Access:
    """Return the access to all folders of a mount for one user alone, given the stat of SOURCE: none to write."""
    return Access(status.st_mode & 0o555, status.st_uid, status.st_gid)
