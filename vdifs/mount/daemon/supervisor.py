"""The process that takes the mount away when the daemon has gone, however it went.

    vdifs mount                      forked before /dev/fuse is opened, so that the daemon alone holds the mount
      |-- supervisor                 waits: end of the pipe = the daemon has gone
      `-- (goes on as the daemon)    holds the pipe's other end, and says in it: which mount is its own; it answers

A thread of the daemon that hangs in a source keeps the pipe open even after kill -9, so the end of the daemon's main
thread counts too. A mountpoint may serve another mount by then. So the daemon tells which mount is its own, and the
supervisor, which is woken whenever the table of mounts changes, takes nothing away once that one has vanished.

A thread of the daemon may also hang in the mount itself, where it drops pages that are being read. It keeps /dev/fuse
open, so the readers would never be told that the daemon is gone: the supervisor aborts the connection.

The supervisor keeps the right to unmount, which the daemon gives up; so it believes nothing. The first word that it is
told counts, which comes before the daemon answers its first request, and only if it names what is a mount of ours, at
the mountpoint that the supervisor was started for, and was not there then. Of what comes after that it reads nothing
but the end. A signal that tells of the daemon's end may be sent by any process, too.

The daemon also gives up the right to open files for writing: where its log was moved away, a child of the supervisor
opens it anew (log_opener).
"""

import fcntl
import logging
import os
import select
import signal
import time
from collections.abc import Collection
from contextlib import suppress
from typing import NoReturn, Self

from vdifs.errors import VdifsError, printable
from vdifs.linux.capabilities import keep_what_unmounting_needs
from vdifs.linux.descriptors import close_all_but, standard_to_null
from vdifs.linux.libc import call
from vdifs.linux.mountinfo import FUSE_TYPE, MOUNTINFO, Mount, mounts, topmost
from vdifs.linux.processes import state_of
from vdifs.mount.daemon.detach import detach_only
from vdifs.mount.daemon.log_opener import LogAnswers, LogOpener
from vdifs.mount.daemon.remedies import unmounting
from vdifs.mount.daemon.signals import blocked, ignore_all_but_ending, set_ending
from vdifs.mount.fuse.fusectl import fusectl, open_control

__all__ = ["Supervisor"]

_PR_SET_PDEATHSIG = 1
_TRIES = 20
_BETWEEN_TRIES_S = 0.1
_ANSWERS = b"answers\n"
_LONGEST_WORD = 64
_ENDS_WITHIN_S = 0.2
"""So long it may take from the signal that tells of the end of the daemon's main thread until /proc tells of it."""
log = logging.getLogger("vdifs.mount")


class Supervisor:
    """The daemon's side of it. pid, pidfd: of the supervisor, the latter if the kernel has such.

    log_opener: begins the log file anew, None without one.
    """

    def __init__(self, pid: int, pipe: int, log_opener: LogOpener | None) -> None:
        self.pid = pid
        self.log_opener = log_opener
        self.pidfd: int | None = None
        with suppress(OSError):
            self.pidfd = os.pidfd_open(pid)
        self._pipe = pipe
        self._own: Mount | None = None
        self._finished = False

    @classmethod
    def start(cls, mountpoint: str, pid_file: str | None = None, log_file: str | None = None) -> Self:
        """Fork the supervisor of a mount that is about to be made at `mountpoint`. Call it before any thread runs.

        pid_file: removed at the end, if it is the daemon's, which may not. log_file: begun anew when it was moved away.
        """
        before = frozenset(mounts())
        reading, writing = os.pipe()
        answers, opener = (None, None) if log_file is None else LogAnswers.pair(log_file)
        daemon = os.getpid()
        with blocked():
            pid = os.fork()
            if pid == 0:
                _supervise(daemon, reading, answers, _OwnMount(mountpoint, before), pid_file)
        os.close(reading)
        if answers is not None:
            answers.close()
        return cls(pid, writing, opener)

    def watch(self, mount: Mount) -> None:
        """Say which mount is the daemon's."""
        self._own = mount
        self._say(b"%d\n" % mount.mount_id)

    def answers(self) -> None:
        """Say that the mount answers: the supervisor may leave the process group that an automounter knows."""
        self._say(_ANSWERS)

    def _say(self, word: bytes) -> None:
        with suppress(BrokenPipeError):  # a supervisor that was killed is made up for by `finish`
            os.write(self._pipe, word)

    def finish(self) -> None:
        """Have the mount taken away, and return when that is done. Only the first call does anything."""
        if self._finished:
            return
        self._finished = True
        os.close(self._pipe)
        try:
            _, status = os.waitpid(self.pid, 0)
        except ChildProcessError:
            return  # our parent ignores SIGCHLD: then children are waited for, but say nothing
        if os.WIFSIGNALED(status) and self._own is not None:
            self._take_away_alone(self._own)

    def _take_away_alone(self, own: Mount) -> None:
        """Take the mount away without the supervisor, if the daemon may, or say who can."""
        with suppress(OSError):
            _take_away(own)
        if topmost(own.mountpoint) == own:
            remedy = f"take it away with '{unmounting(own.mountpoint)}'"
            log.error("%s: a dead mount stays, as its supervisor was killed: %s", printable(own.mountpoint), remedy)


