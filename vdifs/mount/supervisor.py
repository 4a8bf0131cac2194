"""The process that takes the mount away when the daemon has gone, however it went.

    vdifs mount                      forked before /dev/fuse is opened, so that the daemon alone holds the mount
      |-- supervisor                 waits: end of the pipe = the daemon has gone
      `-- (goes on as the daemon)    holds the pipe's other end

A thread of the daemon that hangs in a source keeps the pipe open even after kill -9, so the end of the daemon's main
thread counts too. A mountpoint may serve another mount by then. So the daemon tells which mount is its own, and the
supervisor, which is woken whenever the table of mounts changes, takes nothing away once that one has vanished.

A thread of the daemon may also hang in the mount itself, where it drops pages that are being read. It keeps /dev/fuse
open, so nobody would ever tell the readers that the daemon is gone: the supervisor aborts the connection.
"""

import ctypes
import fcntl
import logging
import os
import select
import signal
import time
from contextlib import suppress
from typing import NoReturn, Self

from vdifs.errors import VdifsError, printable
from vdifs.mount.detach import detach
from vdifs.mount.in_flight import fusectl, open_control
from vdifs.mount.mounts import FUSE_TYPE, MOUNTINFO, Mount, mounts, topmost

__all__ = ["Supervisor"]

_PR_SET_PDEATHSIG = 1
_TRIES = 20
_BETWEEN_TRIES_S = 0.1
log = logging.getLogger("vdifs.mount")
_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE)


class Supervisor:
    """The daemon's side of it. pid, pidfd: of the supervisor, the latter if the kernel has such."""

    def __init__(self, pid: int, pipe: int) -> None:
        self.pid = pid
        self.pidfd: int | None = None
        with suppress(OSError):
            self.pidfd = os.pidfd_open(pid)
        self._pipe = pipe
        self._own: Mount | None = None
        self._finished = False

    @classmethod
    def start(cls, mountpoint: str, pid_file: str | None = None) -> Self:
        """Fork the supervisor of a mount that is about to be made at `mountpoint`. Call it before any thread runs.

        pid_file: removed at the end, if it is the daemon's, who may not.
        """
        before = frozenset(mount.mount_id for mount in mounts())
        reading, writing = os.pipe()
        daemon = os.getpid()
        pid = os.fork()
        if pid == 0:
            _supervise(daemon, reading, mountpoint, before, pid_file)
        os.close(reading)
        return cls(pid, writing)

    def watch(self, mount: Mount) -> None:
        """Say which mount is the daemon's."""
        self._own = mount
        with suppress(BrokenPipeError):  # a supervisor that was killed is made up for by `finish`
            os.write(self._pipe, b"%d\n" % mount.mount_id)

    def finish(self) -> None:
        """Have the mount taken away, and return when that is done. Only the first call does anything."""
        if self._finished:
            return
        self._finished = True
        os.close(self._pipe)
        try:
            _, status = os.waitpid(self.pid, 0)
        except ChildProcessError:
            return  # whoever started us ignores SIGCHLD: then children are waited for, but say nothing
        if os.WIFSIGNALED(status) and self._own is not None:
            self._take_away_alone(self._own)

    def _take_away_alone(self, own: Mount) -> None:
        """Take the mount away without the supervisor, if the daemon may, or say who can."""
        with suppress(OSError):
            _take_away(own)
        if topmost(own.mountpoint) == own:
            name = printable(own.mountpoint)
            log.error("%s: a dead mount stays, as its supervisor was killed: take it away with 'vdifs umount'", name)


def _supervise(daemon: int, pipe: int, mountpoint: str, before: frozenset[int], pid_file: str | None) -> NoReturn:
    try:
        _let_go_of_everything(pipe)
        own = _OwnMount(mountpoint, before)
        try:
            _end_with_the_daemon(daemon)
            _wait_for_the_end(pipe, own)
            signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # the end was heard of in the other way
        except _DaemonGoneError:
            pass
        if (mount := own.left()) is not None:
            _take_away(mount)
        own.abort()
        if pid_file is not None:
            _remove_pid_file(pid_file, daemon)
    finally:
        os._exit(0)


class _DaemonGoneError(Exception):
    """The daemon's main thread has ended."""


def _end_with_the_daemon(daemon: int) -> None:
    """Have _DaemonGoneError raised when the daemon's main thread ends."""

    def gone(*_: object) -> NoReturn:
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # the next comes with the end of each other thread
        raise _DaemonGoneError

    signal.signal(signal.SIGUSR1, gone)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGUSR1)
    if os.getppid() != daemon:
        raise _DaemonGoneError


class _OwnMount:
    """The daemon's mount, as far as it is known. before: the mounts that were there when the supervisor started."""

    def __init__(self, mountpoint: str, before: frozenset[int]) -> None:
        self._mountpoint = mountpoint
        self._before = before
        self._mount: Mount | None = None
        self._vanished = False
        self._abort: int | None = None

    def named(self, mount_id: int) -> None:
        """Take the daemon's word which one it is."""
        self._mount = _with_id(mount_id)
        if self._mount is not None:
            with suppress(OSError), fusectl() as folder:  # users may only where it is mounted
                self._abort = open_control(folder, self._mount, "abort")

    def abort(self) -> None:
        """End every request of the mount that still waits for the daemon, where the kernel lets us."""
        if self._abort is not None:
            with suppress(OSError):
                os.write(self._abort, b"1")

    def look(self) -> None:
        """Note if it has vanished: what comes after it with the same id is another one."""
        if self._mount is not None and _with_id(self._mount.mount_id) != self._mount:
            self._vanished = True

    def left(self) -> Mount | None:
        """Return it if it is still there; if the daemon ended before it named it, what is new at the mountpoint."""
        self.look()
        if self._vanished or self._mount is not None:
            return None if self._vanished else self._mount
        top = topmost(self._mountpoint)
        return top if top and top.type == FUSE_TYPE and top.mount_id not in self._before else None


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


def _wait_for_the_end(pipe: int, own: _OwnMount) -> None:
    """Return when the daemon has closed its end of the pipe."""
    table = os.open(MOUNTINFO, os.O_RDONLY)
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    poll.register(table, select.POLLPRI)
    while True:
        for descriptor, _ in poll.poll():
            if descriptor == pipe:
                said = os.read(pipe, 64)
                if not said:
                    return
                own.named(int(said))
        own.look()


def _remove_pid_file(path: str, daemon: int) -> None:
    """Remove the pid file unless it is another daemon's by now, which may be about to write its number into it."""
    with suppress(OSError):
        if os.path.isfile(path):
            with open(path, encoding="ascii", errors="replace") as file:
                said = file.read(64).strip()
                if said == "":
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if said in ("", str(daemon)):
                    os.unlink(path)


def _with_id(mount_id: int) -> Mount | None:
    return next((mount for mount in mounts() if mount.mount_id == mount_id), None)


def _take_away(own: Mount) -> None:
    """Detach this mount if it is still the one seen at its mountpoint."""
    for _ in range(_TRIES):
        if topmost(own.mountpoint) != own:
            return
        try:
            detach(own.mountpoint, lazy=True)
        except VdifsError:
            time.sleep(_BETWEEN_TRIES_S)
        else:
            return  # a mount that looks like it from now on is another one
