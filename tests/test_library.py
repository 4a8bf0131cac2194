"""The public library, as docs/specification.md 4 promises it."""

import gc
import io
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import pytest

import vdifs
from tests.conftest import require_tool
from tests.support import oracle, qcow2
from tests.support.builder import make
from tests.support.stamps import stamped

KIB, MIB = 1 << 10, 1 << 20
SIZE = 3 * MIB + 512


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """base.qcow2 <- monday.qcow2 <- tuesday.qcow2, and disk.raw."""
    require_tool("qemu-img")
    require_tool("qemu-io")
    folder = tmp_path_factory.mktemp("library")
    (folder / "disk.raw").write_bytes(stamped(0, MIB, 9))
    for level, (name, below, cluster_size) in enumerate(
        [("base", None, 64 * KIB), ("monday", "base.qcow2", 4 * KIB), ("tuesday", "monday.qcow2", 64 * KIB)]
    ):
        image = folder / f"{name}.qcow2"
        backing = (below, "qcow2") if below else None
        make(image, SIZE, backing=backing, cluster_size=cluster_size)
        start = level * 300 * KIB
        (folder / "data").write_bytes(stamped(start, 700 * KIB, level + 1))
        oracle.qemu_io(image, [f"write -s {folder}/data {start} 700k"])
    return folder


