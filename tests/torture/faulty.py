"""A file system that fails or hangs on demand: `faulty FOLDER MOUNTPOINT CONTROL` shows the files of a flat folder.

CONTROL is a file of 16 bytes that both sides map: [0] percent of the reads that give EIO, [1] whether nothing is
answered, [8:16] how many reads were given EIO so far.
"""

import errno
import mmap
import os
import random
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyfuse3
import trio

from tests.torture.mounting import eventually
from tests.torture.scratch import detach, mounted_beneath

__all__ = ["Faulty", "faulty"]

_SIZE = 16
_PATIENCE_S = 20.0


@dataclass(frozen=True, slots=True)
class Faulty:
    """The other side of it, for who wants faults."""

    control: mmap.mmap

    def fail(self, percent: int) -> None:
        """Let that part of the reads give EIO from now on."""
        self.control[0] = percent

    def hang(self, hanging: bool) -> None:
        """Let nothing be answered any more, or go on."""
        self.control[1] = int(hanging)

    @property
    def faults(self) -> int:
        """Return how many reads were given EIO."""
        return int.from_bytes(self.control[8:16], "little")


@contextmanager
def faulty(folder: Path, mountpoint: Path, control: Path) -> Iterator[Faulty]:
    """Show `folder` at `mountpoint`, which is made; end that with the block, whatever hangs."""
    mountpoint.mkdir()
    control.write_bytes(bytes(_SIZE))
    command = [sys.executable, "-m", "tests.torture.faulty", str(folder), str(mountpoint), str(control)]
    with subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *command], start_new_session=True) as process:
        try:
            eventually(lambda: mountpoint in mounted_beneath(mountpoint), _PATIENCE_S, "the faulty file system")
            with control.open("r+b") as file, mmap.mmap(file.fileno(), _SIZE) as mapped:
                made = Faulty(mapped)
                try:
                    yield made
                finally:
                    made.fail(0)
                    made.hang(False)
        finally:
            detach(mountpoint)
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()


class _Files(pyfuse3.Operations):
    """The files of `folder`, numbered by name."""

    def __init__(self, folder: Path, control: mmap.mmap) -> None:
        super().__init__()
        self._names = sorted(os.listdir(folder))
        self._files = [os.open(folder / name, os.O_RDONLY) for name in self._names]
        self._control = control
        self._rng = random.Random(0)
        self._faults = 0

    async def _answer(self) -> None:
        while self._control[1]:
            await trio.sleep(0.02)

    def _attributes(self, inode: int) -> pyfuse3.EntryAttributes:
        entry = pyfuse3.EntryAttributes()
        entry.st_ino = inode
        entry.attr_timeout = entry.entry_timeout = 0
        entry.st_mode = stat.S_IFDIR | 0o755
        if inode != pyfuse3.ROOT_INODE:
            status = os.fstat(self._files[inode - 2])
            entry.st_mode, entry.st_size, entry.st_mtime_ns = status.st_mode, status.st_size, status.st_mtime_ns
            entry.st_ctime_ns = status.st_ctime_ns
        return entry

    async def lookup(self, parent_inode: int, name: bytes, ctx: object) -> pyfuse3.EntryAttributes:
        await self._answer()
        if os.fsdecode(name) not in self._names:
            raise pyfuse3.FUSEError(errno.ENOENT)
        return self._attributes(self._names.index(os.fsdecode(name)) + 2)

    async def getattr(self, inode: int, ctx: object) -> pyfuse3.EntryAttributes:
        await self._answer()
        return self._attributes(inode)

    async def opendir(self, inode: int, ctx: object) -> int:
        return inode

    async def readdir(self, fh: int, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        await self._answer()
        for index, name in list(enumerate(self._names))[start_id:]:
            if not pyfuse3.readdir_reply(token, os.fsencode(name), self._attributes(index + 2), index + 1):
                return

    async def open(self, inode: int, flags: int, ctx: object) -> pyfuse3.FileInfo:
        await self._answer()
        return pyfuse3.FileInfo(fh=inode, direct_io=True)

    async def read(self, fh: int, off: int, size: int) -> bytes:
        await self._answer()
        if self._rng.random() * 100 < self._control[0]:
            self._faults += 1
            self._control[8:16] = self._faults.to_bytes(8, "little")
            raise pyfuse3.FUSEError(errno.EIO)
        return os.pread(self._files[fh - 2], size, off)


def main() -> None:
    """Serve until unmounted."""
    folder, mountpoint, control = (Path(argument) for argument in sys.argv[1:])
    with control.open("r+b") as file, mmap.mmap(file.fileno(), _SIZE) as mapped:
        pyfuse3.init(_Files(folder, mapped), str(mountpoint), {"ro", "fsname=faulty"})
        trio.run(pyfuse3.main)


if __name__ == "__main__":
    main()
