"""The file system `fusectl`: what the kernel lets a user set of a FUSE mount of their own.

How many reads it hands over at once is 12, unless told otherwise, of all readers of the mount together. Reads past the
page cache and readahead are such requests. Twelve that wait for a source that hangs would keep the readers of every
other source waiting, and each twelve of its own readers the next ones, deadline after deadline. Where the file system
is not mounted, root opens it without mounting it anywhere.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

from vdifs.errors import printable
from vdifs.linux.libc import system_call
from vdifs.linux.mountinfo import Mount

__all__ = ["fusectl", "open_control", "set_request_limit"]

_FUSECTL = "/sys/fs/fuse/connections"
_FSOPEN, _FSCONFIG, _FSMOUNT = 430, 431, 432
_CREATE = 6

log = logging.getLogger("vdifs.mount")


def set_request_limit(mount: Mount, count: int) -> None:
    """Have the kernel hand over up to so many reads of a mount before the first is answered."""
    try:
        with fusectl() as folder:
            for name in ("max_background", "congestion_threshold"):
                descriptor = open_control(folder, mount, name)
                try:
                    os.write(descriptor, b"%d" % count)
                finally:
                    os.close(descriptor)
    except OSError as error:
        log.info(
            "%s: the kernel's limit of 12 reads at once stays (%s): readers of a source that hangs may keep others "
            "waiting: have fusectl mounted at %s",
            printable(mount.mountpoint), error.strerror, _FUSECTL,
        )  # fmt: skip


def open_control(folder: int, mount: Mount, name: str) -> int:
    """Open a file of fusectl's `folder` about a mount for writing; it is about no other one, ever. Raises OSError."""
    return os.open(f"{os.minor(mount.device)}/{name}", os.O_WRONLY | os.O_CLOEXEC, dir_fd=folder)


@contextmanager
def fusectl() -> Iterator[int]:
    """Give the folder of FUSE connections, open. Raises OSError."""
    descriptor = os.open(_FUSECTL, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) if os.listdir(_FUSECTL) else _detached()
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _detached() -> int:
    """Open a fusectl that is mounted nowhere, as fsmount(2) gives it."""
    context = system_call(_FSOPEN, b"fusectl", 1)
    try:
        system_call(_FSCONFIG, context, _CREATE, None, None, 0)
        return system_call(_FSMOUNT, context, 1, 0)
    finally:
        os.close(context)
