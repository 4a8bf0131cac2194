"""The process that takes the mount away when the daemon has gone, however it went.

    vdifs mount                      forked before /dev/fuse is opened, so that the daemon alone holds the mount
      |-- supervisor                 waits: end of the pipe = the daemon has gone
      `-- (goes on as the daemon)    holds the pipe's other end

A mountpoint may serve another mount by then. So the daemon tells which mount is its own, and the supervisor, which is
woken whenever the table of mounts changes, takes nothing away once that one has vanished.
"""

import os
import select
import signal
import time
from contextlib import suppress
from typing import NoReturn, Self

from vdifs.errors import VdifsError
from vdifs.mount.detach import detach
from vdifs.mount.mounts import FUSE_TYPE, MOUNTINFO, Mount, mounts, topmost

__all__ = ["Supervisor"]

_TRIES = 20
_BETWEEN_TRIES_S = 0.1
_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE)


class Supervisor:
    """The daemon's side of it. pid: of the supervisor."""

    def __init__(self, pid: int, pipe: int) -> None:
        self.pid = pid
        self._pipe = pipe
        self._own: Mount | None = None

    @classmethod
    def start(cls, mountpoint: str) -> Self:
        """Fork the supervisor of a mount that is about to be made at `mountpoint`. Call it before any thread runs."""
        before = frozenset(mount.mount_id for mount in mounts())
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            _supervise(reading, mountpoint, before)
        os.close(reading)
        return cls(pid, writing)

    def watch(self, mount: Mount) -> None:
        """Say which mount is the daemon's."""
        self._own = mount
        with suppress(BrokenPipeError):  # a supervisor that was killed is made up for by `finish`
            os.write(self._pipe, b"%d\n" % mount.mount_id)

    def finish(self) -> None:
        """Have the mount taken away, and return when that is done."""
        os.close(self._pipe)
        with suppress(ChildProcessError):  # whoever started us ignores SIGCHLD: then no child is waited for
            os.waitpid(self.pid, 0)
        if self._own is not None:
            _take_away(self._own)


def _supervise(pipe: int, mountpoint: str, before: frozenset[int]) -> NoReturn:
    try:
        _let_go_of_everything(pipe)
        own = _wait_for_the_end(pipe, mountpoint, before)
        if own is not None:
            _take_away(own)
    finally:
        os._exit(0)


def _let_go_of_everything(pipe: int) -> None:
    """Keep nothing of the daemon but the pipe: no terminal, no folder, no file, no part in its signals."""
    os.setsid()
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    os.closerange(3, pipe)
    os.closerange(pipe + 1, os.sysconf("SC_OPEN_MAX"))


def _wait_for_the_end(pipe: int, mountpoint: str, before: frozenset[int]) -> Mount | None:
    """Return the daemon's mount when the daemon has gone; None if the mount had vanished before."""
    table = os.open(MOUNTINFO, os.O_RDONLY)
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    poll.register(table, select.POLLPRI)
    own: Mount | None = None
    while True:
        for descriptor, _ in poll.poll():
            if descriptor == pipe:
                said = os.read(pipe, 64)
                if not said:
                    return own or _newcomer(mountpoint, before)
                own = _with_id(int(said))
        if own is not None and _with_id(own.mount_id) != own:
            return None


def _with_id(mount_id: int) -> Mount | None:
    return next((mount for mount in mounts() if mount.mount_id == mount_id), None)


def _newcomer(mountpoint: str, before: frozenset[int]) -> Mount | None:
    """Return the mount of a daemon that ended after mounting and before it could say so."""
    top = topmost(mountpoint)
    return top if top and top.type == FUSE_TYPE and top.mount_id not in before else None


def _take_away(own: Mount) -> None:
    """Detach this mount if it is still the one seen at its mountpoint."""
    for _ in range(_TRIES):
        if topmost(own.mountpoint) != own:
            return
        try:
            detach(own.mountpoint, lazy=True)
        except VdifsError:
            time.sleep(_BETWEEN_TRIES_S)
