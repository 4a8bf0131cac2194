"""Who may read a synthetic file: exactly those whom every file of the chain, and every folder above, allows.

A plain AND of the mode bits leaks: 0640 alice on a base 0640 root:kvm would show alice's group the base. So each bit
is granted only to persons that every item grants it to, whatever class of persons they are for that item.

Write bits allow nothing in a mount, which is read-only. They are those of the image itself, so that a copy of it can be
written, and written over the next time, as a copy of the image could.
"""

import os
import stat
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Self

__all__ = ["Access", "Permission", "both", "folders_above", "intersection", "to_folder"]


class Permission(NamedTuple):
    """What one file or folder allows, for the three classes of persons.

    mode: of a file 0o111 for its read bits; of a folder 0o111 for its search bits, and its read bits as 0o444.
    write: 0o222 for the write bits of either.
    """

    mode: int
    uid: int
    gid: int
    write: int = 0

    @classmethod
    def of(cls, place: str | int, st: os.stat_result) -> Self:
        """Return the permission that matters, of a path or descriptor and its stat.

        Where an access control list says more, only the owner's bit is sure: ACLs grant nothing, and may deny.
        """
        bits, write = _bits(st), st.st_mode & 0o222
        if bits & 0o055 and _has_acl(place):
            bits, write = bits & 0o500, write & 0o200
        return cls(bits, st.st_uid, st.st_gid, write)

    def is_without_list(self, st: os.stat_result) -> bool:
        """Tell whether it is what `of` gives for a file or folder with that stat and without an access control list."""
        return self == (_bits(st), st.st_uid, st.st_gid, st.st_mode & 0o222)

    @property
    def to_list(self) -> "Permission":
        """The same of a folder for who wants to read it."""
        return self._replace(mode=self.mode >> 2)


class Access(NamedTuple):
    """mode (of 0o666), owner and group of a synthetic file; of a folder of the mount, the mode is of 0o777."""

    mode: int
    uid: int
    gid: int


def intersection(items: Iterable[Permission], uid: int, gid: int) -> Access:
    """Return what `items` grant together to a file that belongs to `uid` and `gid`, those of the top image.

    Where a person's class for an item is not known, every class it may be must be granted.
    """
    user = group = other = True
    for mode, owner, item_group, _ in items:
        u, g, o = bool(mode & 0o100), bool(mode & 0o010), bool(mode & 0o001)
        mine, ours = owner == uid, item_group == gid
        user &= u if mine else g and o
        group &= (mine or u) and (g if ours else g and o)
        other &= (mine or u) and (ours or g) and o
    return Access(0o400 * user | 0o040 * group | 0o004 * other, uid, gid)


def both(one: Access, other: Access) -> Access:
    """Return what two synthetic files grant together, to one that belongs to who has `one`, and has its write bits."""
    items = [Permission(each.mode >> 2 & 0o111, each.uid, each.gid) for each in (one, other)]
    granted = intersection(items, one.uid, one.gid)
    return granted._replace(mode=granted.mode | one.mode & 0o222)


def to_folder(behind: Sequence[Sequence[Permission]]) -> Access:
    """Return what the folders `behind` one of the mount grant together: each as its permissions from `/` down to it.

    It belongs to who has the last of them, whose write bits it shows.
    """
    search = [each for folder in behind for each in folder]
    read = [*search, *(folder[-1].to_list for folder in behind)]
    owner = behind[-1][-1]
    allowed = intersection(read, owner.uid, owner.gid)
    mode = allowed.mode | intersection(search, owner.uid, owner.gid).mode >> 2
    return allowed._replace(mode=mode | owner.write)


def _bits(st: os.stat_result) -> int:
    return st.st_mode & 0o555 if stat.S_ISDIR(st.st_mode) else st.st_mode >> 2 & 0o111


def _has_acl(place: str | int) -> bool:
    try:
        os.getxattr(place, "system.posix_acl_access")
    except OSError:
        return False
    return True


def folders_above(path: str) -> tuple[Permission, ...]:
    """Return the permissions of the folders from `/` down to the directory `path`, it included, links resolved."""
    found: list[Permission] = []
    folder = os.path.realpath(path)
    while True:
        found.append(Permission.of(folder, os.stat(folder)))
        if folder == "/":
            return tuple(reversed(found))
        folder = os.path.dirname(folder)
