"""Open folders over a real catalog: one state from beginning to end, whatever happens meanwhile."""

import errno
from pathlib import Path

import pytest

from tests.conftest import ExpectWarning
from tests.mount.serving.served import Served, served
from tests.support.builder import write_blank
from vdifs.errors import StorageError, VdifsError
from vdifs.mount.serving.listings import Listings

NAMES = ["a.qcow2", "b.qcow2", "c.qcow2", "d.qcow2"]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    source = tmp_path.resolve()
    for name in NAMES:
        write_blank(source / name)
    return source


async def opened(mount: Served, path: str) -> tuple[Listings, int]:
    listings = Listings(mount.parts.namespace)
    return listings, listings.open((await mount.lookup(path)).inode)


async def names(listings: Listings, number: int, start: int) -> list[str]:
    return [name for _, name, _ in await listings.read(number, start)]


async def test_a_listing_goes_on_where_it_stopped_in_the_state_in_which_it_began(source: Path) -> None:
    async with served(source) as mount:
        listings, number = await opened(mount, "full")
        found = list(await listings.read(number, 0))
        assert [name for _, name, _ in found] == [".", "..", *NAMES]
        (source / "c.qcow2").unlink()
        write_blank(source / "bb.qcow2")
        await mount.search()
        assert await names(listings, number, found[2][0]) == ["b.qcow2", "d.qcow2"], "c has gone, bb is of the next"
        assert await names(listings, number, 0) == [".", "..", "a.qcow2", "b.qcow2", "bb.qcow2", "d.qcow2"]
        assert await names(listings, number, found[-1][0]) == []


async def test_the_kernel_knows_what_it_took_and_no_more(source: Path) -> None:
    async with served(source) as mount:
        known = mount.parts.namespace.inodes
        listings, number = await opened(mount, "full")
        before = len(known)
        found = list(await listings.read(number, 0))
        for position, _, attributes in found[:3]:
            listings.handed_out(number, position, attributes.inode)
        assert len(known) == before + 1, "the dots do not count"
        known.forget(found[2][2].inode, 1)
        assert len(known) == before


async def test_listing_opens_no_image(source: Path) -> None:
    async with served(source) as mount:
        listings, number = await opened(mount, "full")
        found = {name: attributes for _, name, attributes in await listings.read(number, 0)}
        assert (found["a.qcow2"].size, found["a.qcow2"].lasting) == (0, False), "a placeholder, which must not be kept"
        assert len(mount.parts.images) == 0


async def test_a_folder_in_trouble_ends_with_an_error_after_what_it_held(
    source: Path, expect_warning: ExpectWarning
) -> None:
    """A mirror would else delete its copies of what is not listed."""
    expect_warning("it was removed, renamed or unmounted")
    async with served(source) as mount:
        listings, number = await opened(mount, "full")
        source.rename(source.with_name("away"))
        await mount.search()
        found = list(await listings.read(number, 0))
        assert [name for _, name, _ in found] == [".", "..", *NAMES]
        with pytest.raises(StorageError):
            await listings.read(number, found[-1][0])


async def test_what_is_closed_or_no_folder_is_not_listed(source: Path) -> None:
    async with served(source) as mount:
        listings, number = await opened(mount, "full")
        listings.release(number)
        with pytest.raises(KeyError):
            await listings.read(number, 0)
        listings, number = await opened(mount, "full/a.qcow2")
        with pytest.raises(VdifsError) as caught:
            await listings.read(number, 0)
        assert caught.value.errno == errno.ENOTDIR
