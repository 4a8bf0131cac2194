"""Where the programs begin. The first thing that happens is that Ctrl-C ends them, without a word of Python's.

scripts/installed/vdifs, which starts them, has Ctrl-C wait until then. Where it cannot, an interrupt would end in a
traceback meanwhile: hence imports as little as can be before that.
"""

import os
import signal
import sys
from contextlib import suppress

__all__ = ["run"]

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
# A Ctrl-C that has waited comes now. A caller that wants no interruption has SIGINT ignored, as nohup does with SIGHUP,
# and it stays so; one that has it blocked has forgotten that, and the command would be deaf to Ctrl-C for ever.
signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])


def run() -> int:
    """Run `vdifs`, or what mount(8) calls `mount.fuse.vdifs`, and return the exit status."""
    name = os.path.basename(sys.argv[0])
    _be_called(name)
    if name.startswith("mount."):
        from vdifs.cli.commands.mount_helper import main as program
    else:
        from vdifs.cli.main import main as program
    return _end(program())


def _be_called(name: str) -> None:
    """Have pgrep, pkill and ps know this process by the command's name, not as one more Python."""
    with suppress(OSError), open("/proc/self/comm", "wb", buffering=0) as file:  # without /proc it is not called so
        file.write(os.fsencode(name))


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
