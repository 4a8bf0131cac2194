"""A packed file hangs on the image and the compression alone; a failure leaves none; memory is bounded."""

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

import pytest

import vdifs
from tests.conftest import cannot_be_tried, require_tool
from tests.support import oracle
from tests.support.builder import make
from tests.support.compressing import mixed
from tests.support.units import KIB, MIB
from vdifs.errors import FormatError, SourceChangedError, StorageError, UsageError
from vdifs.formats.layer import Codec
from vdifs.output.export.compressing import packed_file
from vdifs.output.export.compressing.compression import Compression
from vdifs.output.export.exporting import export

CODECS: list[Codec] = ["deflate", "zstd"]
CLUSTER = 64 * KIB


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """An image of 60 clusters of all kinds, in a folder of its own."""
    require_tool("qemu-img")
    folder = tmp_path / "source"
    folder.mkdir()
    make(folder / "image.qcow2", 8 * MIB)
    (tmp_path / "data").write_bytes(mixed(60, CLUSTER, 1))
    oracle.qemu_io(folder / "image.qcow2", [f"write -s {tmp_path / 'data'} 0 {60 * CLUSTER}"])
    (tmp_path / "data").unlink()
    return folder / "image.qcow2"


def exported(source: Path, output: Path, method: Codec = "zstd", **options: Any) -> bytes:
    with vdifs.open(source, **options) as image:
        export(image, os.fspath(output), compression=Compression(method))
    return output.read_bytes()


@pytest.mark.parametrize("method", CODECS)
def test_the_bytes_hang_on_no_number_of_processors(
    source: Path, tmp_path: Path, method: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed_file, "_BATCH", CLUSTER)
    found: list[bytes] = []
    for processors in (1, 2, 7, 1):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, count=processors: set(range(count)))
        found.append(exported(source, tmp_path / f"{len(found)}", method))
    assert len(set(found)) == 1


def test_the_bytes_hang_on_no_thread_that_is_slow(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every other batch is finished only after the one behind it."""
    expected = exported(source, tmp_path / "expected")
    monkeypatch.setattr(packed_file, "_BATCH", CLUSTER)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    pack, order = packed_file._PackedFile._pack, OutOfOrder()
    monkeypatch.setattr(packed_file._PackedFile, "_pack", lambda self, batch: order.run(lambda: pack(self, batch)))
    assert exported(source, tmp_path / "found") == expected
    assert order.overtaken > 10


class OutOfOrder:
    """Has two threads at a time swap the order in which they end."""

    def __init__(self) -> None:
        self._lock, self._waiting, self.overtaken = Lock(), list[Any](), 0

    def run(self, work: Any) -> Any:
        from threading import Event

        done = work()
        mine: Event | None = None
        with self._lock:
            if self._waiting:
                self._waiting.pop().set()
                self.overtaken += 1
            else:
                self._waiting.append(mine := Event())
        if mine is not None:
            mine.wait(1)
        return done


def test_what_waits_to_be_written_is_bounded(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed_file, "_BATCH", CLUSTER)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    pack, put = packed_file._PackedFile._pack, packed_file._PackedFile._put_batch
    begun, ended, most = [0], [0], [0]

    def count(self: Any, batch: Any) -> Any:
        begun[0] += 1
        most[0] = max(most[0], begun[0] - ended[0])
        return pack(self, batch)

    def count_end(self: Any, batch: Any, clusters: Any) -> None:
        put(self, batch, clusters)
        ended[0] += 1

    monkeypatch.setattr(packed_file._PackedFile, "_pack", count)
    monkeypatch.setattr(packed_file._PackedFile, "_put_batch", count_end)
    exported(source, tmp_path / "output")
    assert begun[0] == ended[0] == 60
    assert most[0] <= 2 + packed_file._BATCHES_AHEAD + 1


MEMORY = """
import sys, vdifs
from vdifs.output.export.compressing.compression import Compression
from vdifs.output.export.exporting import export
def memory(field):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(field + ":"))
with vdifs.open(sys.argv[1]) as image:
    export(image, sys.argv[2], compression=Compression("zstd"), overwrite=True)
with vdifs.open(sys.argv[3]) as image:
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the peak starts again from here
    before = memory("VmRSS")
    export(image, sys.argv[2], compression=Compression("zstd"), overwrite=True)
