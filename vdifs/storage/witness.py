"""Whether an open file has been written, whatever its time stamps say.

Time stamps alone cannot tell a write from a chown: both move ctime, and mtime can be set back. What can:

    begin        |------- events of this inode are counted by inotify -------|
                 :                                                            :
    a write that had ended     . . M . . . . . C . . . . . . . . . . . . . .  | M: IN_MODIFY   C: IN_CLOSE_WRITE
    a mapping, already closed  . . . . . . . . C . . . . . . . . . . . . . .  | it writes without IN_MODIFY
    a write or mapping now     . . . . . . . . . . . . . . . . [===========   | the lease is refused
    chown, rename, link        . . A . . S . . A . . . . . . . . . . . . . .  | IN_ATTRIB, IN_MOVE_SELF
                                                                     ^    ^
                                                             read lease  events are read

While the lease is had no program can write; all that could have ended, and have queued their events. So if the events
that are read after it have neither M nor C, nothing was written between `begin` and the lease. A write that begins
later moves the time stamps, which are looked at once more behind it (`HostFile`).

What this cannot see: a write through a file system that lies on top (overlayfs has no events of the file below), which
moves mtime, so that an mtime that moved must have its IN_ATTRIB; and memory that a device writes by itself.
"""

import time
from enum import Enum

from vdifs.linux.filesystems import BTRFS, EXT, F2FS, OVERLAY, RAMFS, TMPFS, XFS, filesystem_type
from vdifs.linux.inode_lock import wait_for_changes
from vdifs.linux.inotify import Watch, watches
from vdifs.linux.leases import WITH_LEASES, is_open_for_writing
from vdifs.storage.fingerprint import Fingerprint

__all__ = ["Finding", "Witness"]

_ALONE = frozenset({EXT, XFS, BTRFS, F2FS, TMPFS, RAMFS})
"""File systems that no other machine changes, and no other file system beneath them: no event means no write."""
_SILENT = frozenset({TMPFS, RAMFS, OVERLAY})
"""Those where a mapping writes without moving the time stamps: an overlay may have its files on a tmpfs."""
_PAUSE_S = 0.002


class Finding(Enum):
    """What a witness says.

    NOTHING: nothing was written. UNSEEN: no write was seen that has ended; one under way cannot be excluded. UNKNOWN:
    it could not look, or not at all writers. WRITTEN: it may have been written.
    """

    NOTHING = 0
    UNSEEN = 1
    UNKNOWN = 2
    WRITTEN = 3


class Witness:
    """Watches one open file. silent_writers: its mappings may write without moving the time stamps, as on tmpfs."""

    __slots__ = ("_fd", "_leases", "_others", "_sees_all", "_watch", "_writes", "silent_writers")

    def __init__(self, fd: int, *, watching: bool = True) -> None:
        """Watch the file that is open as `fd` from now on; watching=False: only be able to ask for a lease.

        May block: it asks the file system.
        """
        kind = filesystem_type(fd)
        self._fd = fd
        self._leases = kind in WITH_LEASES
        self._watch: Watch | None = watches.add(fd) if watching else None
        self._sees_all = kind in _ALONE
        self._writes = self._others = 0
        self.silent_writers = kind in _SILENT

    def close(self) -> None:
        """Watch no more; more than once is harmless."""
        watch, self._watch = self._watch, None
        if watch is not None:
            watches.remove(watch)

    def linger(self) -> None:
        """Have the file watched for a moment longer than by this witness."""
        if self._watch is not None:
            watches.linger(self._watch)

    def begin(self) -> None:
        """Count from now on: before the file's time stamps are taken."""
        self._writes = self._others = 0
        if self._watch is not None:
            watches.drain()
            self._writes, self._others = self._watch.writes, self._watch.others

    def note(self, fingerprint: Fingerprint) -> None:
        """Keep how the file looks for others that open it while it is watched: its time stamps, taken after `begin`."""
        if self._watch is not None:
            self._watch.earlier = fingerprint, self._writes

    def go_back(self) -> Fingerprint | None:
        """Count from the moment of the last `note` on, another's too, and return what was noted; None without one."""
        if self._watch is None or self._watch.earlier is None:
            return None
        fingerprint, self._writes = self._watch.earlier
        self._others = -1
        return Fingerprint(*fingerprint)

    def is_open_for_writing(self) -> bool:
        """Tell whether a program is known to have the file open for writing now."""
        return self._asked() is True

    def finding(self) -> Finding:
        """Tell what became of the file since `begin`."""
        written = self._asked()
        if written:
            return Finding.WRITTEN
        if (watch := self._watch) is None:
            return Finding.UNKNOWN
        watches.drain()
        if watch.writes != self._writes:
            return Finding.WRITTEN
        if watch.lost or not self._sees_all:
            return Finding.UNKNOWN
        return Finding.UNSEEN if written is None else Finding.NOTHING

    def saw_metadata(self) -> bool:
        """Tell whether the last `finding` met a change of metadata that no one before had met.

        If not, a change whose time stamps are there already has queued its event for the next `finding` by then: on a
        busy disk that takes tens of milliseconds.
        """
        if self._watch is None or self._watch.others != self._others:
            return self._watch is not None
        if not wait_for_changes(self._fd):
            time.sleep(_PAUSE_S)
        return False

    def accept(self) -> None:
        """Count changes of metadata from the last `finding` on."""
        if self._watch is not None:
            self._others = self._watch.others

    def _asked(self) -> bool | None:
        return is_open_for_writing(self._fd) if self._leases else None
