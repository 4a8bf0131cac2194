"""Mounts of vdifs that are watched from outside: what their daemon holds, and what it leaves behind."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.torture.scratch import detach, mounted_beneath
from tests.torture.tally import Kind
from tests.torture.task import Task

__all__ = ["VDIFS", "BrokenError", "Mount", "eventually", "is_running", "mounted"]

VDIFS = Path(sys.executable).with_name("vdifs")
_PATIENCE_S = 60.0
_TICK_S = 0.005
_LONGEST_TURN_S = 0.1


class BrokenError(Exception):
    """Something that was waited for did not come."""


def eventually(condition: Callable[[], object], within: float, what: str) -> float:
    """Wait until `condition` holds; return how many seconds that took. Raises BrokenError.

    Seconds in which the machine stood still, for this process too, do not count for `within`.
    """
    began, waited = time.monotonic(), 0.0
    while True:
        turn = time.monotonic()
        if condition():
            return time.monotonic() - began
        if waited > within:
            raise BrokenError(f"{what}: not within {within:g} s")
        time.sleep(_TICK_S)
        waited += min(time.monotonic() - turn, _LONGEST_TURN_S)


def is_running(pid: int) -> bool:
    """Whether the process is there, and no zombie that waits for its parent."""
    return state_of(pid) not in ("", "Z", "X")


def state_of(pid: int) -> str:
    """Return the letter of a process's state, "" if it is not there."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


@dataclass(slots=True)
class Mount:
    """A mount that answers. pid: of the daemon. ended: it was told to end, which then is no crash."""

    path: Path
    pid: int
    log: Path
    ended: bool = False

    def descriptors(self) -> int:
        """Return how many files the daemon holds open."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def threads(self) -> int:
        """Return how many threads the daemon has."""
        return len(os.listdir(f"/proc/{self.pid}/task"))

    def memory(self) -> int:
        """Return the bytes of memory of the daemon (Pss)."""
        text = Path(f"/proc/{self.pid}/smaps_rollup").read_text()
        found = re.search(r"^Pss: +(\d+) kB", text, re.MULTILINE)
        return int(found[1]) * 1024 if found else 0

    def tracebacks(self) -> list[str]:
        """Return the last line of each traceback in the log."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return [part.splitlines()[0] for part in re.findall(r"^Traceback .*\n(?: .*\n)*(.*)", text, re.MULTILINE)]

    def is_mounted(self) -> bool:
        """Whether the mount is still in the table of mounts."""
        return self.path in mounted_beneath(self.path)


@contextmanager
def mounted(task: Task, source: Path, *options: str, name: str = "mnt") -> Iterator[Mount]:
    """Mount `source`; unmount when the block ends. What the daemon did wrong until then becomes findings."""
    path, log = task.folder / name, task.folder / f"{name}.log"
    path.mkdir(exist_ok=True)
    log.unlink(missing_ok=True)
    process = _started(source, path, log, options)
    mount = Mount(path, process.pid, log)
    try:
        eventually(lambda: mount.is_mounted() or process.poll() is not None, _PATIENCE_S, "the mount")
        if process.poll() is not None:
            raise BrokenError(f"vdifs mount ended with {process.returncode}: {log.read_text()}")
        os.listdir(path)
        yield mount
        if process.poll() is not None and not (mount.ended and process.returncode == 0):
            task.found(Kind.CRASH, f"the daemon ended with {process.returncode}")
    finally:
        _end(process, mount)
        for line in mount.tracebacks():
            task.found(Kind.CRASH, f"in the log: {line}")


def _started(source: Path, path: Path, log: Path, options: tuple[str, ...]) -> "subprocess.Popen[bytes]":
    command = [str(VDIFS), "mount", "-f", "--log-file", str(log), *options, str(source), str(path)]
    with log.open("ab") as said:
        return subprocess.Popen(
            ["setpriv", "--pdeathsig", "TERM", *command],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            start_new_session=True,  # Ctrl-C is for us alone: who still reads from it would hang
        )


def _end(process: "subprocess.Popen[bytes]", mount: Mount) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
    detach(mount.path)
    with suppress(subprocess.TimeoutExpired):  # a thread that hangs in a source ends with that
        process.wait(5)
