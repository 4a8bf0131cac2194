"""Going to the background: the caller returns once the mount answers, or gets the daemon's own error.

caller  --fork-->  daemon: nothing of its caller's open, standard files to /dev/null
   |  <--pipe--       one line of JSON: the mount answers, and what it says; or an error; nothing: it died
                   new session, only now: an automounter (autofs, systemd) takes whatever is not in its own process
                   group for one more visitor, who has to wait for the mount
"""

import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NoReturn, TextIO

from vdifs.errors import Interrupted, UsageError, VdifsError
from vdifs.linux.descriptors import close_all_but, standard_to_null
from vdifs.mount.daemon.signals import ENDING, blocked, set_ending

__all__ = ["Ready", "in_background"]

Ready = Callable[[str], None]
"""Called once the mount answers, with a line for the user who mounts, or an empty one."""

_PATIENCE_S = 10.0
_POLL_S = 0.01
_PIECE = 1 << 16


def in_background(
    daemon: Callable[[Ready], None], meanwhile: Callable[[], AbstractContextManager[object]] = nullcontext
) -> str:
    """Run `daemon` in its own process and return what it calls its argument with. Raises the VdifsError it fails with.

    meanwhile: entered while it is waited for, after the fork, so that it may start threads.
    Raises Interrupted where a signal comes before the daemon's word: then there is no daemon any more. After that word
    signals are ignored, as it is too late to take it back.
    """
    reading, writing = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    with _signals_to_a_pipe() as signalled:
        with blocked():
            pid = os.fork()
            if pid == 0:
                _become(daemon, writing)
        os.close(writing)
        with meanwhile():
            said = _heard(reading, signalled)
        if said is None:
            _end(pid)
            raise Interrupted(os.read(signalled, 1)[0])
        what = _parsed(said)
        if "said" in what:
            set_ending(signal.SIG_IGN)
            return str(what["said"])
    os.waitpid(pid, 0)
    raise _error(what)


@contextmanager
def _signals_to_a_pipe() -> Iterator[int]:
    """Give a descriptor from which the numbers of the signals that would end this process can be read."""
    heeded = [number for number in (*ENDING, signal.SIGQUIT) if signal.getsignal(number) is not signal.SIG_IGN]
    reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    wakeup = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    before = {number: signal.signal(number, lambda *_: None) for number in heeded}
    try:
        yield reading
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in before.items():
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, handler)
        os.close(reading)
        os.close(writing)


def _heard(pipe: int, signalled: int) -> bytes | None:
    """Return what the daemon says, empty if it ends without a word; None if a signal comes first."""
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    poll.register(signalled, select.POLLIN)
    said = b""
    try:
        while b"\n" not in said:
            found = [descriptor for descriptor, _ in poll.poll()]
            if signalled in found:
                return None
            piece = os.read(pipe, _PIECE)
            if not piece:
                break
            said += piece
    finally:
        os.close(pipe)
    return said


def _end(pid: int) -> None:
    """End the daemon, and return when it has cleared away what it made, or has had time enough for that."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        os.kill(pid, number)
        deadline = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline:
            if os.waitpid(pid, os.WNOHANG)[0] == pid:
                return
            time.sleep(_POLL_S)


def _become(daemon: Callable[[Ready], None], pipe: int) -> NoReturn:
    """Be the daemon. Never returns to the caller's code, whose `finally` clauses are not the daemon's to run.

    Signals are blocked until the daemon sees to them itself.
    """
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        close_all_but((pipe,))
        standard_to_null()
        os.chdir("/")
        report = os.fdopen(pipe, "w")
        try:
            daemon(lambda line: _answering(report, line))
            status = 0
        except Interrupted as interrupted:
            status = 128 + interrupted.number
            _say(report, {"interrupted": interrupted.number})
        except VdifsError as error:
            status = error.exit_code
            value = {"what": error.what, "where": error.where, "remedy": error.remedy}
            _say(report, {**value, "errno": error.errno, "exit_code": error.exit_code})
        except BaseException as error:  # noqa: BLE001 - the last thing this process does: the caller shall hear of it
            what = f"the daemon failed: {type(error).__name__}: {error}"
            _say(report, {"what": what, "remedy": "run the command again with -f --debug and report what it says"})
    finally:
        os._exit(status)


def _answering(report: TextIO, line: str) -> None:
    """Leave the caller's session and tell it that the mount answers. Raises VdifsError if it does not hear it."""
    os.setsid()
    if not _say(report, {"said": line}):
        what = "the command that was to mount has ended before the mount answered"
        raise VdifsError(what, remedy="mount again")


def _say(report: TextIO, what: dict[str, object]) -> bool:
    """Tell the caller; return whether it was there to hear it."""
    if report.closed:
        return True
    try:
        with report:
            report.write(json.dumps(what) + "\n")
    except BrokenPipeError:
        return False
    return True


def _parsed(said: bytes) -> dict[str, Any]:
    """Return what the daemon has said, nothing where it has ended in the middle of it."""
    try:
        found: dict[str, Any] = json.loads(said)
    except ValueError:
        return {}
    return found


def _error(what: dict[str, Any]) -> VdifsError:
    if (number := what.get("interrupted")) is not None:
        name = signal.Signals(number).name
        return VdifsError(f"the daemon was ended by {name} before the mount answered", remedy="mount again")
    if "what" not in what:
        return VdifsError("the daemon ended before the mount answered", remedy="try it with -f to see why")
    error = VdifsError(what["what"], where=what.get("where"), remedy=what.get("remedy"), errno=what.get("errno"))
    return error.told_as(UsageError, errno=error.errno) if what.get("exit_code") == UsageError.exit_code else error
