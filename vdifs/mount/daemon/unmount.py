"""`vdifs umount`: unmount, and wait until the daemon has gone.

A daemon keeps a shared lock on the folder it mounts over. The folder is in sight again after unmounting, and a process
that gets an exclusive lock on it knows that the daemon has ended; no process id, no file, no request to a daemon that
may hang.
"""

import errno
import fcntl
import os
import time
from contextlib import suppress

from vdifs.errors import InUseError, VdifsError
from vdifs.linux.filesystems import AUTOFS, filesystem_type
from vdifs.linux.mountinfo import FUSE_TYPE, Mount, mount_at
from vdifs.linux.processes import users_of
from vdifs.mount.daemon.detach import detach
from vdifs.mount.daemon.mountpoint import DEAD
from vdifs.mount.daemon.remedies import unmounting
from vdifs.mount.daemon.still_running import StillRunning, copy_elsewhere, lock_holder, why_still_running

__all__ = ["lock_mountpoint", "umount"]

PATIENCE_S = 20.0
_SOON_S = 1.0
_POLL_S = 0.02


def lock_mountpoint(mountpoint: str) -> None:
    """Lock the folder that this process will mount over, until it ends: that is what `umount` waits for."""
    with suppress(OSError):  # without it `vdifs umount` returns a moment too early, no more
        folder = os.open(mountpoint, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(folder, fcntl.LOCK_SH | fcntl.LOCK_NB)


def umount(mountpoint: str, patience: float = PATIENCE_S, *, lazy: bool = False) -> None:
    """Unmount the vdifs mount at `mountpoint` and return when its daemon has gone.

    lazy: take it out of sight even while files on it are open, and return at once; the daemon serves those, and ends
    when the last is closed. Raises InUseError while files are open, VdifsError for no mount of ours or a daemon that
    stays.
    """
    mount = _find(mountpoint)
    if mount.type != FUSE_TYPE:
        if not (mount.type.startswith("fuse") and _is_dead(mount.mountpoint)):
            remedy = f"use '{unmounting(mountpoint)}'"
            raise VdifsError("is no vdifs mount", where=mountpoint, remedy=remedy, errno=errno.EINVAL)
        lazy = True  # it is in the way of one of ours, and of no use
    if lazy:
        detach(mount.mountpoint, lazy=True)
        return
    try:
        detach(mount.mountpoint, lazy=False)
    except InUseError as error:
        if _is_dead(mount.mountpoint):
            detach(mount.mountpoint, lazy=True)
            return
        raise InUseError("busy", where=mountpoint, remedy=users_of(mount)) from error
    if (running := _wait_for_daemon(mount, patience)) is not None:
        raise VdifsError(f"unmounted, but {running.why}", where=mountpoint, remedy=running.remedy)


def _find(mountpoint: str) -> Mount:
    """Return the mount at `mountpoint`, if possible without asking its daemon for anything."""
    mount = mount_at(mountpoint)
    if mount is None:
        remedy = "name the mountpoint of a 'vdifs mount'"
        raise VdifsError("not mounted", where=mountpoint, remedy=remedy, errno=errno.EINVAL)
    return mount


def _is_dead(mountpoint: str) -> bool:
    try:
        os.stat(mountpoint)
    except OSError as error:
        return error.errno in DEAD
    return False


def _wait_for_daemon(mount: Mount, patience: float) -> StillRunning | None:
    """Return None once the daemon has gone, or else why it stays and what to do."""
    try:
        folder = os.open(mount.mountpoint, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if filesystem_type(folder) == AUTOFS:
                return _wait_for_holder(folder, patience)
        finally:
            os.close(folder)
        folder = os.open(mount.mountpoint, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if _lock_within(folder, min(_SOON_S, patience)):
            return None
        if (elsewhere := copy_elsewhere(mount)) is not None:
            return elsewhere  # that lasts until the user sees to it
        return None if _lock_within(folder, patience) else why_still_running(folder)
    finally:
        os.close(folder)


def _wait_for_holder(folder: int, patience: float) -> StillRunning | None:
    """Wait by the table of all locks, where opening the folder would mount again at once; return as above."""
    deadline = time.monotonic() + patience
    while lock_holder(folder) is not None:
        if time.monotonic() > deadline:
            return why_still_running(folder)
        time.sleep(_POLL_S)
    return None


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
