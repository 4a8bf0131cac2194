"""What the kernel tells of changes to open files: one instance of inotify(7) for the whole process.

    add     a file is watched by its descriptor; the same inode is one Watch however often it is open
    drain   what has happened is counted in the watches: writes, and all else, which are changes of metadata

A write queues its event before it ends, a program that may write queues one before its descriptor is closed. Where the
limits of the machine are reached there is no Watch, and its users go by time stamps alone.
"""

import os
import struct
import time
from collections import deque
from contextlib import suppress
from threading import Lock
from typing import Final

from vdifs.linux.libc import call

__all__ = ["Watch", "Watches", "watches"]

_MODIFY, _ATTRIB, _CLOSE_WRITE, _DELETE_SELF, _MOVE_SELF = 0x2, 0x4, 0x8, 0x400, 0x800
_UNMOUNT, _OVERFLOW, _IGNORED = 0x2000, 0x4000, 0x8000
_MASK: Final = _MODIFY | _ATTRIB | _CLOSE_WRITE | _DELETE_SELF | _MOVE_SELF
_EVENT: Final = struct.Struct("iIII")
_CHUNK = 1 << 16
LINGER_S = 2.0
_MOST_LINGERING = 256


class Watch:
    """What has happened to one inode since it is watched. writes: events that may be writes. others: all others.

    lost: the kernel watches it no more. Only `Watches` changes these. earlier: how the file looked at some moment, and
    the writes until then, for the reader who opens it once more.
    """

    __slots__ = ("earlier", "lost", "number", "others", "users", "writes")

    def __init__(self, number: int) -> None:
        self.number = number
        self.users = 0
        self.writes = 0
        self.others = 0
        self.lost = False
        self.earlier: tuple[tuple[int, ...], int] | None = None


class Watches:
    """Watched inodes. Safe to use from several threads; a process just forked begins with none."""

    def __init__(self) -> None:
        self._fd = -1
        self._lock = Lock()
        self._watched: dict[int, Watch] = {}
        self._lingering: deque[tuple[float, Watch]] = deque()

    def start(self) -> bool:
        """Have an instance of inotify, which a confined process cannot make any more; return whether there is one."""
        if self._fd < 0:
            with suppress(OSError):
                self._fd = call("inotify_init1", os.O_CLOEXEC | os.O_NONBLOCK)
        return self._fd >= 0

    def add(self, fd: int) -> Watch | None:
        """Watch an open file from now on, until `remove`. None where that cannot be had."""
        with self._lock:
            if not self.start():
                return None
            try:
                number = call("inotify_add_watch", self._fd, b"/proc/self/fd/%d" % fd, _MASK)
            except OSError:
                return None
            watch = self._watched.setdefault(number, Watch(number))
            watch.users += 1
            self._end_lingering()
            return watch

    def remove(self, watch: Watch) -> None:
        """Let go of what `add` gave."""
        with self._lock:
            self._let_go(watch)

    def linger(self, watch: Watch) -> None:
        """Keep what `add` gave for LINGER_S more, if nothing else does: a few of them."""
        with self._lock:
            watch.users += 1
            self._lingering.append((time.monotonic() + LINGER_S, watch))
            self._end_lingering()

    def _let_go(self, watch: Watch) -> None:
        watch.users -= 1
        if not watch.users and self._watched.get(watch.number) is watch:
            del self._watched[watch.number]
            with suppress(OSError):
                call("inotify_rm_watch", self._fd, watch.number)

    def _end_lingering(self) -> None:
        now = time.monotonic()
        while self._lingering and (self._lingering[0][0] < now or len(self._lingering) > _MOST_LINGERING):
            self._let_go(self._lingering.popleft()[1])

    def drain(self) -> None:
        """Count all that has happened until now."""
        with self._lock:
            self._end_lingering()
            if self._fd < 0:  # in a process just forked
                return
            with suppress(BlockingIOError):
                while True:
                    events = os.read(self._fd, _CHUNK)
                    for at in range(0, len(events), _EVENT.size):  # they have no names, as no folder is watched
                        number, mask, _, _ = _EVENT.unpack_from(events, at)
                        self._count(number, mask)

    def _count(self, number: int, mask: int) -> None:
        if mask & _OVERFLOW:
            for watch in self._watched.values():
                watch.writes += 1
        elif (found := self._watched.get(number)) is not None:
            if mask & (_MODIFY | _CLOSE_WRITE):
                found.writes += 1
            elif mask & (_IGNORED | _UNMOUNT):
                found.lost = True
                del self._watched[number]
            else:
                found.others += 1

    def start_anew(self) -> None:
        """Watch nothing: in a process just forked, the instance is its parent's, and the lock may be held."""
        for watch in self._watched.values():
            watch.lost = True
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1
        self._lock = Lock()
        self._watched = {}
        self._lingering = deque()


watches = Watches()
"""Those of this process."""
os.register_at_fork(after_in_child=watches.start_anew)
