"""Waking an event loop that is stuck in reading /dev/fuse.

A request that is withdrawn between poll and read, as its process was killed, leaves nothing to read: pyfuse3's read
sleeps until the next request comes, and meanwhile no answer of a thread is passed on and no deadline met. A signal ends
that sleep, and pyfuse3 goes back to its loop. So while anything is awaited from a thread, one comes ten times a second.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Poke"]

PERIOD_S = 0.1


class Poke:
    """Sends this process SIGALRM while it is needed. Only for the main thread."""

    def __init__(self) -> None:
        self._needed = 0
        signal.signal(signal.SIGALRM, lambda *_: None)  # a handler, if an empty one: else the signal ends the process

    @contextmanager
    def needed(self) -> Iterator[None]:
        """Send signals as long as a thread is inside."""
        self._needed += 1
        if self._needed == 1:
            signal.setitimer(signal.ITIMER_REAL, PERIOD_S, PERIOD_S)
        try:
            yield
        finally:
            self._needed -= 1
            if not self._needed:
                signal.setitimer(signal.ITIMER_REAL, 0)
