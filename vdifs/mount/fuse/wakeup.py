"""Waking an event loop that is stuck in reading /dev/fuse.

A request that is withdrawn between poll and read, as its process was killed, leaves nothing to read: pyfuse3's read
sleeps until the next request comes, and meanwhile no answer of a thread is passed on and no deadline met. A signal ends
that sleep, and pyfuse3 goes back to its loop. So while anything is awaited from a thread, one comes ten times a second.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Wakeup"]

PERIOD_S = 0.1


class Wakeup:
    """Sends this process SIGALRM while a thread is waited for. Only for the main thread."""

    def __init__(self) -> None:
        self._waits = 0
        signal.signal(signal.SIGALRM, lambda *_: None)  # a handler, if an empty one: else the signal ends the process

    @contextmanager
    def while_waiting(self) -> Iterator[None]:
        """Send signals as long as what is inside waits for a thread."""
        self._waits += 1
        if self._waits == 1:
            signal.setitimer(signal.ITIMER_REAL, PERIOD_S, PERIOD_S)
        try:
            yield
        finally:
            self._waits -= 1
            if not self._waits:
                signal.setitimer(signal.ITIMER_REAL, 0)
