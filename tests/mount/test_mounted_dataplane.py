"""The data plane in a real mount: the same bytes as Python answers, and what the kernel asks of it besides."""

import errno
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from threading import Event

import pytest

import vdifs
from tests.conftest import require_tool
from tests.mount import direct, images
from tests.mount.direct import PAGE
from tests.mount.mounting import PATIENCE_S, SOON_S, Mounted, Mounts, eventually
from tests.mount.serving.served import require_local_disk
from tests.support import oracle
from tests.support.builder import make, write_stamped
from tests.support.stamps import difference, stamped
from tests.support.units import GIB, KIB, MIB, TIB

OFF = ("tests.mount.without_dataplane",)
SIZE = 8 * MIB
PACKED = ("deflate", "zstd")
RAW = "raw/x.raw.raw"
NEW = stamped(0, 512, 3)


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of every kind that the builder makes: chains, deltas, packed, of all sizes of clusters."""
    folder = tmp_path_factory.mktemp("kinds")
    images.week(folder)
    images.raw_based(folder)
    below = ("base.qcow2", "qcow2")
    for number in range(5):
        make(folder / f"deep{number}.qcow2", images.SIZE, backing=below, cluster_size=64 * KIB)
        write_stamped(
            folder / f"deep{number}.qcow2", {number * MIB + 512: MIB, 9 * MIB: 4096 * (number + 1)}, number + 4
        )
        below = (f"deep{number}.qcow2", "qcow2")
    for kind in ("512", "2M"):
        make(folder / f"clusters{kind}.qcow2", SIZE, cluster_size=kind)
        write_stamped(folder / f"clusters{kind}.qcow2", {512: 3000, MIB: 512 * 700, 5 * MIB + 512: MIB}, 1)
    make(folder / "sub.qcow2", SIZE, extended_l2="on", cluster_size="128k")
    write_stamped(folder / "sub.qcow2", {4096: 4096, MIB: MIB, 3 * MIB + 8192: 4096}, 1, commands=["write -z 1M 8k"])
    for number, raw in enumerate(("on", "off")):
        name = f"outside{number}"
        make(folder / f"{name}.qcow2", SIZE, data_file=f"{name}.data", data_file_raw=raw)
        oracle.qemu_io(f"{name}.qcow2", ["write -P 3 0 1M", "write -P 4 3M 64k"], cwd=folder)
    for kind, option in zip(PACKED, ("zlib", "zstd"), strict=True):
        words = ["convert", "-c", "-O", "qcow2", "-o", f"compression_type={option}"]
        oracle.qemu_img(*words, folder / "base.qcow2", folder / f"{kind}.qcow2")
    return folder


@pytest.fixture
def source(mounts: Mounts, kinds: Path) -> Path:
    source = mounts.scratch / "src"
    shutil.copytree(kinds, source)
    require_local_disk(source / "base.qcow2")
    return source


@pytest.fixture
def raw(mounts: Mounts) -> Path:
    """x.raw alone."""
    raw = mounts.scratch / "src/x.raw"
    raw.parent.mkdir()
    raw.write_bytes(stamped(0, MIB, 1))
    require_local_disk(raw)
    return raw


def synthetic(mounted: Mounted) -> list[str]:
    """Return the synthetic files of a mount."""
    folders = (mounted / each for each in ("full", "raw", "delta"))
    return [
        str(path.relative_to(mounted.path))
        for folder in folders
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    ]


def library(source: Path, name: str) -> vdifs.Image:
    """Open the same file by the library."""
    view, _, path = name.partition("/")
    if view == "raw":
        return vdifs.open(source / path.removesuffix(".raw"), view="raw")
    if view == "full":
        return vdifs.open(source / (path if (source / path).exists() else path.removesuffix(".qcow2")))
    base, _, top = path.partition("/")
    if top == base:  # a copy that its deltas are on
        return vdifs.open(source / top, view="raw" if top.endswith(".raw") else "qcow2")
    return vdifs.open(source / top.removeprefix(f"{base}.."), base=source / base)


def ranges(rng: random.Random, size: int, count: int) -> Iterator[tuple[int, int]]:
    """Yield ranges of all lengths up to 2 MiB, most of them short, some across the end."""
    yield 0, 4 * KIB
    yield max(0, size - 1000), 4096
    for _ in range(count):
        length = rng.choice([1, 511, 512, 4096, 64 * KIB, 128 * KIB, rng.randrange(1, 2 * MIB)])
        yield rng.randrange(size), length


def test_every_file_has_the_same_bytes_with_the_plane_and_without(
    mounts: Mounts, source: Path, rng: random.Random
) -> None:
    """Cold, and again where all is at hand."""
    on, off = mounts(source), mounts(source, module=OFF)
    names = synthetic(on)
    assert len(names) > 50
    assert names == synthetic(off)
    for name in names:
        with library(source, name) as image, direct.opened(on / name) as served, direct.opened(off / name) as by_python:
            wanted = [(at, length, image.read_at(at, length)) for at, length in ranges(rng, image.size, 12)]
            for at, length, data in 2 * wanted:
                assert os.pread(by_python, length, at) == data, (name, at, length)
                assert os.pread(served, length, at) == data, (name, at, length)


def test_most_warm_reads_never_wake_python(mounts: Mounts, source: Path, rng: random.Random) -> None:
    """All are counted in the status, and the thread that runs Python sleeps on."""
    mounted = mounts(source)
    names = [name for name in synthetic(mounted) if not any(kind in name for kind in PACKED)]
    assert len(names) > 40
    for name in names:
        with direct.opened(mounted / name) as file:
            size = os.fstat(file).st_size
            pages = -(-size // PAGE)
            places = [(rng.randrange(pages) * PAGE, rng.choice([PAGE, 4 * PAGE, 64 * KIB])) for _ in range(10)]
            for at, length in places:
                direct.warmed(file, mounted.pid, at, length)
            before, slept = mounted.status()["counters"]["reads"], direct.sleeps(mounted.pid)
            for at, length in 40 * places:
                os.pread(file, length, at)
            slept = direct.sleeps(mounted.pid) - slept
            read = mounted.status()["counters"]["reads"] - before
        assert read >= 400, name
        assert slept < 200, name


def test_without_the_plane_every_read_wakes_python(mounts: Mounts, raw: Path) -> None:
    """What the test above goes by."""
    mounted = mounts(raw.parent, module=OFF)
    with direct.opened(mounted / RAW) as file:
        eventually(lambda: _slept(mounted, file) > 200)


def _slept(mounted: Mounted, file: int) -> int:
    before = direct.sleeps(mounted.pid)
    for number in range(400):
        os.pread(file, PAGE, number % 256 * PAGE)
    return direct.sleeps(mounted.pid) - before


def runs_of_data(path: Path) -> list[tuple[int, int]]:
    """Return where lseek(2) says that there are data."""
    found: list[tuple[int, int]] = []
    at = 0
    with path.open("rb", buffering=0) as file:
        while True:
            try:
                start = os.lseek(file.fileno(), at, os.SEEK_DATA)
            except OSError as error:
                assert error.errno == errno.ENXIO
                return found
            at = os.lseek(file.fileno(), start, os.SEEK_HOLE)
            assert at > start >= 0
            found.append((start, at))


def mapped(path: Path, kind: str) -> list[tuple[int, int]]:
    """Return where QEMU says that there are data, what adjoins put together."""
    found: list[tuple[int, int]] = []
    for extent in oracle.map_of(path, kind):
        if extent.data and not extent.zero:
            joined = found and found[-1][1] == extent.start
            found[-1:] = [(found[-1][0], extent.end)] if joined else [*found[-1:], (extent.start, extent.end)]
    return found


@pytest.mark.parametrize("module", [("tests.mount.driver",), OFF])
def test_seek_data_and_hole_are_those_of_qemu(
    mounts: Mounts, source: Path, module: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(source)  # where QEMU looks for data files
    mounted = mounts(source, module=module)
    images_of = [*source.glob("*.qcow2"), source / "x.raw"]
    assert len(images_of) > 12
    for image in images_of:
        wanted = mapped(image, image.suffix[1:])
        assert wanted
        assert runs_of_data(mounted / f"raw/{image.name}.raw") == wanted, image.name


def test_all_of_a_qcow2_is_data_and_so_is_what_tells_of_it(mounts: Mounts, source: Path) -> None:
    mounted = mounts(source)
    for name in (
        "full/tuesday.qcow2",
        "delta/base.qcow2/tuesday.qcow2",
        ".vdifs/status.json",
        ".vdifs/map/base.qcow2.json",
    ):
        with (mounted / name).open("rb", buffering=0) as file:
            number, size = file.fileno(), os.fstat(file.fileno()).st_size
            assert os.lseek(number, 0, os.SEEK_DATA) == 0
            assert os.lseek(number, size - 1, os.SEEK_DATA) == size - 1
            assert os.lseek(number, 5, os.SEEK_HOLE) == size
            for whence in (os.SEEK_DATA, os.SEEK_HOLE):
                with pytest.raises(OSError, match="No such device or address"):
                    os.lseek(number, size, whence)


@pytest.fixture
def huge(mounts: Mounts) -> Path:
    """A disk of 1 TiB with little on it: by reading all of its zeros, a copy would take an hour."""
    huge = mounts.scratch / "src/huge.raw"
    huge.parent.mkdir()
    with huge.open("wb") as file:
        for at in HUGE_DATA:
            file.seek(at)
            file.write(stamped(at, MIB, 1))
        file.truncate(TIB)
    require_local_disk(huge)
    return huge


HUGE_DATA = [0, *(number * 50 * GIB + 64 * KIB for number in range(1, 20)), TIB - MIB]
COPY = "raw/huge.raw.raw"


def copied_by_cp(mounted: Mounted, scratch: Path) -> Path:
    subprocess.run(
        [require_tool("cp"), "--sparse=auto", mounted / COPY, scratch / "copy"], check=True, timeout=PATIENCE_S
    )
    return scratch / "copy"


def copied_by_tar(mounted: Mounted, scratch: Path) -> Path:
    tar, archive = require_tool("tar"), scratch / "archive.tar"
    made: list[str | Path] = [tar, "-C", mounted / "raw", "-S", "-cf", archive, "huge.raw.raw"]
    subprocess.run(made, check=True, timeout=PATIENCE_S)
    assert archive.stat().st_size < 2 * len(HUGE_DATA) * MIB
    subprocess.run([tar, "-C", scratch, "-xf", archive], check=True, timeout=PATIENCE_S)
    return scratch / "huge.raw.raw"


def copied_by_qemu(mounted: Mounted, scratch: Path) -> Path:
    """Converted, and back: what comes out is sparse, too."""
    words = ["convert", "-t", "unsafe", "-f", "raw", "-O", "qcow2"]
    oracle.qemu_img(*words, mounted / COPY, scratch / "copy.qcow2", timeout=PATIENCE_S)
    return oracle.materialize(scratch / "copy.qcow2", scratch / "copy")


@pytest.mark.parametrize("copied", [copied_by_cp, copied_by_tar, copied_by_qemu])
def test_a_copy_of_a_huge_disk_takes_seconds(
    mounts: Mounts, huge: Path, copied: Callable[[Mounted, Path], Path]
) -> None:
    mounted = mounts(huge.parent)
    runs = runs_of_data(mounted / COPY)
    assert runs == [(at, at + MIB) for at in HUGE_DATA]
    copy = copied(mounted, mounts.scratch)
    assert copy.stat().st_size == TIB
    with copy.open("rb", buffering=0) as file:
        for start, stop in runs_of_data(copy):
            data = os.pread(file.fileno(), stop - start, start)
            held = [at for at in HUGE_DATA if start <= at < stop]
            at = start
            for each in held:
                assert not any(data[at - start : each - start])
                assert difference(data[each - start :][:MIB], stamped(each, MIB, 1), each) is None
                at = each + MIB
            assert not any(data[at - start :])
    held_in_all = [at for at in HUGE_DATA for start, stop in runs_of_data(copy) if start <= at < stop]
    assert held_in_all == HUGE_DATA


def write(raw: Path) -> None:
    with raw.open("r+b", buffering=0) as file:
        file.write(stamped(0, MIB, 2))


def truncate(raw: Path) -> None:
    os.truncate(raw, MIB // 2)


def write_one_byte(raw: Path) -> None:
    with raw.open("r+b", buffering=0) as file:
        file.seek(MIB - 1)
        file.write(b"?")


def replace(raw: Path) -> None:
    new = raw.parent.parent / "new"
    new.write_bytes(stamped(0, MIB, 2))
    new.rename(raw)


def change_mode(raw: Path) -> None:
    raw.chmod(0o640)


def change_owner(raw: Path) -> None:
    os.chown(raw, 12345, -1)


class Readers:
    """Threads that read pages of one open file at random, past the page cache, until they meet an error or the end.

    reads: how many pages were right so far. wrong: what was not. errors: errno of the error of each.
    """

    def __init__(self, file: int, count: int) -> None:
        self.reads = 0
        self.wrong: list[str] = []
        self.errors: list[int] = []
        self._file = file
        self._end = Event()
        self._pool = ThreadPoolExecutor(count)
        self._running = [self._pool.submit(self._read, number) for number in range(count)]

    def _read(self, number: int) -> None:
        rng = random.Random(number)
        while not self._end.is_set():
            at, length = rng.randrange(MIB // PAGE) * PAGE, rng.choice([PAGE, 16 * PAGE])
            try:
                found = os.pread(self._file, length, at)
            except OSError as error:
                self.errors.append(error.errno or 0)
                return
            if (what := difference(found, stamped(at, min(length, MIB - at), 1), at)) is not None:
                self.wrong.append(what)
                return
            self.reads += 1

    def end(self) -> None:
        self._end.set()
        self.join()

    def join(self) -> None:
        for each in self._running:
            each.result(PATIENCE_S)
        self._pool.shutdown()


@pytest.mark.parametrize("change", [write, truncate, write_one_byte])
def test_what_is_written_under_warm_readers_is_estale_and_never_mixed(
    mounts: Mounts, raw: Path, change: Callable[[Path], None]
) -> None:
    mounted = mounts(raw.parent)
    mounted.expect_log("x.raw: changed since it was opened")
    mounted.allow_log("x.raw: .*(while it was opened|writing it)")
    for _ in range(5):
        change_under_readers(mounted, raw, change)
        raw.write_bytes(stamped(0, MIB, 1))
        eventually(lambda: _is_served(mounted))


def change_under_readers(mounted: Mounted, raw: Path, change: Callable[[Path], None]) -> None:
    with direct.opened(mounted / RAW) as file:
        direct.warmed(file, mounted.pid, 0, MIB)
        readers = Readers(file, 4)
        eventually(lambda: readers.reads > 200)
        change(raw)
        with pytest.raises(OSError, match="Stale file handle"):
            os.pread(file, PAGE, 0)
        readers.join()
        assert readers.wrong == []
        assert readers.errors == [errno.ESTALE] * 4


def _is_served(mounted: Mounted) -> bool:
    try:
        return (mounted / RAW).read_bytes() == stamped(0, MIB, 1)
    except OSError as error:
        assert error.errno in {errno.ESTALE, errno.EBUSY, errno.ENOENT}
        return False


@pytest.mark.parametrize("change", [replace, Path.unlink, change_mode, change_owner])
def test_what_changes_no_byte_of_the_open_file_costs_warm_readers_nothing(
    mounts: Mounts, raw: Path, change: Callable[[Path], None]
) -> None:
    if change is change_owner and os.geteuid() != 0:
        pytest.skip("only root may do that")
    mounted = mounts(raw.parent)
    with direct.opened(mounted / RAW) as file:
        direct.warmed(file, mounted.pid, 0, MIB)
        readers = Readers(file, 4)
        eventually(lambda: readers.reads > 200)
        change(raw)
        before = readers.reads
        eventually(lambda: readers.reads > before + 500 or readers.errors)
        readers.end()
        assert readers.wrong == []
        assert readers.errors == []
        direct.warmed(file, mounted.pid, 0, MIB)


def test_warm_readers_keep_nothing_else_from_its_turn(mounts: Mounts, raw: Path) -> None:
    """What is timed in the daemon, and what only Python answers."""
    mounted = mounts(raw.parent)
    with direct.opened(mounted / RAW) as file:
        direct.warmed(file, mounted.pid, 0, MIB)
        readers = Readers(file, 16)
        eventually(lambda: readers.reads > 200)
        for number in range(3):
            (raw.parent / f"new{number}.raw").write_bytes(NEW)
            eventually((mounted / f"raw/new{number}.raw.raw").exists, within=SOON_S)
            assert (mounted / f"raw/new{number}.raw.raw").read_bytes() == NEW
            began = time.monotonic()
            assert mounted.status()["open_files"]
            assert time.monotonic() - began < PATIENCE_S
        assert readers.errors == []
        assert readers.wrong == []
        readers.end()


READ = """
import os, sys
file = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECT)
size = os.fstat(file).st_size
for number in range(1 << 60):
    os.pread(file, 1 << (12 + number % 9), number * 7919 * 4096 % size)
    if number == 50:
        print("reading", flush=True)
"""


def test_a_reader_that_is_killed_in_the_middle_costs_no_other(mounts: Mounts, source: Path) -> None:
    mounted = mounts(source)
    names = ["raw/tuesday.qcow2.raw", "full/deep4.qcow2", "raw/zstd.qcow2.raw"]
    for number in range(12):
        with ExitStack() as ends:
            command = [sys.executable, "-c", READ, str(mounted / names[number % 3])]
            readers = [ends.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE)) for _ in range(2)]
            for reader in readers:
                assert reader.stdout is not None
                assert reader.stdout.readline() == b"reading\n"
            for reader in readers:
                reader.kill()
                reader.wait(PATIENCE_S)
    eventually(lambda: mounted.status()["open_files"] == [])
    for name in names:
        with library(source, name) as image:
            assert (mounted / name).read_bytes() == image.read_at(0, image.size)
