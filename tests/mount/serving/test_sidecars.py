"""What the files beside the images hold, without a mount. With one: tests/mount/test_mounted_sidecars.py."""

import errno
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.builder import make
from vdifs.catalog.catalog import Catalog
from vdifs.errors import VdifsError
from vdifs.mount.serving.control import sidecars as module
from vdifs.mount.serving.control.sidecars import SidecarContents
from vdifs.mount.serving.scheduling.threads import Threads
from vdifs.mount.view.nodes import Sidecar
from vdifs.mount.view.sources import source_of

NAME = "a.qcow2"


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    make(tmp_path / NAME, 1 << 20)
    with closing(Catalog(os.fspath(tmp_path))) as found:
        found.scan()
        yield found


async def read(catalog: Catalog, contents: SidecarContents, kind: str) -> bytes:
    return await contents.read(7, Sidecar(kind, NAME), source_of(catalog, catalog.entries[NAME]))


def test_there_is_one_for_info_and_one_for_map(catalog: Catalog) -> None:
    assert SidecarContents(catalog, Threads(1, 30.0)).kinds == ("info", "map")


@pytest.mark.parametrize("kind", ["info", "map"])
async def test_one_that_is_too_long_is_efbig_and_says_how_to_get_it(
    catalog: Catalog, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = SidecarContents(catalog, Threads(1, 30.0))
    whole = await read(catalog, contents, kind)
    monkeypatch.setattr(module, "MAX_SIZE", len(whole) - 1)
    assert await read(catalog, contents, kind) == whole, "it is kept"
    with pytest.raises(VdifsError) as caught:
        await read(catalog, SidecarContents(catalog, Threads(1, 30.0)), kind)
    assert caught.value.errno == errno.EFBIG
    assert str(caught.value) == (
        f"{NAME}: its {kind} is longer than {len(whole) - 1} bytes: run 'vdifs {kind} --output json' on the image"
    )


async def test_one_of_an_image_that_has_gone_is_estale(catalog: Catalog, tmp_path: Path) -> None:
    source = source_of(catalog, catalog.entries[NAME])
    (tmp_path / NAME).unlink()
    catalog.scan()
    contents = SidecarContents(catalog, Threads(1, 30.0))
    with pytest.raises(VdifsError, match="no such image any more") as caught:
        await contents.read(7, Sidecar("info", NAME), source)
    assert caught.value.errno == errno.ESTALE
