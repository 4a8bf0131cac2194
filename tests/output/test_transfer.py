"""An export copies only what holds data, and on a file system that can it shares blocks with the sources."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import vdifs
from tests.conftest import cannot_be_tried, require_tool
from tests.support import oracle
from tests.support.builder import make
from vdifs.output.export.exporting import export
from vdifs.output.view import View

MIB, GIB, TIB = 1 << 20, 1 << 30, 1 << 40


@contextmanager
def xfs(folder: Path) -> Iterator[Path]:
    """Mount a new XFS of 1 GiB."""
    require_tool("mkfs.xfs")
    if os.geteuid() != 0:
        cannot_be_tried("only root can mount a file system")
    disk, mountpoint = folder / "disk", folder / "xfs"
    with disk.open("wb") as file:
        file.truncate(GIB)
    mountpoint.mkdir()
    subprocess.run(["mkfs.xfs", "-q", disk], check=True)
    done = subprocess.run(["mount", "-o", "loop", disk, mountpoint], capture_output=True, text=True)
    if done.returncode != 0:
        cannot_be_tried(f"no loop device can be mounted here: {done.stderr.strip()}")
    try:
        yield mountpoint
    finally:
        subprocess.run(["umount", mountpoint], check=True)


@pytest.fixture
def on_xfs(tmp_path: Path) -> Iterator[Path]:
    with xfs(tmp_path) as mountpoint:
        yield mountpoint


def used(folder: Path) -> int:
    """Return the bytes in use on the file system of `folder`."""
    subprocess.run(["sync", "--file-system", folder], check=True)  # this one alone: others may have much to write
    found = os.statvfs(folder)
    return (found.f_blocks - found.f_bfree) * found.f_frsize


def chain_in(folder: Path) -> Path:
    """Make a chain of 192 MiB of data of an odd disk, in runs long and short, aligned and not; return its top."""
    base, top = folder / "base.qcow2", folder / "top.qcow2"
    make(base, GIB + 512, "write -P 1 0 64M", "write -P 2 128M 64M", f"write -P 3 {GIB} 512", cluster_size=65536)
    make(top, GIB + 512, backing=("base.qcow2", "qcow2"), cluster_size=4096)
    scattered = [f"write -P 9 {130 * MIB + index * 300 * 1024} 4k" for index in range(20)]
    oracle.qemu_io(top, ["write -P 4 32M 64M", "write -P 5 513M 1k", "write -c -P 6 600M 4k", *scattered])
    return top


@pytest.mark.parametrize("cluster_size", [512, 4096, 65536, 2 * MIB])
def test_blocks_are_shared_where_the_file_system_can(on_xfs: Path, cluster_size: int) -> None:
    source, output = chain_in(on_xfs), on_xfs / "output.qcow2"
    before = used(on_xfs)
    with vdifs.open(source, cluster_size=cluster_size) as image:
        export(image, os.fspath(output))
    if cluster_size >= 4096:  # the file system's block
        assert used(on_xfs) - before < 24 * MIB, "192 MiB are data"
    oracle.compare(source, output)
    oracle.check(output)


def test_a_raw_file_shares_too(on_xfs: Path) -> None:
    source, output = chain_in(on_xfs), on_xfs / "output.raw"
    before = used(on_xfs)
    with vdifs.open(source, view="raw") as image:
        export(image, os.fspath(output))
    assert used(on_xfs) - before < 24 * MIB
    oracle.compare(source, output, right_format="raw")


def test_what_shares_blocks_keeps_its_bytes_when_the_source_is_written(on_xfs: Path) -> None:
    source, output = chain_in(on_xfs), on_xfs / "output.qcow2"
    with vdifs.open(source) as image:
        export(image, os.fspath(output))
    kept = output.read_bytes()
    oracle.qemu_io(source, ["write -P 77 32M 64M"])
    assert output.read_bytes() == kept


@pytest.mark.parametrize("elsewhere", ["source", "output"])
def test_files_on_two_file_systems_are_copied(tmp_path: Path, on_xfs: Path, elsewhere: str) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    source = chain_in(folder if elsewhere == "source" else on_xfs)
    output = (on_xfs if elsewhere == "source" else folder) / "output.qcow2"
    with vdifs.open(source) as image:
        export(image, os.fspath(output))
    oracle.compare(source, output)


@pytest.mark.parametrize("view", ["raw", "qcow2"])
def test_a_huge_disk_costs_what_it_holds(tmp_path: Path, view: View) -> None:
    """64 TiB of zeros would take hours to look at; the file system's limit on a file's size is 16 TiB."""
    source, output = tmp_path / "huge.qcow2", tmp_path / "output"
    make(
        source,
        15 * TIB,
        "write -P 1 0 64k",
        f"write -P 2 {7 * TIB} 64k",
        f"write -P 3 {15 * TIB - 65536} 64k",
        cluster_size=65536,
    )
    with vdifs.open(source, view=view) as image:
        export(image, os.fspath(output))
        assert output.stat().st_size == image.size
    assert output.stat().st_blocks * 512 < MIB
    for at, value in ((0, 1), (7 * TIB, 2), (15 * TIB - 65536, 3)):
        oracle.qemu_io(output, [f"read -P {value} {at} 64k"], format=view)
