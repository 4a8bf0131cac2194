"""A file system that hangs or fails on demand: `hanging FOLDER MOUNTPOINT FLAGS` shows the files of a flat folder.

While FLAGS/hang exists nothing is answered; while FLAGS/fail exists reads give EIO.
"""

import errno
import os
import stat
import sys
from pathlib import Path

import pyfuse3
import trio


class Hanging(pyfuse3.Operations):
    """The files of `folder`, numbered by name."""

    def __init__(self, folder: Path, flags: Path) -> None:
        super().__init__()
        self.names = sorted(os.listdir(folder))
        self.files = [os.open(folder / name, os.O_RDONLY) for name in self.names]
        self.hang, self.fail = flags / "hang", flags / "fail"

    async def answer(self) -> None:
        while self.hang.exists():
            await trio.sleep(0.02)

    def attributes(self, inode: int) -> pyfuse3.EntryAttributes:
        entry = pyfuse3.EntryAttributes()
        entry.st_ino = inode
        entry.attr_timeout = entry.entry_timeout = 0
        entry.st_mode = stat.S_IFDIR | 0o755
        if inode != pyfuse3.ROOT_INODE:
            status = os.fstat(self.files[inode - 2])
            entry.st_mode, entry.st_size, entry.st_mtime_ns = status.st_mode, status.st_size, status.st_mtime_ns
            entry.st_ctime_ns = status.st_ctime_ns
        return entry

    async def lookup(self, parent_inode: int, name: bytes, ctx: object) -> pyfuse3.EntryAttributes:
        await self.answer()
        if os.fsdecode(name) not in self.names:
            raise pyfuse3.FUSEError(errno.ENOENT)
        return self.attributes(self.names.index(os.fsdecode(name)) + 2)

    async def getattr(self, inode: int, ctx: object) -> pyfuse3.EntryAttributes:
        await self.answer()
        return self.attributes(inode)

    async def opendir(self, inode: int, ctx: object) -> int:
        return inode

    async def readdir(self, fh: int, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        await self.answer()
        for index, name in list(enumerate(self.names))[start_id:]:
            if not pyfuse3.readdir_reply(token, os.fsencode(name), self.attributes(index + 2), index + 1):
                return

    async def open(self, inode: int, flags: int, ctx: object) -> pyfuse3.FileInfo:
        await self.answer()
        return pyfuse3.FileInfo(fh=inode, direct_io=True)

    async def read(self, fh: int, off: int, size: int) -> bytes:
        await self.answer()
        if self.fail.exists():
            raise pyfuse3.FUSEError(errno.EIO)
        return os.pread(self.files[fh - 2], size, off)


def main() -> None:
    folder, mountpoint, flags = (Path(argument) for argument in sys.argv[1:])
    pyfuse3.init(Hanging(folder, flags), str(mountpoint), {"ro", "fsname=hanging"})
    trio.run(pyfuse3.main)


if __name__ == "__main__":
    main()
