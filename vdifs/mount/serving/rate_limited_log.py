"""Warnings about sources, each once in a while: a thousand failing reads of one disk are one line in the log."""

import logging
import time

from cachetools import TTLCache

from vdifs.errors import VdifsError

__all__ = ["RateLimitedLog"]

REPEAT_S = 60.0
_REMEMBERED = 1024

log = logging.getLogger("vdifs.mount")


class RateLimitedLog:
    """Logs an error at WARNING unless the same, or one about the same, was logged within REPEAT_S seconds."""

    def __init__(self) -> None:
        self._recent: TTLCache[object, None] = TTLCache(_REMEMBERED, REPEAT_S, time.monotonic)

    def log(self, error: VdifsError) -> None:
        """Log the error, unless that was done a moment ago."""
        if error.subject not in self._recent:
            self._recent[error.subject] = None
            log.warning("%s", error)
