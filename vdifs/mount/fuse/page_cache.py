"""The pages of the mount's files that the kernel keeps: having it drop them."""

import errno
import logging

import trio

from vdifs.dataplane.attachment import Plane

__all__ = ["PageCache"]

_AT_ONCE = 8
"""So many inodes at the same time, in threads of their own: those for answers must not wait for them."""
_OF_NO_USE = (errno.ENOENT, errno.ENOTCONN, errno.ENODEV)
"""The kernel does not know the inode any more, or the mount is gone."""

log = logging.getLogger("vdifs.mount")


class PageCache:
    """The pages of one session. Dropping waits for reads of the same pages under way: it is done in threads."""

    def __init__(self) -> None:
        self._limiter = trio.CapacityLimiter(_AT_ONCE)
        self._plane: Plane | None = None

    def attach(self, plane: Plane) -> None:
        """Speak to the kernel through `plane`, before the first request."""
        self._plane = plane

    async def drop(self, inode: int) -> bool:
        """Drop all pages of an inode; return whether the kernel keeps none of those that it had."""
        assert self._plane is not None, "attach() comes before the first request"
        try:
            await trio.to_thread.run_sync(self._plane.invalidate, inode, abandon_on_cancel=True, limiter=self._limiter)
        except OSError as error:
            if error.errno not in _OF_NO_USE:
                log.warning("inode %#x: the kernel keeps its pages: %s", inode, error)
                return False
        return True
