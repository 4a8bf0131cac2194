"""The windows of one output, resolved when they are read, and those that were read last kept."""

import itertools
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from vdifs.chain.open_chain import Chain
from vdifs.errors import WouldBlock
from vdifs.output.process_caches import window_cache

__all__ = ["KeptWindows"]

_serial = itertools.count()


class _Sized(Protocol):
    @property
    def nbytes(self) -> int:
        """Bytes of memory, without what Python adds."""


W = TypeVar("W", bound=_Sized)
"""What an output knows of a window: for that it decides itself what it has to know."""


class KeptWindows(Generic[W]):
    """The part of the process's windows that is of one output. Safe to use from several threads."""

    def __init__(self, chain: Chain) -> None:
        """Starts with none; chain: which they are resolved from."""
        self._check_unchanged = chain.check_unchanged
        self._key = next(_serial)

    def get(self, index: int, resolve: Callable[[int], W], *, wait: bool) -> W:
        """Return the window `index`: the one that is kept, or what `resolve` returns.

        wait=False: raises WouldBlock if it has to be resolved first. Raises SourceChangedError and what `resolve` does.
        """
        key = self._key, index
        window: W | None = window_cache.get(key)
        if window is None:
            if not wait:
                raise WouldBlock
            window = resolve(index)
            self._check_unchanged()
            window_cache.put(key, window)
        return window
