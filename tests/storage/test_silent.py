"""Where writes are harder to see: file systems in memory, and one on top of others (docs/specification.md 5.3)."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import vdifs
from tests.conftest import cannot_be_tried, require_mounting
from tests.storage.watching import (
    MAPPING,
    MIB,
    READS_FIRST,
    is_noticed,
    link,
    program,
    tell,
    watched,
    write,
    write_by_a_mapping_alone,
)
from tests.support.age import grow_old
from tests.support.stamps import stamped
from vdifs.errors import InUseError, SourceChangedError


def mount(folder: Path, kind: str, options: str = "") -> None:
    folder.mkdir()
    words = ["mount", "-t", kind, *(["-o", options] if options else []), "vdifs-test", str(folder)]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        cannot_be_tried(f"no {kind} here: {done.stderr.strip()}")


@pytest.fixture(params=["tmpfs", "ramfs", "overlay"])
def silent(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A file in memory, perhaps through an overlay, whose mappings write without moving time stamps."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount")
    require_mounting()
    below, top = tmp_path / "below", tmp_path / "top"
    try:
        if request.param == "overlay":
            mount(below, "tmpfs")
            for name in ("lower", "upper", "work"):
                (below / name).mkdir()
            mount(top, "overlay", f"lowerdir={below}/lower,upperdir={below}/upper,workdir={below}/work")
        else:
            mount(top, request.param)
        path = top / "disk.raw"
        path.write_bytes(stamped(0, MIB, 1))
        grow_old()
        yield path
    finally:
        for folder in (top, below):
            if folder.is_mount():
                subprocess.run(["umount", folder], check=True)


def test_a_mapping_that_is_there_already_is_refused(silent: Path) -> None:
    with program(MAPPING, silent):
        grow_old()
        with pytest.raises(InUseError, match="writing it"):
            vdifs.open(silent, view="raw")
    vdifs.open(silent, view="raw").close()


def test_a_mapping_that_comes_later_and_writes_is_met(silent: Path) -> None:
    with vdifs.open(silent, view="raw") as image:
        assert image.read_at(0, 512) == stamped(0, 512, 1)
        with program(READS_FIRST, silent) as writer:
            tell(writer)
            for _ in range(2):
                with pytest.raises(SourceChangedError):
                    image.read_at(MIB // 2, 512)


@pytest.mark.parametrize("change", [write, write_by_a_mapping_alone])
def test_a_write_is_a_change_though_the_link_count_moved(silent: Path, change: Callable[[Path], None]) -> None:
    """On an overlay, too, where no events prove nothing, those that there are tell of a write."""
    assert is_noticed(silent, change, link)


def test_a_link_is_no_change(silent: Path) -> None:
    with watched(silent) as file:
        for _ in range(2):
            file.check_unchanged()
        link(silent)
        file.check_unchanged()
        grow_old()
        file.check_unchanged()
