"""Running programs: what they cost in time, processor and memory, and that none is left behind."""

import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeVar

__all__ = ["Cost", "Daemon", "FailedError", "daemon", "output_of", "run", "timed"]

_PATIENCE_S = 60.0
_POLL_S = 0.005
_TICKS = os.sysconf("SC_CLK_TCK")
Number = TypeVar("Number", int, float)


class FailedError(Exception):
    """A program failed, or gave a wrong answer."""


@dataclass(frozen=True, slots=True)
class Cost:
    """cpu: seconds of user and system of the command and of all it waited for."""

    seconds: float
    cpu: float


def timed(*command: str | Path, stdin: str = "") -> Cost:
    """Run `command`, its output thrown away, and return what it cost. Raises FailedError with what it complained of."""
    started = time.perf_counter()
    with _child(command, stdin, subprocess.DEVNULL) as child:
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - started
        child.returncode = os.waitstatus_to_exitcode(status)
    return Cost(seconds, usage.ru_utime + usage.ru_stime)


def run(*command: str | Path, stdin: str = "") -> None:
    """Run `command`. Raises FailedError."""
    timed(*command, stdin=stdin)


def output_of(*command: str | Path) -> bytes:
    """Return what `command` writes to standard output. Raises FailedError."""
    with _child(command, "", subprocess.PIPE) as child:
        written, _ = child.communicate()
    return written


@contextmanager
def _child(command: tuple[str | Path, ...], stdin: str, stdout: int) -> Iterator["subprocess.Popen[bytes]"]:
    """Start `command`, whom the block must wait for; raise FailedError unless it ended well."""
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as spoken:
        given.write(stdin.encode())
        given.seek(0)
        child = subprocess.Popen(command, stdin=given, stdout=stdout, stderr=spoken)
        try:
            yield child
        except BaseException:
            child.kill()
            child.wait()
            raise
        if child.returncode:
            raise FailedError(f"{_shown(command)}: status {child.returncode}: {_last_line(spoken)}")


def _shown(command: tuple[str | Path, ...]) -> str:
    return " ".join(str(word) for word in command)


def _last_line(file: IO[bytes]) -> str:
    file.seek(0)
    lines = file.read().decode(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")


@dataclass(frozen=True, slots=True)
class Daemon:
    """A file server that answers. idle: its memory before the first request."""

    pid: int
    idle: int

    def cpu(self) -> float:
        """Return the seconds of user and system it has used."""
        return _sum_of(self.pid, _cpu_of)

    def growth(self) -> int:
        """Return by how many bytes its memory has exceeded that of its idle state, at the worst moment since."""
        return _sum_of(self.pid, _most_memory_of) - self.idle


@contextmanager
def daemon(*command: str | Path, answers: Callable[[], bool]) -> Iterator[Daemon]:
    """Start a server that stays in the foreground, wait until it answers, and end it. Raises FailedError.

    It ends with SIGTERM, which it also gets should this process be killed.
    """
    with tempfile.TemporaryFile() as spoken:
        child = subprocess.Popen(
            ["setpriv", "--pdeathsig", "TERM", *command],
            stdin=subprocess.DEVNULL,
            stdout=spoken,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for us alone: who still reads from it would hang
        )
        try:
            deadline = time.monotonic() + _PATIENCE_S
            while not answers():
                if child.poll() is not None:
                    raise FailedError(f"{_shown(command)}: ended at once: {_last_line(spoken)}")
                if time.monotonic() > deadline:
                    raise FailedError(f"{_shown(command)}: does not answer")
                time.sleep(_POLL_S)
            yield Daemon(child.pid, _idle_memory_of(child.pid))
        finally:
            _end(child)


def _end(child: "subprocess.Popen[bytes]") -> None:
    child.send_signal(signal.SIGTERM)
    try:
        child.wait(_PATIENCE_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _family(pid: int) -> list[int]:
    """Return a process and all that descend from it."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int(_stat_fields(int(folder.name))[1])
        except OSError:
            continue  # it has ended
        children.setdefault(parent, []).append(int(folder.name))
    found = [pid]
    for one in found:
        found.extend(children.get(one, []))
    return found


def _sum_of(pid: int, cost_of: Callable[[int], Number]) -> Number:
    """Return what a process costs with all that descend from it. One of these that has just ended counts 0."""
    total = cost_of(pid)
    for one in _family(pid)[1:]:
        with suppress(OSError):
            total += cost_of(one)
    return total


def _stat_fields(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat behind the program's name, which may hold anything."""
    return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()


def _cpu_of(pid: int) -> float:
    fields = _stat_fields(pid)
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _memory_of(pid: int) -> int:
    """Return the bytes that are in memory now."""
    return _memory_field(pid, "VmRSS")


def _most_memory_of(pid: int) -> int:
    """Return the most bytes that ever were in memory."""
    return _memory_field(pid, "VmHWM")


def _memory_field(pid: int, name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def _idle_memory_of(pid: int) -> int:
    """Have the most that ever was begin with now, and return what is in memory."""
    for one in _family(pid):
        with suppress(OSError):  # of a daemon that has given up its rights, or a child that has ended
            Path(f"/proc/{one}/clear_refs").write_text("5")
    return _sum_of(pid, _memory_of)
