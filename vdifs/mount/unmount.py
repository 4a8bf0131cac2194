"""`vdifs umount`: unmount, and wait until the daemon has gone.

A daemon keeps a shared lock on the folder it mounts over. The folder is in sight again after unmounting, and whoever
gets an exclusive lock on it knows that the daemon has ended; no process id, no file, no request to a daemon that may
hang.
"""

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import suppress

from vdifs.errors import InUseError, VdifsError, printable
from vdifs.mount.detach import detach
from vdifs.mount.mounts import FUSE_TYPE, Mount, topmost

__all__ = ["lock_mountpoint", "umount"]

PATIENCE_S = 20.0
_POLL_S = 0.02
_SHOWN = 5


def lock_mountpoint(mountpoint: str) -> int | None:
    """Return a descriptor that holds the daemon's lock on the folder it will mount over, None if it cannot be had."""
    try:
        folder = os.open(mountpoint, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(folder, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return None  # without it `vdifs umount` returns a moment too early, no more
    return folder


def umount(mountpoint: str, patience: float = PATIENCE_S) -> None:
    """Unmount the vdifs mount at `mountpoint` and return when its daemon has gone.

    Raises InUseError while files on it are open, VdifsError for no mount of ours or a daemon that stays.
    """
    mount = _find(mountpoint)
    try:
        detach(mount.mountpoint, lazy=False)
    except InUseError as error:
        if _is_dead(mount.mountpoint):
            detach(mount.mountpoint, lazy=True)
            return
        raise InUseError(f"{printable(mountpoint)}: busy: {_users(mount)}") from error
    if not _wait_for_daemon(mount.mountpoint, patience):
        raise VdifsError(f"{printable(mountpoint)}: unmounted, but its daemon still runs: look into its log")


def _find(mountpoint: str) -> Mount:
    """Return our mount at `mountpoint`, if possible without asking its daemon for anything."""
    folder, name = os.path.split(os.path.abspath(mountpoint))
    mount = topmost(os.path.join(os.path.realpath(folder), name)) or topmost(os.path.realpath(mountpoint))
    if mount is None:
        raise VdifsError(f"{printable(mountpoint)}: not mounted", errno=errno.EINVAL)
    if mount.type != FUSE_TYPE:
        raise VdifsError(f"{printable(mountpoint)}: is no vdifs mount: use umount", errno=errno.EINVAL)
    return mount


def _is_dead(mountpoint: str) -> bool:
    try:
        os.stat(mountpoint)
    except OSError as error:
        return error.errno in (errno.ENOTCONN, errno.ECONNABORTED)
    return False


def _wait_for_daemon(mountpoint: str, patience: float) -> bool:
    try:
        folder = os.open(mountpoint, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return True
    try:
        return _lock_within(folder, patience)
    finally:
        os.close(folder)


def _lock_within(folder: int, patience: float) -> bool:
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL_S)
        else:
            return True


def _users(mount: Mount) -> str:
    """Say who has files open on a mount, as far as we may know."""
    found = [f"{_command(pid)} ({pid})" for pid in _processes() if _uses(pid, mount)]
    if not found:
        return "close the files that are open on it"
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return f"in use by {', '.join(found[:_SHOWN])}{more}: end them, or have them close their files"


def _processes() -> list[int]:
    return sorted(int(name) for name in os.listdir("/proc") if name.isdigit())


def _uses(pid: int, mount: Mount) -> bool:
    """Tell whether a process has a file of the mount open or stands in it. Asks nothing of the mount itself."""
    return any(_is_within(f"/proc/{pid}/{link}", mount.mountpoint) for link in ("cwd", "root")) or any(
        mount_id == mount.mount_id for mount_id in _open_on(pid)
    )


def _is_within(link: str, folder: str) -> bool:
    with suppress(OSError):  # gone, or another user's
        path = os.readlink(link)
        return path == folder or path.startswith(folder + "/")
    return False


def _open_on(pid: int) -> Iterator[int]:
    """Yield the ids of the mounts on which a process has files open."""
    with suppress(OSError):
        for number in os.listdir(f"/proc/{pid}/fdinfo"):
            with suppress(OSError), open(f"/proc/{pid}/fdinfo/{number}", "rb") as file:
                yield from (int(line[7:]) for line in file if line.startswith(b"mnt_id:"))


def _command(pid: int) -> str:
    with suppress(OSError), open(f"/proc/{pid}/comm", "rb") as file:
        return printable(file.read().rstrip(b"\n"))
    return "?"
