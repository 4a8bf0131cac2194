"""Who may read a synthetic file: exactly those whom every file of the chain, and every folder above, allows.

A plain AND of the mode bits leaks: 0640 alice on a base 0640 root:kvm would show alice's group the base. So each bit
is granted only to persons that every item grants it to, whatever class of persons they are for that item.
"""

import os
import stat
from collections.abc import Iterable
from typing import NamedTuple, Self

__all__ = ["Access", "Permission", "folders_above", "intersection"]


class Permission(NamedTuple):
    """What one file or folder allows: `mode` has read bits (0o444) for a file, search bits (0o111) for a folder."""

    mode: int
    uid: int
    gid: int

    @classmethod
    def of(cls, place: str | int, st: os.stat_result) -> Self:
        """Return the permission that matters, of a path or descriptor and its stat, as three bits of the form 0o111.

        Where an access control list says more, only the owner's bit is sure: ACLs grant nothing, and may deny.
        """
        bits = st.st_mode if stat.S_ISDIR(st.st_mode) else st.st_mode >> 2
        allowed = 0o100 if bits & 0o011 and _has_acl(place) else 0o111
        return cls(bits & allowed, st.st_uid, st.st_gid)


class Access(NamedTuple):
    """mode (of 0o444), owner and group of a synthetic file."""

    mode: int
    uid: int
    gid: int


def intersection(items: Iterable[Permission], uid: int, gid: int) -> Access:
    """Return what `items` grant together to a file that belongs to `uid` and `gid`, those of the top image.

    Where a person's class for an item is not known, every class it may be must be granted.
    """
    user = group = other = True
    for mode, owner, item_group in items:
        u, g, o = bool(mode & 0o100), bool(mode & 0o010), bool(mode & 0o001)
        mine, ours = owner == uid, item_group == gid
        user &= u if mine else g and o
        group &= (mine or u) and (g if ours else g and o)
        other &= (mine or u) and (ours or g) and o
    return Access(0o400 * user | 0o040 * group | 0o004 * other, uid, gid)


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
