"""Where the programs begin. The first thing that happens is that Ctrl-C ends them, without a word of Python's.

Imports as little as can be before that: until then an interrupt would end in a traceback.
"""

import os
import signal
import sys

__all__ = ["main", "mount_helper"]

_STANDARD_ERROR = 2
_ENDED_BY = (signal.SIGTERM, signal.SIGHUP)


def _leave(number: int, _: object) -> None:
    """End at once: while a command has begun nothing that is to be cleared away."""
    try:
        os.write(_STANDARD_ERROR, b"vdifs: interrupted\n")
    finally:
        os._exit(128 + number)


if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
    signal.signal(signal.SIGINT, _leave)
signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # asks an export how far it is, and is meant for every process called so


def main() -> int:
    """Run `vdifs`, and return the exit status."""
    from vdifs.cli.main import main as run

    return _end(run())


def mount_helper() -> int:
    """Run `mount.fuse.vdifs`, and return the exit status."""
    from vdifs.cli.mount_helper import main as run

    return _end(run())


def _end(status: int) -> int:
    """End, before Python gives up the handling of signals: by one that has ended the command, as service managers
    expect, but after Ctrl-C with its status. Returns the status where there is output left that cannot be written.
    """
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        return status
    number = status - 128
    if number in _ENDED_BY:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    os._exit(status)
