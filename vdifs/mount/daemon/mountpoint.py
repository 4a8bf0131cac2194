"""Is this a place to mount at, and is this machine able to? Each refusal says what to do."""

import errno
import os

from vdifs.errors import InUseError, UsageError, VdifsError, printable
from vdifs.linux.mountinfo import FUSE_TYPE, mount_at, topmost
from vdifs.mount.daemon.detach import FUSERMOUNT, detach, find_fusermount
from vdifs.mount.daemon.remedies import take_away, typed
from vdifs.mount.view.options import MountOptions

__all__ = ["DEAD", "DEVICE", "check_machine", "check_mountpoint"]

DEVICE = "/dev/fuse"
DEAD = frozenset({errno.ENOTCONN, errno.ECONNABORTED})
"""What the kernel answers for a mount whose daemon has gone."""
_DEAD_AT_MOST = 16


def check_machine() -> None:
    """Raise VdifsError if FUSE cannot be used here."""
    if not os.path.exists(DEVICE):
        remedy = "have root run 'modprobe fuse', or give the container this device"
        raise VdifsError("not there", where=DEVICE, remedy=remedy, errno=errno.ENODEV)
    if not os.access(DEVICE, os.R_OK | os.W_OK):
        remedy = f"have root run 'chmod 666 {DEVICE}', as udev does"
        raise VdifsError("no permission", where=DEVICE, remedy=remedy, errno=errno.EACCES)
    if os.geteuid() != 0 and find_fusermount() is None:
        what, remedy = "not found, and only root mounts without it", "install the package fuse3"
        raise VdifsError(what, where=FUSERMOUNT, remedy=remedy, errno=errno.ENOENT)


def check_mountpoint(options: MountOptions) -> str:
    """Return the mountpoint's real path. Raises VdifsError where nothing can be mounted, UsageError where it may not.

    SOURCE itself, and a folder above it, would be hidden by the mount. So would be a log file, whose name the daemon
    looks up now and then: it would wait for itself. So would be a living mount of ours, and a script that forgets to
    unmount would leave one more daemon each night. A dead one that is in the way, as its daemon and its supervisor were
    killed, is taken away.
    """
    try:
        _look_into(options.mountpoint)
    except OSError as error:
        raise _trouble(options.mountpoint, error) from error
    mountpoint = os.path.realpath(options.mountpoint)
    for path in (options.source, *options.trusted):
        if _within(os.path.realpath(path), mountpoint):
            what, remedy = f"the mount would hide {printable(path)}", "mount somewhere else"
            raise UsageError(what, where=options.mountpoint, remedy=remedy)
    for file, what in ((options.log_file, "log file"), (options.pid_file, "pid file")):
        if file is not None and _within(os.path.realpath(file), mountpoint):
            raise UsageError("the mount would hide it", where=file, remedy=f"choose another {what}")
    if (there := topmost(mountpoint)) is not None and there.type == FUSE_TYPE:
        remedy = f"use that, or {take_away(options.mountpoint)}"
        raise InUseError("a vdifs mount is there already", where=options.mountpoint, remedy=remedy)
    return mountpoint


def _look_into(mountpoint: str) -> None:
    """Open the folder. Raises OSError."""
    for _ in range(_DEAD_AT_MOST):
        try:
            os.scandir(mountpoint).close()
        except OSError as error:
            if error.errno not in DEAD or not _taken_away(mountpoint):
                raise
        else:
            return
    os.scandir(mountpoint).close()


def _taken_away(mountpoint: str) -> bool:
    """Detach the dead mount there if it is one of ours and we may; return whether that was done."""
    mount = mount_at(mountpoint)
    if mount is None or mount.type != FUSE_TYPE:
        return False
    try:
        detach(mount.mountpoint, lazy=True)
    except VdifsError:
        return False
    return True


def _trouble(mountpoint: str, error: OSError) -> VdifsError:
    match error.errno:
        case errno.ENOENT:
            what, remedy = "there is no such mountpoint", f"make it with 'mkdir -p {typed(mountpoint)}'"
        case errno.ENOTDIR:
            what, remedy = "not a directory", "the mountpoint must be one"
        case code if code in DEAD:
            what, remedy = "a mount whose daemon has gone", take_away(mountpoint)
        case _:
            what, remedy = f"{error.strerror}", "choose a mountpoint that you may read"
    return VdifsError(what, where=mountpoint, remedy=remedy, errno=error.errno)


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")
