"""Opening a real image in the state that an inode number was given for, or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.mount.serving.served import descriptors_of
from tests.support.builder import write_blank
from tests.support.stamps import stamped
from vdifs.catalog.catalog import Catalog
from vdifs.errors import SourceChangedError, VdifsError
from vdifs.mount.serving.images.open_images import Opener
from vdifs.mount.serving.images.opening import opener_for
from vdifs.mount.view.nodes import ImageFile
from vdifs.mount.view.options import MountOptions
from vdifs.mount.view.sources import source_of

SIZE = 1 << 20
TOP = ImageFile("top.qcow2", view="raw")


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """base.raw, with top.qcow2 on it."""
    base = tmp_path.resolve() / "base.raw"
    base.write_bytes(stamped(0, SIZE, 1))
    write_blank(base.with_name("top.qcow2"), "base.raw", "raw")
    return base


@contextmanager
def searched(source: Path) -> Iterator[tuple[Catalog, Opener]]:
    catalog = Catalog(os.fspath(source))
    try:
        catalog.scan()
        yield catalog, opener_for(catalog, MountOptions(source=os.fspath(source), mountpoint="/mnt"))
    finally:
        catalog.close()


def test_an_image_is_opened_with_all_of_its_chain(base: Path) -> None:
    with searched(base.parent) as (catalog, opener):
        with opener(TOP, source_of(catalog, catalog.entries[TOP.path])) as image:
            assert image.read_at(0, SIZE) == stamped(0, SIZE, 1)
        with opener(ImageFile("top.qcow2", "base.raw"), source_of(catalog, catalog.entries[TOP.path])) as delta:
            assert delta.allocated == 0
            assert b"base.raw" in delta.read_at(0, 4096), "it names its base as it stands in the mount"


@pytest.mark.parametrize("which", ["base.raw", "top.qcow2"])
@pytest.mark.parametrize("how", ["written", "replaced", "touched", "removed"])
def test_what_has_changed_since_the_search_is_not_opened_and_not_left_open(base: Path, which: str, how: str) -> None:
    path = base.with_name(which)
    before = path.stat()
    with searched(base.parent) as (catalog, opener):
        source = source_of(catalog, catalog.entries[TOP.path])
        match how:
            case "written":
                with path.open("r+b") as file:
                    file.write(path.read_bytes())
            case "replaced":
                (new := path.with_name("new")).write_bytes(path.read_bytes())
                new.rename(path)
                os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
            case "touched":
                os.utime(path)
            case _:
                path.unlink()
        with pytest.raises(VdifsError if how == "removed" else SourceChangedError):
            opener(TOP, source)
        assert descriptors_of([each for each in base.parent.iterdir() if each.is_file()]) == []


def test_an_image_that_the_last_search_did_not_find_is_not_opened(base: Path) -> None:
    with searched(base.parent) as (catalog, opener):
        source = source_of(catalog, catalog.entries[TOP.path])
        base.with_name("top.qcow2").unlink()
        catalog.scan()
        with pytest.raises(SourceChangedError, match="removed since"):
            opener(TOP, source)