@pytest.fixture
def chain(folder: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    for name in ("base", "monday", "tuesday"):
        shutil.copy(folder / f"{name}.qcow2", tmp_path)
    return tmp_path


@pytest.fixture
def image(folder: Path) -> Iterator[vdifs.Image]:
    with vdifs.open(folder / "tuesday.qcow2") as image:
        yield image


def test_the_example_of_the_specification_works(folder: Path, tmp_path: Path) -> None:
    with vdifs.open(folder / "tuesday.qcow2", base=folder / "base.qcow2") as image:
        assert image.virtual_size == SIZE
        assert len(image.etag) == 64
        with (tmp_path / "tuesday.qcow2").open("wb") as target:
            shutil.copyfileobj(image.file(), target)
        assert (tmp_path / "tuesday.qcow2").stat().st_size == image.size
    shutil.copy(folder / "base.qcow2", tmp_path)
    oracle.check(tmp_path / "tuesday.qcow2")
    oracle.compare(tmp_path / "tuesday.qcow2", folder / "tuesday.qcow2")


def test_names_may_be_strings_paths_and_relative(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    tags = set()
    for path in ("tuesday.qcow2", Path("tuesday.qcow2"), folder / "tuesday.qcow2", f"../{folder.name}/tuesday.qcow2"):
        with vdifs.open(path, base="base.qcow2") as image:
            tags.add((image.etag, image.size))
    assert len(tags) == 1


@pytest.mark.parametrize("base", ["base.qcow2", "monday.qcow2", "tuesday.qcow2"])
def test_a_delta_names_its_base(folder: Path, tmp_path: Path, base: str) -> None:
    delta = tmp_path / "delta.qcow2"
    with vdifs.open(folder / "tuesday.qcow2", base=folder / base) as image:
        delta.write_bytes(b"".join(image.stream()))
    assert oracle.info(delta)["backing-filename"] == base
    assert oracle.info(delta)["backing-filename-format"] == "qcow2"


def test_the_backing_name_is_the_one_asked_for(folder: Path, tmp_path: Path) -> None:
    delta = tmp_path / "delta.qcow2"
    with vdifs.open(folder / "tuesday.qcow2", base=folder / "base.qcow2", backing_name="../x/größe.qcow2") as image:
        delta.write_bytes(b"".join(image.stream()))
    assert oracle.info(delta)["backing-filename"] == "../x/größe.qcow2"


def test_a_raw_view_is_the_guest_contents(folder: Path) -> None:
    with vdifs.open(folder / "tuesday.qcow2", view="raw") as image:
        assert image.size == image.virtual_size == SIZE
        found = image.read_at(0, SIZE)
    wanted = bytearray(SIZE)
    for level in range(3):
        wanted[level * 300 * KIB : level * 300 * KIB + 700 * KIB] = stamped(level * 300 * KIB, 700 * KIB, level + 1)
    assert found == wanted


def test_a_raw_image_is_opened_by_its_suffix(folder: Path) -> None:
    with vdifs.open(folder / "disk.raw", view="raw") as image:
        assert image.read_at(0, MIB) == stamped(0, MIB, 9)
    with vdifs.open(folder / "disk.raw") as image:
        assert image.read_at(0, 8) == b"QFI\xfb\0\0\0\3"


@pytest.mark.parametrize("cluster_size", [512 << n for n in range(13)])
def test_the_cluster_size_is_the_one_asked_for(folder: Path, tmp_path: Path, cluster_size: int) -> None:
    full = tmp_path / "full.qcow2"
    with vdifs.open(folder / "tuesday.qcow2", cluster_size=cluster_size) as image:
        full.write_bytes(b"".join(image.stream()))
    assert oracle.info(full)["cluster-size"] == cluster_size
    oracle.check(full)
    oracle.compare(full, folder / "tuesday.qcow2")


def test_the_default_cluster_size_is_that_of_the_image(folder: Path, tmp_path: Path) -> None:
    for name, cluster_size in (("monday.qcow2", 4 * KIB), ("disk.raw", 64 * KIB)):
        with vdifs.open(folder / name) as image:
            assert 1 << qcow2.value(image.read_at(0, 24), "cluster_bits") == cluster_size


def test_extended_entries_are_written_when_asked_for(folder: Path, tmp_path: Path) -> None:
    for base in (None, folder / "base.qcow2"):
        file = tmp_path / "extended.qcow2"
        name = None if base is None else str(base)
        with vdifs.open(folder / "tuesday.qcow2", base=base, extended_l2=True, backing_name=name) as image:
            file.write_bytes(b"".join(image.stream()))
        assert oracle.info(file)["format-specific"]["data"]["extended-l2"]
        oracle.check(file)
        oracle.compare(file, folder / "tuesday.qcow2")


def test_reads_are_shorter_only_at_the_end(image: vdifs.Image) -> None:
    size = image.size
    whole = image.read_at(0, size + 1)
    assert len(whole) == size
    assert image.read_at(size - 10, 100) == whole[-10:]
    assert image.read_at(size, 1) == image.read_at(size + 1000, 1) == image.read_at(5, 0) == b""
    assert image.read_at(1 << 70, 1 << 70) == b""


def test_a_buffer_is_filled_and_the_rest_of_it_left_alone(image: vdifs.Image) -> None:
    buffer = bytearray(b"\xaa" * 100)
    assert image.readinto_at(image.size - 40, buffer) == 40
    assert buffer == image.read_at(image.size - 40, 40) + b"\xaa" * 60
    view = memoryview(bytearray(64)).cast("Q")
    assert image.readinto_at(0, view) == 64
    assert bytes(view.cast("B")) == image.read_at(0, 64)
    assert image.readinto_at(image.size + 5, buffer) == 0


@pytest.mark.parametrize(
    "read",
    [
        lambda image: image.read_at(-1, 1),
        lambda image: image.read_at(0, -1),
        lambda image: image.readinto_at(-1, bytearray(1)),
    ],
    ids=["negative offset", "negative length", "negative offset of a buffer"],
)
def test_negative_ranges_are_wrong_usage(image: vdifs.Image, read: Callable[[vdifs.Image], object]) -> None:
    with pytest.raises(vdifs.UsageError, match="negative") as caught:
        read(image)
    assert (caught.value.errno, caught.value.exit_code) == (22, 2)


def test_the_file_object_is_a_seekable_binary_file(image: vdifs.Image) -> None:
    whole = image.read_at(0, image.size)
    with image.file() as file:
        assert isinstance(file, io.BufferedIOBase)
        assert file.seekable()
        assert file.readable()
        assert not file.writable()
        assert file.read(100) == whole[:100]
        assert file.seek(-5, io.SEEK_END) == image.size - 5
        assert file.read() == whole[-5:]
        assert file.seek(10) == 10
        assert file.seek(10, io.SEEK_CUR) == 20
        assert file.read1(4) == whole[20:24]
        with pytest.raises((OSError, ValueError)):
            file.seek(-1)
        with pytest.raises(io.UnsupportedOperation):
            file.write(b"x")
    assert image.read_at(0, 4) == b"QFI\xfb", "closing the file object closed the image"


def test_two_file_objects_have_cursors_of_their_own(image: vdifs.Image) -> None:
    first, second = image.file(), image.file()
    first.seek(1000)
    assert second.read(4) == b"QFI\xfb"
    assert first.tell() == 1000


@pytest.mark.parametrize("chunk_size", [1000, 64 * KIB, 10 * MIB])
def test_a_stream_is_the_whole_file_in_order(image: vdifs.Image, chunk_size: int) -> None:
    chunks = list(image.stream(chunk_size))
    assert b"".join(chunks) == image.read_at(0, image.size)
    assert {len(chunk) for chunk in chunks[:-1]} <= {chunk_size}


def test_threads_may_read_at_once(image: vdifs.Image) -> None:
    whole = image.read_at(0, image.size)

    def work(seed: int) -> None:
        rng = Random(seed)
        for _ in range(200):
            offset, length = rng.randrange(image.size), rng.randrange(100_000)
            assert image.read_at(offset, length) == whole[offset : offset + length]

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))


