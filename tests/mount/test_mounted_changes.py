"""Sources that come, go and change under a mount."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest

from tests.mount import images
from tests.mount.mounting import SOON_S, Mounted, Mounts, eventually
from tests.support import oracle
from tests.support.builder import write_stamped
from tests.support.stamps import difference, stamped

MIB = 1 << 20


@pytest.fixture
def mounted(mounts: Mounts, source: Path) -> Mounted:
    return mounts(source)


def overwrite(image: Path, generation: int) -> None:
    """Change an image in place."""
    write_stamped(image, {0: 64 << 10}, generation)


def test_a_new_image_appears_within_a_second(mounted: Mounted, source: Path) -> None:
    assert not (mounted / "full/new.qcow2").exists()
    os.listdir(mounted / "full")
    shutil.copy(source / "base.qcow2", source / "new.qcow2")
    eventually((mounted / "full/new.qcow2").exists, within=SOON_S)
    assert "new.qcow2" in os.listdir(mounted / "full")
    oracle.compare(mounted / "full/new.qcow2", source / "base.qcow2")


def test_a_new_image_in_a_new_folder_appears_within_a_second(mounted: Mounted, source: Path) -> None:
    os.listdir(mounted.path)
    (source / "deep/er").mkdir(parents=True)
    shutil.copy(source / "base.qcow2", source / "deep/er/new.qcow2")
    eventually((mounted / "raw/deep/er/new.qcow2.raw").exists, within=SOON_S)
    shutil.rmtree(source / "deep")
    eventually(lambda: not (mounted / "raw/deep").exists(), within=SOON_S)


def test_a_removed_image_vanishes_within_a_second(mounted: Mounted, source: Path) -> None:
    path = mounted / "full/tuesday.qcow2"
    assert path.stat().st_size
    (source / "tuesday.qcow2").unlink()
    eventually(lambda: not path.exists(), within=SOON_S)
    assert "tuesday.qcow2" not in os.listdir(mounted / "delta/base.qcow2")
    assert (mounted / "full/monday.qcow2").exists()


def test_a_removed_base_breaks_those_above_it_and_no_others(mounted: Mounted, source: Path) -> None:
    shutil.copy(source / "base.qcow2", source / "other.qcow2")
    (source / "monday.qcow2").unlink()
    mounted.expect_log("monday.qcow2")
    eventually((mounted / "full/other.qcow2").exists)
    eventually(lambda: (mounted / "full/tuesday.qcow2").stat().st_size == 0)
    with pytest.raises(OSError, match=r"Input/output error|Permission denied"):
        (mounted / "full/tuesday.qcow2").open("rb")
    oracle.compare(mounted / "full/other.qcow2", source / "base.qcow2")


def test_an_open_file_goes_on_when_its_source_is_removed(mounted: Mounted, source: Path) -> None:
    path = mounted / "raw/tuesday.qcow2.raw"
    wanted = oracle.materialize(source / "tuesday.qcow2", source.parent / "wanted").read_bytes()
    with path.open("rb", buffering=0) as file:
        for image in source.iterdir():
            image.unlink()
        eventually(lambda: not path.exists())
        found = b"".join(iter(lambda: file.read(MIB), b""))
        assert os.fstat(file.fileno()).st_size == len(wanted)
    assert found == wanted


def test_an_open_file_goes_on_when_its_source_is_renamed_over(mounted: Mounted, source: Path) -> None:
    path = mounted / "raw/base.qcow2.raw"
    old = oracle.materialize(source / "base.qcow2", source.parent / "old").read_bytes()
    other = source.parent / "other.qcow2"
    shutil.copy(source / "base.qcow2", other)
    overwrite(other, 9)
    new = oracle.materialize(other, source.parent / "new").read_bytes()
    with path.open("rb", buffering=0) as file:
        images.replace_with(source / "base.qcow2", other)
        inode = os.fstat(file.fileno()).st_ino
        eventually(lambda: path.stat().st_ino != inode)
        assert path.read_bytes() == new
        assert b"".join(iter(lambda: file.read(MIB), b"")) == old
        assert os.fstat(file.fileno()).st_ino == inode


def test_an_open_file_answers_estale_once_its_source_has_changed(mounted: Mounted, source: Path) -> None:
    path = mounted / "raw/base.qcow2.raw"
    mounted.expect_log("base.qcow2: changed since it was opened")
    with path.open("rb", buffering=0) as file:
        assert difference(file.read(4096), stamped(0, 4096, 1), 0) is None
        inode = os.fstat(file.fileno()).st_ino
        overwrite(source / "base.qcow2", 9)
        with pytest.raises(OSError, match="Stale file handle"):
            os.pread(file.fileno(), 4096, 8 * MIB)
        with path.open("rb", buffering=0) as again:
            assert difference(again.read(4096), stamped(0, 4096, 9), 0) is None
            assert os.fstat(again.fileno()).st_ino != inode
        with pytest.raises(OSError, match="Stale file handle"):
            os.pread(file.fileno(), 4096, 4 * MIB)


def test_pages_that_were_cached_are_not_served_for_long_after_a_change(mounted: Mounted, source: Path) -> None:
    mounted.expect_log("changed since it was opened")
    with (mounted / "raw/base.qcow2.raw").open("rb", buffering=0) as file:
        file.read(4096)
        overwrite(source / "base.qcow2", 9)

        def is_stale() -> bool:
            try:
                found = os.pread(file.fileno(), 4096, 0)
            except OSError as error:
                return error.errno == errno.ESTALE
            assert difference(found, stamped(0, 4096, 1), 0) is None, "never the new bytes in the old file"
            return False

        eventually(is_stale, within=SOON_S)


def test_the_next_open_after_a_change_serves_the_new_state(mounted: Mounted, source: Path) -> None:
    path = mounted / "raw/tuesday.qcow2.raw"
    for generation in range(10, 20):
        write_stamped(source / "tuesday.qcow2", {4 * MIB: 4096}, generation)
        with path.open("rb", buffering=0) as file:
            assert (
                difference(os.pread(file.fileno(), 4096, 4 * MIB), stamped(4 * MIB, 4096, generation), 4 * MIB) is None
            )


def test_readers_never_see_two_states_mixed(mounted: Mounted, source: Path) -> None:
    mounted.expect_log("changed since it was opened")
    met_while_it_is_written = (
        r"not a qcow2, .* image|is none any more|beyond the end|while it was opened|program is writing it"
    )
    mounted.allow_log(rf"tuesday.qcow2: .*({met_while_it_is_written})")
    path, stop, seen, wrong = mounted / "raw/tuesday.qcow2.raw", Event(), set(), set()
    write_stamped(source / "tuesday.qcow2", {0: MIB}, 100)

    def read() -> None:
        while not stop.is_set():
            try:
                found = first_mib(path)
            except OSError as error:
                if error.errno not in (errno.ESTALE, errno.EBUSY, errno.EIO, errno.ENOENT):
                    wrong.add(str(error))
                continue
            generation = int.from_bytes(found[2:4], "big")
            seen.add(generation)
            if (what := difference(found, stamped(0, MIB, generation), 0)) is not None:
                wrong.add(f"{generation}: {what}")

    with path.open("rb", buffering=0) as held, ThreadPoolExecutor(4) as pool:  # so one is open while it changes
        readers = [pool.submit(read) for _ in range(4)]
        try:
            for generation in range(101, 121):
                renew(source / "tuesday.qcow2", generation, in_place=generation % 2 == 1)
                time.sleep(0.05)
            eventually(lambda: 120 in seen)
            eventually(lambda: is_stale(held.fileno()), within=SOON_S)
        finally:
            stop.set()
        for reader in readers:
            reader.result()
    assert wrong == set()
    assert len(seen) > 3


def is_stale(fd: int) -> bool:
    """Tell whether the source of an open file is known to have changed."""
    try:
        os.pread(fd, 4096, 0)
    except OSError as error:
        return error.errno == errno.ESTALE
    return False


def first_mib(path: Path) -> bytes:
    """Read on where a read ended early: if it met an error behind pages that were cached, the next one tells."""
    with path.open("rb", buffering=0) as file:
        found = b""
        while len(found) < MIB and (more := file.read(MIB - len(found))):
            found += more
    return found


def renew(image: Path, generation: int, *, in_place: bool) -> None:
    """Give an image other data: by overwriting the file, or by renaming another one over it."""
    fresh = image.parent.parent / "fresh.qcow2"
    shutil.copy(image, fresh)
    oracle.qemu_img("rebase", "-u", "-b", str(image.parent / "monday.qcow2"), "-F", "qcow2", fresh)
    write_stamped(fresh, {0: MIB}, generation)
    if in_place:
        image.write_bytes(fresh.read_bytes())
    else:
        images.replace_with(image, fresh)


READ_THROUGH_MMAP = """
import mmap, sys, time
with open(sys.argv[1], "rb") as file:
    mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
