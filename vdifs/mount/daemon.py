"""The life of a mount: `mount` starts its daemon, `umount` ends it. Imports FUSE and trio only in the daemon itself.

mount(options)   checks -> [fork: background] -> fork: supervisor -> serve ... -> supervisor detaches -> gone
"""

import logging
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

from vdifs.errors import StorageError, VdifsError
from vdifs.mount.background import Ready, in_background
from vdifs.mount.heap import keep_read_buffers
from vdifs.mount.logs import logging_to
from vdifs.mount.mountpoint import check_machine, check_mountpoint
from vdifs.mount.options import MountOptions
from vdifs.mount.supervisor import Supervisor
from vdifs.mount.unmount import lock_mountpoint, umount

__all__ = ["MountOptions", "mount", "umount"]

log = logging.getLogger("vdifs.mount")


def mount(options: MountOptions) -> None:
    """Mount, and return once the mount answers; with options.foreground, once it has been unmounted.

    Raises VdifsError, UsageError, also for what happens in the daemon before the mount answers.
    """
    options = options.checked()
    check_machine()
    options = replace(options, mountpoint=check_mountpoint(options))
    if options.foreground:
        _run(options, lambda: None)
    else:
        in_background(lambda ready: _run(options, ready))


def _run(options: MountOptions, ready: Ready) -> None:
    """Be the daemon, from here to the end of the mount."""
    supervisor = Supervisor.start(options.mountpoint)
    lock = lock_mountpoint(options.mountpoint)

    def answers() -> None:
        if options.pid_file is not None:
            _write_pid(options.pid_file)
        ready()

    try:
        with logging_to(options), _failures_logged(options):
            _allow_many_files()
            keep_read_buffers()
            from vdifs.mount.serve import serve  # after the fork: the supervisor needs none of it

            serve(options, supervisor, answers)
    finally:
        supervisor.finish()
        if options.pid_file is not None:
            with suppress(OSError):
                os.unlink(options.pid_file)
        if lock is not None:
            os.close(lock)


def _write_pid(path: str) -> None:
    try:
        with open(path, "w") as file:
            file.write(f"{os.getpid()}\n")
    except OSError as error:
        raise StorageError.from_os(path, error, "choose another pid file") from error


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
