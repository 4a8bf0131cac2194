"""What this process keeps of all its images together, so that it is not worked out again: bounded in bytes.

These caches, and the threads that fill the last of them, are all the state that the outputs have beside the open
images; a process just forked begins with empty ones of its own.
"""

from typing import Any

from vdifs.output.cache import ByteBoundedCache
from vdifs.output.summary import Summary
from vdifs.output.workers import Workers

__all__ = ["summary_cache", "unit_cache", "window_cache", "workers"]

_OVERHEAD = 1024
"""What Python adds to a window."""

summary_cache: ByteBoundedCache[Summary] = ByteBoundedCache(4 << 20, lambda summary: summary.nbytes)
"""The summaries that were made last, by what determines them."""
window_cache: ByteBoundedCache[Any] = ByteBoundedCache(12 << 20, lambda window: _OVERHEAD + int(window.nbytes))
"""The windows that were read last, by the output and their index: see KeptWindows."""
unit_cache: ByteBoundedCache[bytes] = ByteBoundedCache(16 << 20, len)
"""The compressed clusters, or other units, that were read last, unpacked: see UnpackedUnits."""
workers = Workers()
"""Those that unpack them side by side."""