old = mapped[:4096]
print("ready", flush=True)
while mapped[:4096] == old:
    time.sleep(0.02)
"""


def test_a_reader_through_mmap_gets_the_old_bytes_or_a_signal(mounted: Mounted, source: Path) -> None:
    mounted.expect_log("changed since it was opened")
    command = [sys.executable, "-c", READ_THROUGH_MMAP, str(mounted / "raw/base.qcow2.raw")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == b"ready\n"
        overwrite(source / "base.qcow2", 9)
        try:
            assert reader.wait(20) == -signal.SIGBUS
        finally:
            reader.kill()


def test_hard_linking_a_source_is_no_change(mounted: Mounted, source: Path) -> None:
    with (mounted / "raw/base.qcow2.raw").open("rb", buffering=0) as file:
        os.link(source / "base.qcow2", source.parent / "link")
        time.sleep(1)
        assert difference(os.pread(file.fileno(), 4096, 2 * MIB), stamped(2 * MIB, 4096, 1), 2 * MIB) is None
    oracle.compare(mounted / "full/base.qcow2", source / "base.qcow2")


def test_a_grown_source_has_another_size_and_inode(mounted: Mounted, source: Path) -> None:
    path = mounted / "raw/tuesday.qcow2.raw"
    before = path.stat()
    oracle.qemu_img("resize", source / "tuesday.qcow2", str(32 * MIB))
    eventually(lambda: path.stat().st_size == 32 * MIB, within=SOON_S)
    assert path.stat().st_ino != before.st_ino
    assert len(path.read_bytes()) == 32 * MIB


def test_a_folder_that_is_being_listed_shows_one_state(mounted: Mounted, source: Path) -> None:
    for number in range(300):
        shutil.copy(source / "base.qcow2", source / f"copy{number:03}.qcow2")
    eventually(lambda: len(os.listdir(mounted / "full")) == 303)
    with os.scandir(mounted / "full") as entries:
        names = [next(entries).name]
        for image in source.glob("copy*"):
            image.unlink()
        time.sleep(0.5)
        os.listdir(mounted / "full")
        names += [entry.name for entry in entries]
    assert len(names) == len(set(names))
    assert {"base.qcow2", "monday.qcow2", "tuesday.qcow2"} <= set(names)
