"""Sizes that are found before a program asks for them: when, how far, and what ends it."""

import time
from threading import Event, get_ident

import pytest
import trio
import trio.testing

from tests.conftest import ExpectWarning
from tests.mount.fakes import FakeCatalog, FakeOpener, entry
from vdifs.chain.access import Access
from vdifs.errors import StorageError
from vdifs.mount.serving.images import sizes_ahead
from vdifs.mount.serving.images.open_images import OpenImages
from vdifs.mount.serving.listings import Listings
from vdifs.mount.serving.namespace import Namespace
from vdifs.mount.serving.scheduling.tasks import Tasks
from vdifs.mount.serving.scheduling.threads import Threads
from vdifs.mount.view.attributes import Ownership
from vdifs.mount.view.inodes import ROOT
from vdifs.mount.view.nodes import ImageFile
from vdifs.mount.view.options import MountOptions
from vdifs.mount.view.sources import Source
from vdifs.output.image import Image
from vdifs.pace import give_way

_IMAGES = 40


class Opener(FakeOpener):
    """Takes note of what is opened. PATHs: heavy takes much work, the disk below slow hangs until `go`."""

    def __init__(self) -> None:
        super().__init__()
        self.paths: list[str] = []
        self.threads: list[int] = []
        self.heavy = self.slow = self.broken = ""
        self.go = Event()

    def __call__(self, file: ImageFile, source: Source) -> Image:
        self.paths.append(file.path)
        self.threads.append(get_ident())
        if file.path == self.heavy:
            give_way(heavy=True)
        if file.path == self.slow:
            self.go.wait(5)
        if file.path == self.broken:
            raise StorageError("the disk fails", where=file.path)
        return super().__call__(file, source)


class Folder:
    """`full/` of a mount of some images, as the kernel and a program use it."""

    def __init__(self, opener: Opener, nursery: trio.Nursery) -> None:
        tasks, threads = Tasks(), Threads(4, deadline=5)
        tasks.start(nursery)
        self.catalog = FakeCatalog(*(entry(f"{number:02}.qcow2") for number in range(_IMAGES)))
        ownership = Ownership(MountOptions(source="/src", mountpoint="/mnt"), Access(0o555, 0, 0))
        images = OpenImages(opener, tasks, threads)
        self.namespace = Namespace(self.catalog, images, tasks, threads, ownership)
        self.listings = Listings(self.namespace)

    async def list(self) -> list[int]:
        """Return the numbers of the images, in the order in which the kernel is told of them."""
        number = self.listings.open((await self.namespace.lookup(ROOT, "full")).inode)
        found = []
        for position, _, attributes in await self.listings.read(number, 0):
            self.listings.handed_out(number, position, attributes.inode)
            found.append(attributes.inode)
        self.listings.release(number)
        return found[2:]

    def size(self, inode: int) -> int:
        """Return the size that is known of a file, 0 if none is."""
        known = self.namespace.inodes.get(inode)
        return 0 if known is None or known.file_size is None else known.file_size.length


@pytest.fixture
def opener() -> Opener:
    return Opener()


@pytest.fixture
async def folder(opener: Opener, nursery: trio.Nursery) -> Folder:
    return Folder(opener, nursery)


async def idle(folder: Folder) -> None:
    await folder.namespace._ahead._done.wait()


async def test_once_some_are_asked_for_in_a_row_the_next_are_known_without_opening_each(
    folder: Folder, opener: Opener
) -> None:
    inodes = await folder.list()
    sizes = [(await folder.namespace.stat(inode)).size for inode in inodes]
    assert all(sizes)
    assert sorted(opener.paths) == sorted(folder.catalog.entries), "each is opened once"
    alone = sum(a != b for a, b in zip(opener.threads, opener.threads[1:], strict=False))
    assert alone < _IMAGES / 2, "most of them in one go, in one thread"


@pytest.mark.parametrize("order", ["one", "every other", "backwards"])
async def test_a_program_that_asks_in_no_such_order_has_nothing_looked_into_ahead(
    folder: Folder, opener: Opener, order: str
) -> None:
    inodes = await folder.list()
    asked = {"one": inodes[:1], "every other": inodes[::2], "backwards": inodes[::-1]}[order]
    for inode in asked:
        await folder.namespace.stat(inode)
    await trio.testing.wait_all_tasks_blocked()
    assert len(opener.paths) == len(asked)


async def test_what_takes_much_work_is_left_to_who_asks_for_it(folder: Folder, opener: Opener) -> None:
    opener.heavy = "05.qcow2"
    inodes = await folder.list()
    for inode in inodes[:3]:
        await folder.namespace.stat(inode)
    await idle(folder)
    assert [bool(folder.size(inode)) for inode in inodes[:8]] == [True] * 5 + [False] * 3
    assert (await folder.namespace.stat(inodes[5])).size, "who asks for it gets it"


async def test_what_takes_long_in_all_ends_too(folder: Folder, opener: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizes_ahead, "_LIGHT_S", -1)
    inodes = await folder.list()
    for inode in inodes[:3]:
        await folder.namespace.stat(inode)
    await idle(folder)
    assert len(opener.paths) == 4, "the first of them, after which the time was up"


async def test_a_request_does_not_wait_for_a_disk_that_hangs_below_another_image(
    folder: Folder, opener: Opener
) -> None:
    opener.slow = "03.qcow2"
    inodes = await folder.list()
    for inode in inodes[:3]:
        await folder.namespace.stat(inode)
    begun = time.monotonic()
    assert (await folder.namespace.stat(inodes[4])).size
    assert time.monotonic() - begun < 4
    opener.go.set()
    await idle(folder)


async def test_an_image_that_cannot_be_opened_is_told_of_when_it_is_asked_for(
    folder: Folder, opener: Opener, expect_warning: ExpectWarning
) -> None:
    expect_warning("the disk fails")
    opener.broken = "04.qcow2"
    inodes = await folder.list()
    for inode in inodes[:3]:
        await folder.namespace.stat(inode)
    await idle(folder)
    assert [bool(folder.size(inode)) for inode in inodes[3:6]] == [True, False, True]
    assert (await folder.namespace.stat(inodes[4])).mode & 0o777 == 0


async def test_a_size_of_a_state_that_has_passed_is_not_kept(folder: Folder, opener: Opener) -> None:
    opener.slow = "03.qcow2"
    inodes = await folder.list()
    for inode in inodes[:3]:
        await folder.namespace.stat(inode)
    folder.catalog.change("04.qcow2")
    folder.namespace.scanner.outdated()
    await folder.namespace.scanner.fresh()
    opener.go.set()
    await idle(folder)
    assert folder.size(inodes[3])
    assert not folder.size(inodes[4]), "its number stands for what it was"


async def test_the_order_is_known_of_the_last_names_only(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizes_ahead, "_MOST_TOLD", 8)
    for _ in range(3):
        await folder.list()
    ahead = folder.namespace._ahead
    assert len(ahead._told) == len(ahead._place) == 8
