"""What a message tells to type: commands that work as they stand there, for the user who reads it."""

import os
import re
import shlex

from vdifs.linux.mountinfo import FUSE_TYPE, mount_at, owner_of

__all__ = ["take_away", "typed", "unmounting"]

_PLAIN = re.compile(r"[\w@%+=:,./-]+", re.ASCII)


def typed(name: str) -> str:
    """Return a file name as one types it in a shell, whatever is in it, so that no program takes it for an option."""
    if name.startswith("-"):
        name = f"./{name}"
    if _PLAIN.fullmatch(name):
        return name
    if name.isprintable():
        return shlex.quote(name)
    escaped = "".join(chr(c) if 32 <= c < 127 and c not in b"'\\" else f"\\{c:03o}" for c in os.fsencode(name))
    return f"$'{escaped}'"


def unmounting(mountpoint: str) -> str:
    """Return the command that takes away what is mounted at `mountpoint`: a mount of another program has its own."""
    mount = mount_at(mountpoint)
    if mount is None or mount.type == FUSE_TYPE:
        return f"vdifs umount {typed(mountpoint)}"
    if mount.type.startswith("fuse") and os.geteuid() != 0:
        return f"fusermount3 -u {typed(mountpoint)}"
    return f"umount {typed(mountpoint)}"


def take_away(mountpoint: str) -> str:
    """Say who takes away what is mounted at `mountpoint`, and how."""
    mount = mount_at(mountpoint)
    owner = None if mount is None else owner_of(mount)
    if os.geteuid() == 0 or owner == os.geteuid() or mount is None:
        return f"take it away with '{unmounting(mountpoint)}'"
    if mount.type == FUSE_TYPE:
        return f"have root, or the user who mounted it, run '{unmounting(mountpoint)}'"
    return f"have root run 'umount {typed(mountpoint)}'"
