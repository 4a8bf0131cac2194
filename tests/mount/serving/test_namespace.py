"""Names and attributes, without a kernel: what stat says of a file that fails, before and after it was looked into."""

import errno
from stat import S_IMODE

import pytest
import trio

from tests.conftest import ExpectWarning
from tests.mount.fakes import FakeCatalog, FakeOpener, entry
from vdifs.chain.access import Access
from vdifs.errors import StorageError, VdifsError
from vdifs.mount.serving import failures
from vdifs.mount.serving.images.open_images import OpenImages
from vdifs.mount.serving.namespace import Namespace
from vdifs.mount.serving.scheduling.tasks import Tasks
from vdifs.mount.serving.scheduling.threads import Threads
from vdifs.mount.view.attributes import Ownership
from vdifs.mount.view.inodes import ROOT
from vdifs.mount.view.options import MountOptions


@pytest.fixture
def opener() -> FakeOpener:
    return FakeOpener()


@pytest.fixture
async def namespace(opener: FakeOpener, nursery: trio.Nursery) -> Namespace:
    tasks, threads = Tasks(), Threads(4, deadline=5)
    tasks.start(nursery)
    catalog = FakeCatalog(entry("a.qcow2"))
    ownership = Ownership(MountOptions(source="/src", mountpoint="/mnt"), Access(0o555, 0, 0))
    return Namespace(catalog, OpenImages(opener, tasks, threads), tasks, threads, ownership)


async def inode_of(namespace: Namespace) -> int:
    folder = await namespace.lookup(ROOT, "full")
    return (await namespace.lookup(folder.inode, "a.qcow2")).inode


async def test_a_size_that_the_kernel_was_told_stays_while_the_file_fails(
    namespace: Namespace, opener: FakeOpener
) -> None:
    """Size 0 would end the reads of those who have the file open, without an error."""
    inode = await inode_of(namespace)
    good = await namespace.stat(inode)
    assert good.size
    (opened,) = [await namespace._images.acquire(inode, *namespace._current(inode))]
    namespace._images.discard(opened)
    opener.error = StorageError("the disk fails")
    with pytest.raises(StorageError):
        await namespace.acquire(inode)
    failing = await namespace.stat(inode)
    assert (failing.size, S_IMODE(failing.mode), failing.lasting) == (good.size, 0, False)
    namespace._images.release(opened)


async def test_a_file_that_failed_stays_failed_for_a_moment_then_it_is_tried_again(
    namespace: Namespace, opener: FakeOpener, expect_warning: ExpectWarning, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as stat says size 0, open must fail: the kernel would believe both."""
    monkeypatch.setattr(failures, "RETRY_S", 60)
    expect_warning("too many open files")
    inode = await inode_of(namespace)
    opener.error = StorageError("too many open files", errno=errno.EMFILE)
    broken = await namespace.stat(inode)
    assert (broken.size, S_IMODE(broken.mode), broken.lasting) == (0, 0, False)
    opener.error = None
    with pytest.raises(VdifsError, match="too many open files") as caught:
        await namespace.acquire(inode)
    assert caught.value.errno == errno.EMFILE
    monkeypatch.setattr(failures, "RETRY_S", 0)
    good = await namespace.stat(inode)
    assert good.size
    assert S_IMODE(good.mode) == 0o444
    _, opened = await namespace.acquire(inode)
    namespace._images.release(opened)
