"""The life of a mount: `mount` starts its daemon, `umount` ends it. Imports FUSE and trio only in the daemon itself.

mount(options)   checks -> [fork: background] -> fork: supervisor -> serve ... -> supervisor detaches -> gone
"""

import fcntl
import logging
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import replace

from vdifs.errors import Interrupted, StorageError, VdifsError, printable
from vdifs.linux.descriptors import keep_from_programs
from vdifs.linux.heap import keep_read_buffers
from vdifs.linux.mountinfo import FUSE_TYPE, topmost
from vdifs.linux.service_manager import service_manager
from vdifs.mount.daemon.background import Ready, in_background
from vdifs.mount.daemon.logs import logging_to
from vdifs.mount.daemon.mountpoint import check_machine, check_mountpoint
from vdifs.mount.daemon.signals import ignore_all_but_ending, noted, raise_on_ending, set_ending
from vdifs.mount.daemon.supervisor import Supervisor
from vdifs.mount.daemon.unmount import lock_mountpoint, umount
from vdifs.mount.view.options import MountOptions

__all__ = ["MountOptions", "mount", "umount"]

_PATIENCE_S = 5.0
_POLL_S = 0.02
_PRIVATE = 0o077
_NOT_FOR_OTHERS_TO_WRITE = 0o022

log = logging.getLogger("vdifs.mount")


def mount(options: MountOptions, meanwhile: Callable[[], AbstractContextManager[object]] = nullcontext) -> str:
    """Mount, and return once the mount answers; with options.foreground, once it has been unmounted.

    Returns a line that tells what is not served, if anything; in the foreground that is in the log, and on standard
    error.
    meanwhile: entered while a daemon that goes to the background is waited for.
    Raises VdifsError, UsageError, also for what happens in the daemon before the mount answers; Interrupted where a
    signal comes before that: then nothing is mounted. From here on this process heeds no other signals.
    """
    ignore_all_but_ending()
    options = options.checked()
    check_machine()
    options = replace(options, mountpoint=check_mountpoint(options))
    if options.foreground:
        keep_from_programs()
        with service_manager() as say:

            def ready(line: str) -> None:
                say(f"READY=1\nSTATUS=mounted at {printable(options.mountpoint)}")
                if line and options.log_file is not None:
                    with suppress(OSError, ValueError):  # standard error has gone
                        sys.stderr.write(f"vdifs: {line}\n")

            _run(options, ready)
        return ""
    try:
        return in_background(lambda ready: _run(options, ready), meanwhile)
    except (Interrupted, VdifsError):
        _wait_until_gone(options.mountpoint)
        raise


def _wait_until_gone(mountpoint: str) -> None:
    """Return once the supervisor of a daemon that is gone has taken its mount away, or has had time enough for that."""
    deadline = time.monotonic() + _PATIENCE_S
    while (there := topmost(mountpoint)) is not None and there.type == FUSE_TYPE and time.monotonic() < deadline:
        time.sleep(_POLL_S)


def _run(options: MountOptions, ready: Ready) -> None:
    """Be the daemon, from here to the end of the mount."""
    ignore_all_but_ending()
    raise_on_ending()
    os.umask(os.umask(_PRIVATE) & _PRIVATE | _NOT_FOR_OTHERS_TO_WRITE)
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # threads from before the confinement would not be confined
    supervisor = Supervisor.start(options.mountpoint, options.pid_file, options.log_file)
    lock_mountpoint(options.mountpoint)
    try:
        with (
            logging_to(options, supervisor.log_opener) as log_thread,
            _finishing(supervisor),
            _failures_logged(options),
        ):
            _allow_many_files()
            keep_read_buffers()
            with noted() as signals:  # what a signal raises in the middle of an import comes out as another error
                from vdifs.mount.daemon.serve import serve  # after the fork: the supervisor needs none of it
            if signals:
                raise Interrupted(signals[0])

            with _pid_file(options) as pid_file:

                def answers(line: str) -> None:
                    pid_file.write()
                    supervisor.answers()
                    ready(line)

                serve(options, supervisor, answers, log_thread)
    finally:
        supervisor.finish()


@contextmanager
def _finishing(supervisor: Supervisor) -> Iterator[None]:
    """Have the mount taken away at the end, while there is still a log to say what went wrong with that."""
    try:
        yield
    finally:
        set_ending(signal.SIG_IGN)  # it ends already, and a second signal would tear that in two
        supervisor.finish()


class _PidFile:
    """The pid file, opened while the daemon still may. Written once the mount answers; the supervisor removes it.

    It is locked, so that the supervisor of a daemon that ended before sees that the file has another owner by now. The
    descriptor that keeps the lock is not the one for writing, which is closed: what stands there stays there.
    """

    def __init__(self, writing: int, locked: int) -> None:
        self._writing: int | None = writing
        self._locked = locked

    def write(self) -> None:
        """Write the number of this process, once."""
        if self._writing is not None:
            os.write(self._writing, b"%d\n" % os.getpid())
            os.close(self._writing)
            self._writing = None

    def close(self) -> None:
        """Give the lock up."""
        os.close(self._locked)
        if self._writing is not None:
            os.close(self._writing)


@contextmanager
def _pid_file(options: MountOptions) -> Iterator[_PidFile]:
    path = options.pid_file or os.devnull
    try:
        writing = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        file = _PidFile(writing, os.open(f"/proc/self/fd/{writing}", os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        raise StorageError.from_os(path, error, "choose another pid file") from error
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(file._locked, fcntl.LOCK_SH | fcntl.LOCK_NB)
        yield file
    finally:
        file.close()


@contextmanager
def _failures_logged(options: MountOptions) -> Iterator[None]:
    """Log what ends the daemon, where the log is not what the caller prints the error to anyway."""
    try:
        yield
    except VdifsError as error:
        if not (options.foreground and options.log_file is None):
            log.error("%s", error)
        raise
    except Exception:
        log.exception("the daemon failed")
        raise


def _allow_many_files() -> None:
    """Allow as many open files as the system lets us: a chain may have 256."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
