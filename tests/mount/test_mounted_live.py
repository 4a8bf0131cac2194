"""Images that a virtual machine is writing, in a mount: shown as broken, EBUSY, and back when it has ended."""

import os
from pathlib import Path

import pytest

from tests.mount.mounting import SOON_S, Mounts, eventually
from tests.mount.test_mounted_broken import errno_of_open, looks_broken, problem_of
from tests.support import oracle
from tests.support.writers import qemu_io

FILES = ("full/tuesday.qcow2", "delta/base.qcow2/tuesday.qcow2", "delta/monday.qcow2/tuesday.qcow2")
ANCESTORS = ("full/base.qcow2", "full/monday.qcow2", "delta/base.qcow2/monday.qcow2")
WRITTEN = "tuesday.qcow2: a virtual machine or another program is writing it"


@pytest.mark.usefixtures("root_only")  # who may open what has mode 0000, and so meets EBUSY
def test_a_live_image_is_busy_and_its_ancestors_are_served(mounts: Mounts, source: Path) -> None:
    with qemu_io(source / "tuesday.qcow2"):
        mounted = mounts(source)
        mounted.allow_log(WRITTEN)
        assert "tuesday.qcow2" in os.listdir(mounted / "full")
        for path in (*FILES, "raw/tuesday.qcow2.raw", "delta/tuesday.qcow2/tuesday.qcow2..tuesday.qcow2"):
            assert looks_broken(mounted / path), path
            assert errno_of_open(mounted / path) == "EBUSY"
        problem = problem_of(mounted, "tuesday.qcow2")
        assert problem["errno"] == "EBUSY"
        assert "--live allow" in problem["message"]
        for path in ANCESTORS:
            assert errno_of_open(mounted / path) == "opened"
        oracle.compare(mounted / "full/monday.qcow2", source / "monday.qcow2")


@pytest.mark.usefixtures("root_only")
def test_it_comes_back_within_a_second_of_its_writer_s_end(mounts: Mounts, source: Path) -> None:
    with qemu_io(source / "tuesday.qcow2") as writer:
        mounted = mounts(source)
        mounted.allow_log(WRITTEN)
        path = mounted / "full/tuesday.qcow2"
        assert errno_of_open(path) == "EBUSY"
        writer("write -P 9 0 64k")
        assert errno_of_open(path) == "EBUSY"
    eventually(lambda: errno_of_open(path) == "opened", within=SOON_S)
    assert not looks_broken(path)
    oracle.compare(path, source / "tuesday.qcow2")


@pytest.mark.usefixtures("root_only")
def test_a_writer_that_comes_later_is_met_at_the_next_open(mounts: Mounts, source: Path) -> None:
    mounted = mounts(source)
    mounted.allow_log(WRITTEN)
    path = mounted / "raw/tuesday.qcow2.raw"
    with path.open("rb", buffering=0) as file:
        first = file.read(4096)
        with qemu_io(source / "tuesday.qcow2"):
            assert errno_of_open(path) == "EBUSY", "an image that is kept open is asked again"
            eventually(lambda: looks_broken(path), within=SOON_S)
            assert os.pread(file.fileno(), 4096, 0) == first, "who has it open reads on until it changes"
    eventually(lambda: not looks_broken(path), within=SOON_S)


def test_live_allow_serves_it(mounts: Mounts, source: Path) -> None:
    with qemu_io(source / "tuesday.qcow2"):
        mounted = mounts(source, live="allow")
        assert len((mounted / "raw/tuesday.qcow2.raw").read_bytes()) == 16 << 20


def test_a_virtual_machine_may_start_on_what_is_being_read(mounts: Mounts, source: Path) -> None:
    """No lock is ever taken: QEMU opens every source for writing while the mount has them open."""
    mounted = mounts(source)
    mounted.allow_log("changed since it was opened")
    mounted.allow_log(WRITTEN)
    with (mounted / "raw/tuesday.qcow2.raw").open("rb") as file:
        file.read(4096)
        for name in ("tuesday.qcow2", "base.qcow2"):
            oracle.qemu_io(source / name, ["write -P 3 0 4k"])