print((memory("VmHWM") - before) // 1024)
"""


def test_memory_does_not_follow_the_disk(source: Path, tmp_path: Path) -> None:
    """A disk of 400 MiB, every cluster of which is written, takes no more memory than one of 8 MiB."""
    large = tmp_path / "large.qcow2"
    make(large, 400 * MIB, "write -P 1 0 400M", cluster_size=4096)
    command = [sys.executable, "-c", MEMORY, os.fspath(source), os.fspath(tmp_path / "output"), os.fspath(large)]
    mebibytes = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=120).stdout
    assert int(mebibytes) < 32


def test_damage_on_the_way_leaves_no_file(source: Path, tmp_path: Path) -> None:
    os.truncate(source, source.stat().st_size - MIB)
    (tmp_path / "out").mkdir()
    with pytest.raises(FormatError, match=r"image\.qcow2"):
        exported(source, tmp_path / "out" / "output")
    assert os.listdir(tmp_path / "out") == []


@pytest.mark.parametrize("method", CODECS)
def test_a_damaged_packed_cluster_leaves_no_file(tmp_path: Path, method: Codec) -> None:
    require_tool("qemu-img")
    image = make(tmp_path / "image.qcow2", 4 * MIB, compression_type={"deflate": "zlib"}.get(method, method))
    image.io("write -c -P 5 1M 64k", "write -P 1 2M 64k")
    image.write((image.l2_entry(16) & ((1 << 54) - 1)), b"\xff" * 8)
    (tmp_path / "out").mkdir()
    with pytest.raises(FormatError, match=r"image\.qcow2: .*compressed"):
        exported(image.path, tmp_path / "out" / "output", method)
    assert os.listdir(tmp_path / "out") == []


def test_a_source_that_changes_leaves_no_file(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "out").mkdir()
    finish = packed_file._PackedFile._finish

    def change(self: Any) -> None:
        finish(self)
        with source.open("r+b") as file:
            file.write(b"QFI\xfb")

    monkeypatch.setattr(packed_file._PackedFile, "_finish", change)
    with pytest.raises(SourceChangedError):
        exported(source, tmp_path / "out" / "output")
    assert os.listdir(tmp_path / "out") == []


@contextmanager
def small_filesystem(folder: Path) -> Iterator[Path]:
    """Mount a tmpfs of 1 MiB."""
    if os.geteuid() != 0:
        cannot_be_tried("only root can mount a file system")
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1M", "tmpfs", folder], capture_output=True, text=True)
    if done.returncode:
        cannot_be_tried(f"no tmpfs can be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_full_disk_is_told_and_leaves_no_file(source: Path, tmp_path: Path) -> None:
    with small_filesystem(tmp_path / "small") as folder:
        with pytest.raises(StorageError, match="No space left on device: make room, or export to another") as caught:
            exported(source, folder / "output")
        assert caught.value.errno == errno.ENOSPC
        assert os.listdir(folder) == []


def test_an_existing_file_stays_unless_it_may_be_overwritten(source: Path, tmp_path: Path) -> None:
    output = tmp_path / "output"
    output.write_text("before")
    with vdifs.open(source) as image:
        with pytest.raises(UsageError, match="exists already"):
            export(image, os.fspath(output), compression=Compression("zstd"))
        assert output.read_text() == "before"
        export(image, os.fspath(output), compression=Compression("zstd"), overwrite=True)
    assert output.read_bytes()[:4] == b"QFI\xfb"


def test_progress_is_told_and_ends_with_all(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed_file, "_REPORT_S", 0)
    monkeypatch.setattr(packed_file, "_BATCH", CLUSTER)
    told: list[tuple[int, int]] = []
    with vdifs.open(source) as image:
        export(
            image,
            os.fspath(tmp_path / "output"),
            compression=Compression("zstd"),
            progress=lambda *at: told.append(at),
        )
    assert told == sorted(told)
    assert (told[0], told[-1]) == ((0, 60 * CLUSTER), (60 * CLUSTER, 60 * CLUSTER))
    assert len(told) > 50


@pytest.mark.parametrize(("method", "length"), [("zstd", 375), ("deflate", 383)])
def test_the_longest_backing_file_name_that_fits(tmp_path: Path, method: Codec, length: int) -> None:
    """A header of zstd is 8 bytes longer; with clusters of 512 bytes that is felt."""
    require_tool("qemu-img")
    make(tmp_path / "base.qcow2", MIB, cluster_size=512)
    make(tmp_path / "top.qcow2", MIB, "write -P 1 0 1k", backing=("base.qcow2", "qcow2"), cluster_size=512)
    options = {"base": tmp_path / "base.qcow2", "backing_name": "./" * (length // 2) + "b"}
    exported(tmp_path / "top.qcow2", tmp_path / "output", method, **options)
    assert len(oracle.info(tmp_path / "output")["backing-filename"]) == length
    if method == "zstd":
        options["backing_name"] = "./" * (length // 2 + 1) + "b"
        with pytest.raises(UsageError, match="a backing file name of 377 bytes does not fit, 376 do"):
            exported(tmp_path / "top.qcow2", tmp_path / "too-long", method, **options)
        assert not (tmp_path / "too-long").exists()


def test_levels_that_are_not_there_are_refused() -> None:
    assert Compression("deflate").level == 5
    for method, level in (("deflate", 0), ("deflate", 10), ("zstd", 0), ("zstd", 20), ("zstd", -1)):
        with pytest.raises(UsageError, match=f"{method} has no level {level}: give one from 1 to"):
            Compression(method, level)  # type: ignore[arg-type] # both are methods
