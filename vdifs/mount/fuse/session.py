"""The FUSE session: opening it with the options that a read-only mount needs, answering its requests, closing it."""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import pyfuse3

from vdifs.dataplane.attachment import Plane, attach
from vdifs.errors import VdifsError, printable
from vdifs.linux.mountinfo import FUSE_TYPE, Mount, topmost
from vdifs.mount.fuse.operations import Operations
from vdifs.mount.view.options import MountOptions

__all__ = ["MAX_TASKS", "SWITCH", "Session", "answer_requests", "end_session", "fuse_failure", "open_session"]

MAX_TASKS = 4096
"""Requests in flight: far more than threads that may hang, as else those that hang would keep all others waiting."""
_MIN_TASKS = 8

_DEVICE = os.makedev(10, 229)
_MOST_PUBLISHED = 8 << 20
SWITCH = "VDIFS_DATAPLANE"
"""A variable that tests set to "off": then Python answers every read."""

_ALWAYS = frozenset({"ro", "nosuid", "nodev", "noexec", "default_permissions"})


@dataclass(frozen=True, slots=True)
class Session:
    """A mount, and what answers its reads, which does not run yet."""

    mount: Mount
    plane: Plane


@contextmanager
def open_session(operations: Operations, options: MountOptions) -> Iterator[Session]:
    """Mount, and close /dev/fuse at the end; unmounting is left to the supervisor. Raises VdifsError."""
    with os.fdopen(os.memfd_create("said"), "rb") as said:
        try:
            with _standard_error_to(said.fileno()):
                pyfuse3.init(operations, options.mountpoint, _session_options(options))
        except RuntimeError as error:
            said.seek(0)
            raise fuse_failure(options.mountpoint, said.read().decode(errors="replace")) from error
    try:
        mount = topmost(options.mountpoint)
        if mount is None or mount.type != FUSE_TYPE:
            raise fuse_failure(options.mountpoint, "the mount vanished at once")
        plane = attach(_descriptor(), most=_MOST_PUBLISHED, serves=os.environ.get(SWITCH) != "off")
        try:
            yield Session(mount, plane)
        finally:
            plane.stop()
    finally:
        pyfuse3.close(unmount=False)


def _descriptor() -> int:
    """Return the descriptor of /dev/fuse that libfuse has opened."""
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            if os.fstat(int(name)).st_rdev == _DEVICE:
                return int(name)
    raise VdifsError("libfuse has no /dev/fuse open", remedy="see what 'vdifs doctor' says", errno=errno.ENODEV)


async def answer_requests() -> None:
    """Answer the requests of the open session; return once it is unmounted, or after `end_session`."""
    await pyfuse3.main(min_tasks=_MIN_TASKS, max_tasks=MAX_TASKS)


def end_session() -> None:
    """Have `answer_requests` return once the requests under way are answered."""
    pyfuse3.terminate()


def _session_options(options: MountOptions) -> set[str]:
    # libfuse takes ASCII alone here, and a comma ends an option unless escaped.
    source = re.sub(r"[^ -~]", "?", options.source).replace("\\", "\\\\").replace(",", "\\,")
    asked = {"allow_other"} if options.allow_other else set()
    return {*_ALWAYS, *asked, "subtype=vdifs", f"fsname={source}"}


@contextmanager
def _standard_error_to(descriptor: int) -> Iterator[None]:
    """Send standard error elsewhere: libfuse and fusermount3 say there, and nowhere else, why they refuse."""
    kept = os.dup(2)
    os.dup2(descriptor, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def fuse_failure(mountpoint: str, said: str) -> VdifsError:
    """Return the error for a mount that libfuse refused; said: what it printed."""
    said = " ".join(printable(line) for line in said.splitlines())
    if "user_allow_other" in said:
        what, remedy = "--allow-other is not allowed for users", "have root add 'user_allow_other' to /etc/fuse.conf"
    else:
        what = f"cannot mount: {said or 'libfuse gave no reason'}"
        remedy = "choose a folder of your own" if "no write access" in said else "see what 'vdifs doctor' says"
    return VdifsError(what, where=mountpoint, remedy=remedy, errno=errno.EPERM)