def _supervise(daemon: int, pipe: int, answers: LogAnswers | None, own: "_OwnMount", pid_file: str | None) -> NoReturn:
    try:
        _let_go_of_everything((pipe,) if answers is None else (pipe, answers.descriptor))
        if answers is not None:
            with suppress(OSError):  # no process can be started: the daemon goes on in the old file
                answers.start()
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

    def perhaps_gone(*_: object) -> None:
        if _has_ended(daemon):
            signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # the next comes with the end of each other thread
            raise _DaemonGoneError

    signal.signal(signal.SIGUSR1, perhaps_gone)
    call("prctl", _PR_SET_PDEATHSIG, signal.SIGUSR1, 0, 0, 0)
    if os.getppid() != daemon:
        raise _DaemonGoneError


def _has_ended(daemon: int) -> bool:
    """Tell whether the daemon's main thread has, or is about to: the kernel sends the signal a moment before that."""
    deadline = time.monotonic() + _ENDS_WITHIN_S
    while os.getppid() == daemon and state_of(daemon) not in ("Z", "X"):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.001)
    return True


class _OwnMount:
    """The daemon's mount, as far as it is known. before: the mounts that were there when the supervisor started."""

    def __init__(self, mountpoint: str, before: frozenset[Mount]) -> None:
        self._mountpoint = mountpoint
        self._before = before
        self._mount: Mount | None = None
        self._vanished = False
        self._abort: int | None = None

    def named(self, word: bytes) -> None:
        """Take the daemon's word which one it is, if it may be the one."""
        mount = _with_id(int(word)) if word.isdigit() else None
        if mount is None or not self._may_be(mount):
            return
        self._mount = mount
        with suppress(OSError), fusectl() as folder:  # users may only where it is mounted
            self._abort = open_control(folder, self._mount, "abort")

    def _may_be(self, mount: Mount) -> bool:
        return mount.type == FUSE_TYPE and mount.mountpoint == self._mountpoint and mount not in self._before

    def abort(self) -> None:
        """End every request of the mount that still waits for the daemon, where the kernel lets us."""
        if self._abort is not None:
            with suppress(OSError):
                os.write(self._abort, b"1")

    def look(self) -> None:
        """Take note if the mount has vanished: what comes after it with the same id is another one."""
        if self._mount is not None and _with_id(self._mount.mount_id) != self._mount:
            self._vanished = True

    def left(self) -> Mount | None:
        """Return it if it is still there; if the daemon ended before it named it, what is new at the mountpoint."""
        self.look()
        if self._vanished or self._mount is not None:
            return None if self._vanished else self._mount
        top = topmost(self._mountpoint)
        return top if top and self._may_be(top) else None


def _let_go_of_everything(kept: Collection[int]) -> None:
    """Keep nothing of the daemon but `kept`: no terminal, no folder, no file, no part in its signals, few rights.

    It stays in the daemon's process group until the mount answers: an automounter would else have it wait for that
    very mount where it has to take it away before.
    """
    set_ending(signal.SIG_IGN)
    ignore_all_but_ending()
    signal.signal(signal.SIGTSTP, signal.SIG_IGN)
    os.chdir("/")
    standard_to_null()
    close_all_but(kept)
    keep_what_unmounting_needs()


def _wait_for_the_end(pipe: int, own: _OwnMount) -> None:
    """Return when the daemon has closed its end of the pipe."""
    words = _Words(own)
    table = os.open(MOUNTINFO, os.O_RDONLY | os.O_CLOEXEC)
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    poll.register(table, select.POLLPRI)
    while True:
        for descriptor, event in poll.poll():
            if descriptor != pipe:
                continue
            if not event & select.POLLIN:
                return
            said = os.read(pipe, _LONGEST_WORD)
            if not said:
                return
            if words.take(said):
                poll.modify(pipe, 0)  # which still tells of the end
        own.look()


class _Words:
    """What the daemon says: the number of its mount, and later that it answers. Anything else is no word of it."""

    def __init__(self, own: _OwnMount) -> None:
        self._own = own
        self._said = b""
        self._named = False

    def take(self, said: bytes) -> bool:
        """Take a piece of it; return whether that was all."""
        self._said += said
        if not self._named and b"\n" in self._said:
            word, _, self._said = self._said.partition(b"\n")
            self._own.named(word)
            self._named = True
        if b"\n" not in self._said and len(self._said) < _LONGEST_WORD:
            return False
        with suppress(OSError):
            os.setsid()
        return True


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
            detach_only(own)
        except (VdifsError, OSError):
            time.sleep(_BETWEEN_TRIES_S)
        else:
            return  # a mount that looks like it from now on is another one
