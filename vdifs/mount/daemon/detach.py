"""Taking a mount away: umount2 where the kernel lets us, else fusermount3, which may for its own user's mounts."""

import errno
import os
import shutil
import subprocess

from vdifs.errors import InUseError, VdifsError, printable
from vdifs.linux.libc import call
from vdifs.linux.mountinfo import Mount

__all__ = ["FUSERMOUNT", "MTAB", "MTAB_REMEDY", "detach", "detach_only", "find_fusermount"]

FUSERMOUNT = "fusermount3"
MTAB = "/etc/mtab"
MTAB_REMEDY = f"have root run 'ln -s /proc/self/mounts {MTAB}'"
"""What debootstrap leaves out, and fusermount3 does not unmount without."""
_LOOK = "see with 'findmnt' what is mounted there"
_MNT_DETACH = 2
_UMOUNT_NOFOLLOW = 8


def find_fusermount() -> str | None:
    """Return where fusermount3 is, None if it is not installed."""
    return shutil.which(FUSERMOUNT) or shutil.which(FUSERMOUNT, path="/usr/local/bin:/usr/bin:/bin")


def detach(mountpoint: str, *, lazy: bool) -> None:
    """Unmount the topmost mount at `mountpoint`. lazy: even if files on it are open.

    Raises InUseError if it is busy, VdifsError for anything else.
    """
    flags = _UMOUNT_NOFOLLOW | (_MNT_DETACH if lazy else 0)
    try:
        call("umount2", os.fsencode(mountpoint), flags)
    except OSError as error:
        match error.errno:
            case errno.EBUSY:
                raise _busy(mountpoint) from error
            case errno.EPERM:
                _detach_as_user(mountpoint, lazy=lazy)
            case _:
                raise _cannot(mountpoint, error) from error


def detach_only(mount: Mount) -> None:
    """Unmount this very mount, even if files on it are open, and none that took its place. Raises VdifsError, OSError.

    Where the kernel does not let us, fusermount3 unmounts what is there, if it is a FUSE mount of the same user.
    """
    place = os.open(mount.mountpoint, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if _mount_id(place) != mount.mount_id:
            raise VdifsError("another mount is there", where=mount.mountpoint, remedy=_LOOK, errno=errno.EINVAL)
        call("umount2", os.fsencode(f"/proc/self/fd/{place}"), _MNT_DETACH)
    except OSError as error:
        if error.errno != errno.EPERM:
            raise _cannot(mount.mountpoint, error) from error
    else:
        return
    finally:
        os.close(place)
    _detach_as_user(mount.mountpoint, lazy=True)


def _mount_id(place: int) -> int | None:
    """Return the id of the mount that an open descriptor is on."""
    with open(f"/proc/self/fdinfo/{place}", "rb") as lines:
        return next((int(line[7:]) for line in lines if line.startswith(b"mnt_id:")), None)


def _detach_as_user(mountpoint: str, *, lazy: bool) -> None:
    program = find_fusermount()
    if program is None:
        raise VdifsError("not found", where=FUSERMOUNT, remedy="install the package fuse3")
    command = [program, "-u", *(["-z"] if lazy else []), "--", mountpoint]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, check=False, env={**os.environ, "LC_ALL": "C"}
    )
    if done.returncode == 0:
        return
    said = printable(done.stderr.decode(errors="replace").strip())
    if "busy" in said:
        raise _busy(mountpoint)
    lost = f"failed to open {MTAB}" in said
    remedy = MTAB_REMEDY if lost else "unmount it as the user who mounted it, or as root"
    raise VdifsError(f"cannot unmount: {said}", where=mountpoint, remedy=remedy, errno=errno.EPERM)


def _busy(mountpoint: str) -> InUseError:
    return InUseError("busy", where=mountpoint, remedy="close the files that are open on it")


def _cannot(mountpoint: str, error: OSError) -> VdifsError:
    return VdifsError(f"cannot unmount: {error.strerror}", where=mountpoint, remedy=_LOOK, errno=error.errno)
