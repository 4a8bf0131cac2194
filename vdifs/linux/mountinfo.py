"""What is mounted where: /proc/self/mountinfo, read without touching any file system."""

import os
import re
from dataclasses import dataclass

__all__ = ["FUSE_TYPE", "MOUNTINFO", "Mount", "mount_at", "mounts", "owner_of", "topmost"]

MOUNTINFO = "/proc/self/mountinfo"
FUSE_TYPE = "fuse.vdifs"
_OCTAL = re.compile(rb"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mount:
    """One mount. device: as os.makedev makes it."""

    mount_id: int
    device: int
    mountpoint: str
    type: str
    source: str


def mounts(table: str = MOUNTINFO) -> list[Mount]:
    """Return all mounts of this namespace, a later one over an earlier. table: that of a process in another one."""
    with open(table, "rb") as file:
        return [_parse(line) for line in file.read().splitlines()]


def topmost(mountpoint: str) -> Mount | None:
    """Return the mount that is seen at `mountpoint`, an absolute path without symbolic links; None if there is none."""
    found = [mount for mount in mounts() if mount.mountpoint == mountpoint]
    return found[-1] if found else None


def mount_at(path: str) -> Mount | None:
    """Return the mount that is seen at `path`, which may be a link, if possible without asking the mount anything."""
    folder, name = os.path.split(os.path.abspath(path))
    return topmost(os.path.join(os.path.realpath(folder), name)) or topmost(os.path.realpath(path))


def owner_of(mount: Mount) -> int | None:
    """Return the user who may unmount a FUSE mount besides root, None for any other mount."""
    with open(MOUNTINFO, "rb") as file:
        line = next((line for line in file if line.startswith(b"%d " % mount.mount_id)), b"")
    match = re.search(rb"[ ,]user_id=(\d+)", line.partition(b" - ")[2])
    return None if match is None else int(match[1])


def _parse(line: bytes) -> Mount:
    """Parse one line: `ID PARENT MAJOR:MINOR ROOT MOUNTPOINT OPTIONS [TAG...] - TYPE SOURCE OPTIONS`, proc(5)."""
    left, _, right = line.partition(b" - ")
    mount_id, _, device, _, mountpoint = left.split(b" ")[:5]
    kind, source = right.split(b" ")[:2]
    major, _, minor = device.partition(b":")
    return Mount(int(mount_id), os.makedev(int(major), int(minor)), _name(mountpoint), _name(kind), _name(source))


def _name(escaped: bytes) -> str:
    return os.fsdecode(_OCTAL.sub(lambda match: bytes([int(match[1], 8)]), escaped))