def test_the_etag_changes_with_what_determines_the_bytes(folder: Path) -> None:
    tuesday, base = folder / "tuesday.qcow2", folder / "base.qcow2"
    opened: list[Callable[[], vdifs.Image]] = [
        lambda: vdifs.open(tuesday),
        lambda: vdifs.open(folder / "monday.qcow2"),
        lambda: vdifs.open(tuesday, base=base),
        lambda: vdifs.open(tuesday, base=folder / "monday.qcow2"),
        lambda: vdifs.open(tuesday, base=tuesday),
        lambda: vdifs.open(tuesday, base=base, backing_name="other"),
        lambda: vdifs.open(tuesday, cluster_size=512),
        lambda: vdifs.open(tuesday, view="raw"),
        lambda: vdifs.open(tuesday, extended_l2=True),
    ]
    tags = []
    for opening in opened:
        with opening() as first, opening() as second:
            assert first.etag == second.etag
            assert int(first.etag, 16) >= 0
            tags.append(first.etag)
    assert len(set(tags)) == len(opened)


def test_what_is_known_of_an_image(folder: Path) -> None:
    with (
        vdifs.open(folder / "tuesday.qcow2") as full,
        vdifs.open(folder / "tuesday.qcow2", base=folder / "monday.qcow2") as delta,
    ):
        assert (full.depth, delta.depth) == (3, 3)
        newest = max((folder / f"{name}.qcow2").stat().st_mtime_ns for name in ("base", "monday", "tuesday"))
        assert full.mtime_ns == newest
        first, last = 600 * KIB // (64 * KIB), -(-1300 * KIB // (64 * KIB))
        assert delta.allocated == (last - first) * 64 * KIB
        assert full.allocated == last * 64 * KIB


def test_a_source_that_changes_is_estale_for_ever_and_opens_anew(chain: Path) -> None:
    with vdifs.open(chain / "tuesday.qcow2") as image:
        image.read_at(0, 10)
        oracle.qemu_io(chain / "base.qcow2", ["write -P 7 0 64k"])
        for _ in range(2):
            with pytest.raises(vdifs.SourceChangedError, match=r"base.qcow2: changed since it was opened") as caught:
                image.read_at(0, 10)
            assert caught.value.errno == 116
        with vdifs.open(chain / "tuesday.qcow2") as again:
            assert again.etag != image.etag
            assert again.read_at(0, 4) == b"QFI\xfb"


def test_a_source_that_is_removed_or_renamed_over_keeps_being_served(chain: Path) -> None:
    with vdifs.open(chain / "tuesday.qcow2") as image:
        whole = image.read_at(0, image.size)
        (chain / "base.qcow2").unlink()
        (chain / "other").write_bytes(b"other")
        (chain / "other").rename(chain / "monday.qcow2")
        assert image.read_at(0, image.size) == whole


def test_sources_are_only_read(folder: Path) -> None:
    before = {
        path.name: (path.stat().st_mtime_ns, path.stat().st_ctime_ns, path.read_bytes()) for path in folder.iterdir()
    }
    with vdifs.open(folder / "tuesday.qcow2", base=folder / "base.qcow2") as image:
        b"".join(image.stream())
    assert before == {
        path.name: (path.stat().st_mtime_ns, path.stat().st_ctime_ns, path.read_bytes()) for path in folder.iterdir()
    }


def test_closing_twice_is_harmless_and_leaves_no_descriptor(folder: Path) -> None:
    gc.collect()  # what another test has left closes its descriptors now, not between the counts
    before = sorted(os.listdir("/proc/self/fd"))
    image = vdifs.open(folder / "tuesday.qcow2", base=folder / "base.qcow2")
    image.read_at(0, 100)
    image.close()
    image.close()
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_an_image_that_cannot_be_opened_leaves_no_descriptor(chain: Path) -> None:
    (chain / "base.qcow2").write_bytes(b"no image")
    gc.collect()
    before = sorted(os.listdir("/proc/self/fd"))
    with pytest.raises(vdifs.FormatError):
        vdifs.open(chain / "tuesday.qcow2")
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_reading_after_closing_fails(folder: Path) -> None:
    image = vdifs.open(folder / "tuesday.qcow2")
    image.close()
    with pytest.raises((vdifs.VdifsError, ValueError, OSError)):
        image.read_at(0, image.size)


def usage(match: str, **options: object) -> object:
    return pytest.param(options, vdifs.UsageError, 22, match, id=match.split(":", maxsplit=1)[0])


