"""A mount without FUSE: all that lies below the adapter, on a real catalog of real images. The test is the kernel."""

import json
import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from tests.conftest import cannot_be_tried
from tests.mount.mounting import PATIENCE_S
from vdifs.catalog.catalog import Catalog
from vdifs.linux.filesystems import BTRFS, EXT, XFS, filesystem_type
from vdifs.mount.serving.assembly import Serving, assemble
from vdifs.mount.view.attributes import Attributes
from vdifs.mount.view.inodes import ROOT
from vdifs.mount.view.options import MountOptions

WHOLE = 1 << 30


async def until(condition: Callable[[], object]) -> None:
    """Wait until `condition` holds, in real time: the clock of trio may stand still."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {PATIENCE_S} s"
        await trio.to_thread.run_sync(time.sleep, 0.005)


def require_local_disk(path: Path) -> None:
    """Skip the test where a file is on no file system of which the event loop may ask, and fail it in CI."""
    with path.open("rb") as file:
        if filesystem_type(file.fileno()) not in {EXT, XFS, BTRFS}:
            cannot_be_tried(f"{path} is on no local disk")


def descriptors_of(paths: Sequence[Path]) -> list[int]:
    """Return the descriptors of this process that lead to some files, which are there."""
    wanted = {(status.st_dev, status.st_ino) for status in map(Path.stat, paths)}
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            status = os.fstat(int(name))
        except OSError:  # the one by which the folder was listed
            continue
        if (status.st_dev, status.st_ino) in wanted:
            found.append(int(name))
    return found


@dataclass
class Pages:
    """The kernel's page cache. dropped: inodes whose pages it was to drop, in turn. keeps: it does not obey."""

    dropped: list[int] = field(default_factory=list)
    keeps: bool = False

    async def drop(self, inode: int) -> bool:
        self.dropped.append(inode)
        await trio.lowlevel.checkpoint()
        return not self.keeps


@dataclass
class Served:
    """What a mount serves, by paths in it. parts: what answers the requests."""

    parts: Serving
    pages: Pages

    async def lookup(self, path: str) -> Attributes:
        """Ask for a name as the kernel does, folder by folder."""
        inode = ROOT
        for name in path.split("/")[:-1]:
            inode = (await self.parts.namespace.lookup(inode, name)).inode
        return await self.parts.namespace.lookup(inode, path.rpartition("/")[2])

    async def stat(self, path: str) -> Attributes:
        return await self.parts.files.stat((await self.lookup(path)).inode)

    async def open(self, path: str) -> int:
        """Return the handle of a file."""
        return (await self.parts.files.open((await self.lookup(path)).inode))[0]

    async def read(self, handle: int, offset: int = 0, length: int = WHOLE) -> bytes:
        return bytes(await self.parts.files.read(handle, offset, length))

    async def contents(self, path: str) -> bytes:
        """Open a file, read all of it, and close it."""
        handle = await self.open(path)
        try:
            return await self.read(handle)
        finally:
            self.close(handle)

    def close(self, *handles: int) -> None:
        for handle in handles:
            self.parts.files.release(handle)

    async def status(self) -> Any:
        return json.loads(await self.contents(".vdifs/status.json"))

    async def search(self) -> None:
        """Have the source searched, as a request does when the last search is too old."""
        self.parts.namespace.scanner.outdated()
        await self.parts.namespace.scanner.fresh()


@asynccontextmanager
async def served(source: Path, **options: Any) -> AsyncIterator[Served]:
    """Serve the images of a folder, with options of a mount."""
    catalog = Catalog(os.fspath(source), live=options.get("live", "refuse"))
    try:
        catalog.scan()
        pages = Pages()
        asked = MountOptions(source=os.fspath(source), mountpoint="/mnt", deadline=PATIENCE_S, **options)
        parts = assemble(catalog, asked, pages)
        async with trio.open_nursery() as nursery:
            parts.tasks.start(nursery)
            yield Served(parts, pages)
            nursery.cancel_scope.cancel()
    finally:
        catalog.close()
