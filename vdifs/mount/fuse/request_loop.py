"""Taking requests from the kernel without a turn of the event loop for each.

pyfuse3 waits for /dev/fuse through trio before each request: epoll_ctl, epoll_wait, and two tasks that hand each other
a lock, which together cost more than answering from the page cache. So the task that has just answered looks whether
the next request is there already, and takes it. After a while it lets the event loop turn, for timers and threads.

pyfuse3 asks the module `pyfuse3.trio` for what it needs of trio, and `pyfuse3.asyncio` puts another in its place; so
does this.

A reader that waits for each answer asks again within some microseconds. While one does, the task looks for that long
before it sleeps: going to sleep and being woken takes longer.
"""

import select
import time
from types import SimpleNamespace, TracebackType

import pyfuse3
import trio

__all__ = ["take_requests_in_a_row"]

_LONGEST_S = 0.002
"""So long requests may follow each other before the event loop turns."""
_SPIN_S = 25e-6
"""So long a task looks for the next request before it sleeps, while requests come that fast."""
_PROMPT_S = 100e-6
"""One that came that soon after a task fell asleep shows that they do."""


class _RequestLock:
    """Who may read /dev/fuse: what pyfuse3 takes for a lock around `wait_readable`.

    A task that finds a request waiting passes the one that holds the lock and sleeps. No other task runs between its
    entering and its leaving, and the sleeper looks again when it wakes.
    """

    def __init__(self) -> None:
        self._lock = trio.Lock()
        self._poll: select.poll | None = None
        self._passing = False
        self._row_ends = 0.0
        self._prompt = False

    async def __aenter__(self) -> None:
        if self._finds_request():
            self._passing = True
        else:
            await self._lock.acquire()

    def _finds_request(self) -> bool:
        """Tell whether a request waits, or comes at once, that may be taken before the event loop turns."""
        now = time.monotonic()
        if self._poll is None or now > self._row_ends:
            return False
        spin_ends = now + _SPIN_S if self._prompt else now
        while not self._poll.poll(0):
            if time.monotonic() >= spin_ends:
                self._prompt = False
                return False
        return True

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self._passing:
            self._passing = False
        else:
            self._lock.release()

    async def wait_readable(self, descriptor: int) -> None:
        """Return when a request can be read, at once where __aenter__ has seen one."""
        if self._passing:
            return
        if self._poll is None:
            self._poll = select.poll()
            self._poll.register(descriptor, select.POLLIN)
        asleep = time.monotonic()
        while True:
            await trio.lowlevel.wait_readable(descriptor)
            if self._poll.poll(0):
                break
        now = time.monotonic()
        self._prompt = now - asleep < _PROMPT_S
        self._row_ends = now + _LONGEST_S


def take_requests_in_a_row() -> None:
    """Have `pyfuse3.main` take requests that way. For one session in a process."""
    lock = _RequestLock()
    lowlevel = SimpleNamespace(
        current_task=trio.lowlevel.current_task,
        current_trio_token=trio.lowlevel.current_trio_token,
        notify_closing=trio.lowlevel.notify_closing,
        wait_readable=lock.wait_readable,
    )
    pyfuse3.trio = SimpleNamespace(  # type: ignore[attr-defined] # its stubs leave the module's imports out
        ClosedResourceError=trio.ClosedResourceError,
        Lock=lambda: lock,
        from_thread=trio.from_thread,
        lowlevel=lowlevel,
        open_nursery=trio.open_nursery,
    )