@pytest.mark.parametrize(
    ("options", "kind", "code", "match"),
    [
        usage("a raw view has no base", view="raw", base="base.qcow2"),
        usage("cluster size 1000: give a power of two", cluster_size=1000),
        usage("cluster size 256: give a power of two", cluster_size=256),
        usage("cluster size 4194304: give a power of two", cluster_size=4 * MIB),
        usage("cluster size 0: give a power of two", cluster_size=0),
        usage("a backing file name of 1024 bytes does not fit", base="base.qcow2", backing_name="x" * 1024),
        usage("a backing file name of 0 bytes does not fit", base="base.qcow2", backing_name=""),
        usage("a NUL would end the backing file name", base="base.qcow2", backing_name="a\0b"),
        usage("extended L2 entries need clusters of 16384", extended_l2=True, cluster_size=8 * KIB),
        pytest.param({"base": "disk.raw"}, vdifs.ChainError, 22, "disk.raw is not in its chain", id="no ancestor"),
        pytest.param({"base": "missing"}, vdifs.StorageError, 2, "missing: No such file", id="base missing"),
        pytest.param({"snapshot": "s"}, vdifs.ChainError, 2, "it has no snapshot 's'", id="no such snapshot"),
        pytest.param({"trusted": ["missing"]}, vdifs.StorageError, 2, "missing: No such file", id="trusted missing"),
    ],
)
def test_wrong_arguments_say_what_is_wrong(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, object],
    kind: type[vdifs.VdifsError],
    code: int,
    match: str,
) -> None:
    monkeypatch.chdir(folder)
    with pytest.raises(vdifs.VdifsError, match=match) as caught:
        vdifs.open("tuesday.qcow2", **options)  # type: ignore[arg-type] # wrong on purpose
    assert (type(caught.value), caught.value.errno) == (kind, code)


@pytest.mark.parametrize(
    ("path", "kind", "code"),
    [
        ("missing.qcow2", vdifs.StorageError, 2),
        ("", vdifs.VdifsError, 22),
        (".", vdifs.VdifsError, 22),
        ("tuesday.qcow2/x", vdifs.StorageError, 20),
        ("/dev/null", vdifs.StorageError, 22),
    ],
)
def test_paths_that_are_no_images_say_so(
    folder: Path, monkeypatch: pytest.MonkeyPatch, path: str, kind: type[vdifs.VdifsError], code: int
) -> None:
    monkeypatch.chdir(folder)
    with pytest.raises(kind) as caught:
        vdifs.open(path)
    assert os.strerror(caught.value.errno) == os.strerror(code)


def test_every_error_is_a_vdifs_error_with_errno_and_exit_code() -> None:
    kinds = [getattr(vdifs, name) for name in vdifs.__all__ if name.endswith("Error")]
    assert len(kinds) == 9
    for kind in kinds:
        assert issubclass(kind, vdifs.VdifsError)
        error = kind("message")
        assert isinstance(error.errno, int)
        assert error.exit_code in (1, 2)
        assert error.finding == "message"
        assert str(error) == ("message" if error.remedy is None else f"message: {error.remedy}")


def test_an_error_of_a_format_names_file_offset_and_remedy(folder: Path, tmp_path: Path) -> None:
    data = bytearray((folder / "base.qcow2").read_bytes())
    l1 = qcow2.value(data, "l1_table_offset")
    data[l1 : l1 + 8] = (0x123400).to_bytes(8, "big")
    (tmp_path / "bad.qcow2").write_bytes(data)
    with pytest.raises(vdifs.FormatError) as caught:
        vdifs.open(tmp_path / "bad.qcow2")
    assert str(caught.value).startswith(f"{tmp_path}/bad.qcow2: in the L1 table at {l1:#x}: ")
    assert str(caught.value).endswith(": restore it from a copy, or see what 'qemu-img check' says")


def test_an_image_may_be_opened_through_a_link(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link.qcow2").symlink_to(folder / "base.qcow2")
    with vdifs.open(tmp_path / "link.qcow2") as linked, vdifs.open(folder / "base.qcow2") as image:
        assert linked.read_at(0, linked.size) == image.read_at(0, image.size)


def test_a_base_may_be_spelled_in_any_way(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "link.qcow2").symlink_to(folder / "base.qcow2")
    (tmp_path / "folder").symlink_to(folder)
    monkeypatch.chdir(folder)
    tags = set()
    for base in ("base.qcow2", "./base.qcow2", tmp_path / "link.qcow2", tmp_path / "folder" / "base.qcow2"):
        with vdifs.open("tuesday.qcow2", base=base) as image:
            tags.add(image.etag)
    assert len(tags) == 1


def test_importing_the_library_loads_neither_numpy_nor_the_mount() -> None:
    code = "import sys, vdifs; print([m for m in ('numpy', 'trio', 'pyfuse3', 'rich', 'click') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
