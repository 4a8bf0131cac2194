"""Limits on code that is given hostile input: time, address space, memory in use, and what it may raise."""

import ctypes
import resource
import signal
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from vdifs.errors import VdifsError

__all__ = ["CrashError", "Memory", "TooLong", "die_with_parent", "guarded"]

MOST_SECONDS = 5.0
MOST_MEMORY = 64 << 20
_ADDRESS_SPACE = 512 << 20


class TooLong(BaseException):
    """The time is over. No Exception: it must pass every `except Exception` on its way."""


class CrashError(Exception):
    """Something else than VdifsError was raised."""


@contextmanager
def guarded(step: str) -> Iterator[None]:
    """Raise TooLong when the block takes too long, CrashError when it raises what is no VdifsError."""

    seconds = MOST_SECONDS

    def over(_number: int, frame: FrameType | None) -> None:
        where = f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame else "?"
        raise TooLong(f"{step}: over {seconds:g} s at {where}")

    timer = signal.setitimer(signal.ITIMER_REAL, 0)
    previous = signal.signal(signal.SIGALRM, over)
    try:
        with _limited_address_space():
            try:
                signal.setitimer(signal.ITIMER_REAL, seconds)
                yield
            finally:  # no TooLong while the limit is taken away
                signal.setitimer(signal.ITIMER_REAL, 0)
    except VdifsError:
        raise
    except Exception as error:
        raise CrashError(f"{step}: {_where(error)}") from error
    finally:
        signal.signal(signal.SIGALRM, previous)
        signal.setitimer(signal.ITIMER_REAL, *timer)


def _where(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    calls = " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(frames[-5:]))
    return f"{type(error).__name__}: {error} at {calls}"


@contextmanager
def _limited_address_space() -> Iterator[None]:
    """Have unbounded allocations fail. Programs that are started meanwhile inherit the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + _ADDRESS_SPACE, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


class Memory:
    """The memory of this process above what it had when `forget_peak` was called last. first: what it had at first."""

    def __init__(self) -> None:
        self.first = self._idle = _field("VmRSS")

    def kept(self) -> int:
        """Return the bytes it had more at the last `forget_peak` than at first: what earlier trials left behind."""
        return self._idle - self.first

    def forget_peak(self) -> None:
        """Measure from now on."""
        ctypes.CDLL(None).malloc_trim(0)
        self._idle = _field("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")

    def peak(self) -> int:
        """Return the bytes of the largest growth since the last `forget_peak`."""
        return _field("VmHWM") - self._idle


def _field(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024


def die_with_parent() -> None:
    """Have the kernel kill this process when the one that started it ends."""
    set_death_signal = 1
    ctypes.CDLL(None).prctl(set_death_signal, signal.SIGKILL)
