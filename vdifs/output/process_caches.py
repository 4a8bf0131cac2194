"""What this process keeps of all its images together, so that it is not worked out again: bounded in bytes.

These caches are all the state that the outputs have beside the open images; each is its own after a fork.
"""

from typing import Any

from vdifs.output.cache import ByteBoundedCache
from vdifs.output.summary import Summary

__all__ = ["summary_cache", "window_cache"]

_OVERHEAD = 1024
"""What Python adds to a window."""

summary_cache: ByteBoundedCache[Summary] = ByteBoundedCache(4 << 20, lambda summary: summary.nbytes)
"""The summaries that were made last, by what determines them."""
window_cache: ByteBoundedCache[Any] = ByteBoundedCache(12 << 20, lambda window: _OVERHEAD + int(window.nbytes))
"""The windows that were read last, by the output and their index: see KeptWindows."""
