"""`.vdifs/status.json` for those who look at it: it says something else each time, and yet keeps to a size it has told.

    stat, open    the open gets what the size was told of, if it comes soon
    open, stat    the size is that of what was opened last

It ends on a whole sector, so that its size does not follow every counter: what two programs see at a time agrees.
"""

import time
from collections.abc import Awaitable, Callable

__all__ = ["SteadyContents"]

PROMISE_S = 1.0
"""How long a size that was told holds for the next open: programs ask for the size and open the file at once."""
_SECTOR = 512


class SteadyContents:
    """The states of the status file that are open, and the one that was promised. make: returns the present one."""

    def __init__(self, make: Callable[[], Awaitable[bytes]]) -> None:
        self._make = make
        self._open: list[bytes] = []
        self._promised: bytes | None = None
        self._promised_at = 0.0

    async def size(self) -> int:
        """Return the size of what was opened last, or else of what the next open gets."""
        if self._open:
            return len(self._open[-1])
        contents = self._standing()
        if contents is None:
            contents = self._promised = _padded(await self._make())
            self._promised_at = time.monotonic()
        return len(contents)

    async def open(self) -> bytes:
        """Return the status, which is open until `close`."""
        contents = self._standing()
        self._promised = None
        if contents is None:
            contents = _padded(await self._make())
        self._open.append(contents)
        return contents

    def close(self, contents: bytes) -> None:
        """Forget what was opened; anything else is ignored."""
        self._open = [each for each in self._open if each is not contents]

    def _standing(self) -> bytes | None:
        return self._promised if time.monotonic() - self._promised_at < PROMISE_S else None


def _padded(contents: bytes) -> bytes:
    """Return JSON that ends in a newline, with blanks before that."""
    return contents[:-1].ljust(-(-len(contents) // _SECTOR) * _SECTOR - 1) + b"\n"
