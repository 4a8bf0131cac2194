"""How busy other work keeps the machine while something is measured."""

import os
import resource
import time
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Moment", "now", "others_since"]

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Moment:
    """A point in time, in seconds.

    busy: processor time of all that runs on the machine
    own: that of this process and of the children that it has waited for
    """

    at: float
    busy: float
    own: float


def now() -> Moment:
    """Return how much work has been done so far."""
    return Moment(time.monotonic(), _busy(), _used(resource.RUSAGE_SELF) + _used(resource.RUSAGE_CHILDREN))


def others_since(then: Moment) -> float:
    """Return how many processors were kept busy by others since `then`: programs, other machines, the kernel itself."""
    return others_between(then, now())


def others_between(then: Moment, later: Moment) -> float:
    """Return the same of two moments; 0 where they are one."""
    seconds = later.at - then.at
    work = later.busy - then.busy - (later.own - then.own)
    return max(0.0, work / seconds) if seconds > 0 else 0.0


def _used(whose: int) -> float:
    usage = resource.getrusage(whose)
    return usage.ru_utime + usage.ru_stime


def _busy() -> float:
    user, nice, system, _idle, _iowait, irq, softirq, steal = _fields()
    return (user + nice + system + irq + softirq + steal) / _TICKS


def _fields() -> list[int]:
    """Return the first eight numbers of all processors; time of guests is within that of users."""
    with Path("/proc/stat").open(encoding="ascii") as file:
        return [int(field) for field in file.readline().split()[1:9]]
