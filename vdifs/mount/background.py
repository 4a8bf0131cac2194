"""Going to the background: the caller returns once the mount answers, or gets the daemon's own error.

caller  --fork-->  daemon: new session, standard files to /dev/null
   |  <--pipe--       one line of JSON: the mount answers, and what it says; or an error; nothing: it died
"""

import json
import os
import signal
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import NoReturn, TextIO

from vdifs.errors import UsageError, VdifsError

__all__ = ["Ready", "in_background"]

Ready = Callable[[str], None]
"""Called once the mount answers, with a line for whoever mounts, or an empty one."""


def in_background(
    daemon: Callable[[Ready], None], meanwhile: Callable[[], AbstractContextManager[object]] = nullcontext
) -> str:
    """Run `daemon` in its own process and return what it calls its argument with. Raises the VdifsError it fails with.

    meanwhile: entered while it is waited for, after the fork, so that it may start threads. Ctrl-C ends the daemon too,
    which has a session of its own and would not hear of it.
    """
    reading, writing = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        _become(daemon, os.fdopen(writing, "w"))
    os.close(writing)
    try:
        with open(reading) as pipe, meanwhile():
            said = pipe.readline()
    except KeyboardInterrupt:
        os.kill(pid, signal.SIGTERM)
        os.waitpid(pid, 0)
        raise
    if (answer := _answer(said)) is not None:
        return answer
    os.waitpid(pid, 0)
    raise _error(said)


def _become(daemon: Callable[[Ready], None], report: TextIO) -> NoReturn:
    """Be the daemon. Never returns to the caller's code, whose `finally` clauses are not the daemon's to run."""
    status = 1
    try:
        os.setsid()
        os.chdir("/")
        _close_standard_files()
        daemon(lambda line: _say(report, {"said": line}))
        status = 0
    except VdifsError as error:
        status = error.exit_code
        _say(report, {"message": str(error), "errno": error.errno, "exit_code": error.exit_code})
    except BaseException as error:  # noqa: BLE001 - the last thing this process does: the caller shall hear of it
        _say(report, {"message": f"the daemon failed: {type(error).__name__}: {error}"})
    finally:
        os._exit(status)


def _close_standard_files() -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    os.close(null)


def _say(report: TextIO, what: dict[str, object]) -> None:
    if report.closed:
        return
    try:
        with report:
            report.write(json.dumps(what) + "\n")
    except BrokenPipeError:
        pass  # the caller did not wait


def _answer(said: str) -> str | None:
    """Return what the daemon says of a mount that answers, None if it says something else."""
    what = json.loads(said) if said else {}
    return str(what["said"]) if "said" in what else None


def _error(said: str) -> VdifsError:
    if not said:
        return VdifsError("the daemon ended before the mount answered: try it with -f to see why")
    what = json.loads(said)
    kind = UsageError if what.get("exit_code") == UsageError.exit_code else VdifsError
    return kind(what["message"], errno=what.get("errno"))
