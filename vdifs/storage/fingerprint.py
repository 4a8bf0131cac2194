"""What tells one state of a file from another: a value, from stat.

A file is racy, as git calls it, while its time stamps are so young that the next write may leave them as they are.
"""

import os
from typing import NamedTuple, Self

__all__ = ["COARSE_RACY_NS", "RACY_NS", "Fingerprint"]

RACY_NS = 20_000_000
"""A file with time stamps younger than that is racy: they do not tell one state from the next."""
COARSE_RACY_NS = 2_500_000_000
"""The same where they are whole seconds: ext3, ext4 with inodes of 128 bytes, FAT (two seconds), some servers."""
_SECOND_NS = 1_000_000_000
_devices: dict[int, int] = {}


class Fingerprint(NamedTuple):
    """What tells one state of a file from another."""

    dev: int
    ino: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, st: os.stat_result) -> Self:
        """Return the fingerprint of a stat result."""
        mtime_ns, ctime_ns = st.st_mtime_ns, st.st_ctime_ns
        device = _devices.setdefault(st.st_dev, st.st_dev)  # catalogs keep very many of these: equal numbers are shared
        return cls(device, st.st_ino, st.st_size, mtime_ns, mtime_ns if ctime_ns == mtime_ns else ctime_ns)

    @property
    def anywhere(self) -> tuple[int, int, int, int]:
        """The same without the device: its number is another after a reboot or a remount, and in every snapshot."""
        return self.ino, self.size, self.mtime_ns, self.ctime_ns

    def racy_for_ns(self, now_ns: int) -> int:
        """Return for how long the file stays racy: 0 for most files."""
        span = self._tells_after_ns
        ages = (now_ns - self.mtime_ns, now_ns - self.ctime_ns)  # each alone: an mtime may be set far into the future
        return max(span - age if -span < age < span else 0 for age in ages)

    def was_racy(self, first_ns: int, last_ns: int) -> bool:
        """Return whether the file was racy when it was looked at, between those times."""
        span = self._tells_after_ns
        return any(first_ns - span < stamp < last_ns + span for stamp in (self.mtime_ns, self.ctime_ns))

    @property
    def _tells_after_ns(self) -> int:
        return RACY_NS if self.ctime_ns % _SECOND_NS else COARSE_RACY_NS  # no user can set a ctime
