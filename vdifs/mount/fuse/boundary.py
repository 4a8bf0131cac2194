"""The errno boundary: what an exception in a FUSE handler becomes. The one place for that.

pyfuse3 ends the whole mount on any exception that is not FUSEError, so nothing else may leave a handler.
"""

import errno
import functools
import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

import pyfuse3

from vdifs.errors import VdifsError
from vdifs.mount.serving.rate_limited_log import RateLimitedLog

__all__ = ["answering_errno", "errno_for"]


class Complaining(Protocol):
    """What a class of handlers must have."""

    warnings: RateLimitedLog


C = TypeVar("C", bound=type[Complaining])
_ORDINARY = frozenset({errno.ENOENT, errno.ESTALE, errno.ENODATA, errno.ENOTDIR, errno.EISDIR})
"""What programs meet every day, and the kernel partly deals with by itself: no line in the log."""

_UNANSWERED = frozenset({"forget"})
"""Handlers whose request gets no answer, so that not even FUSEError may leave them."""

_LAST_RESORT = pyfuse3.FUSEError(errno.EIO)

log = logging.getLogger("vdifs.mount")


def answering_errno(operations: C) -> C:
    """Decorate a class so that each of its handlers (its own public async methods) lets out nothing but FUSEError."""
    for name, member in list(vars(operations).items()):
        if inspect.iscoroutinefunction(member) and not name.startswith("_"):
            setattr(operations, name, _guarded(member))
    return operations


def _guarded(handler: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    @functools.wraps(handler)
    async def guarded(self: Complaining, *args: Any) -> Any:
        try:
            return await handler(self, *args)
        except pyfuse3.FUSEError:
            raise
        except Exception as error:  # noqa: BLE001 - the boundary
            try:
                answer = pyfuse3.FUSEError(errno_for(self.warnings, handler.__name__, error))
            except Exception:  # noqa: BLE001 - not even a bug in what tells of one may end the mount
                answer = _LAST_RESORT
                answer.__traceback__ = None  # or it would grow each time
            if handler.__name__ in _UNANSWERED:
                return None
            try:
                raise answer from None
            finally:
                del answer  # or it would hold this frame, and through it all that the failed request held, in a circle

    return guarded


def errno_for(warnings: RateLimitedLog, name: str, error: Exception) -> int:
    """Return what the kernel is answered for an error of the request `name`, having logged what is worth it."""
    if isinstance(error, VdifsError):
        if error.errno not in _ORDINARY:
            warnings.log(error)
        return error.errno
    log.error("%s failed", name, exc_info=error)
    return errno.EIO
