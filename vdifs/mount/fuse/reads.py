"""Answering what the data plane leaves to Python: reads of what is not at hand, and LSEEK."""

import errno
import logging
import struct
from typing import TypeAlias

import trio

from vdifs.dataplane.attachment import Plane
from vdifs.errors import VdifsError
from vdifs.mount.fuse.boundary import errno_for
from vdifs.mount.serving.open_files import OpenFiles
from vdifs.mount.serving.rate_limited_log import RateLimitedLog

__all__ = ["Reads"]

_PAUSE_S = 0.005
_LSEEK_OUT = struct.Struct("q")
Request: TypeAlias = tuple[int, bool, int, int, int, int]

log = logging.getLogger("vdifs.mount")


class Reads:
    """The requests that `plane` leaves to Python."""

    def __init__(self, plane: Plane, files: OpenFiles, warnings: RateLimitedLog) -> None:
        self._plane = plane
        self._files = files
        self._warnings = warnings
        self._under_way = 0

    async def answer(self) -> None:
        """Answer requests until the kernel has ended the connection. A bug costs no more than a request its answer."""
        async with trio.open_nursery() as nursery:
            while not self._plane.ended:
                try:
                    await trio.lowlevel.wait_readable(self._plane.asked)
                    requests = self._plane.take()
                except Exception:
                    log.exception("taking reads failed")
                    continue
                for request in requests:
                    try:
                        nursery.start_soon(self._answer, request)
                    except Exception:
                        log.exception("a read could not be begun")
                        self._plane.fail(request[0], errno.EIO)
            nursery.cancel_scope.cancel()

    async def settled(self) -> None:
        """Return once none is under way, or the connection has ended."""
        while self._under_way and not self._plane.ended:
            await trio.sleep(_PAUSE_S)

    async def _answer(self, request: Request) -> None:
        self._under_way += 1
        try:
            await self._answer_or_fail(*request)
        except Exception:
            log.exception("answering failed")
            self._plane.fail(request[0], errno.EIO)
        finally:
            self._under_way -= 1

    async def _answer_or_fail(self, unique: int, is_seek: bool, _: int, handle: int, offset: int, size: int) -> None:
        try:
            if is_seek:
                self._plane.answer(unique, _LSEEK_OUT.pack(await self._files.seek(handle, offset, size)))
            else:
                self._plane.answer(unique, await self._files.read(handle, offset, size))
        except Exception as error:  # noqa: BLE001 - the boundary
            if is_seek and isinstance(error, VdifsError) and error.errno == errno.ENXIO:
                self._plane.fail(unique, errno.ENXIO)  # nothing follows: every copy ends with that
            else:
                self._plane.fail(unique, errno_for(self._warnings, "seek" if is_seek else "read", error))
