"""`vdifs map` and `vdifs measure` of images, deltas and snapshots: in QEMU's schema, to the byte, reading no data."""

import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Vdifs
from tests.support import oracle
from tests.support.builder import CLUSTER, make, make_raw
from tests.support.image_file import Image
from tests.support.qcow2 import COMPRESSED, DATA_FILE_NAME
from tests.support.units import KIB, MIB

PLAIN = {"present": True, "zero": False, "data": True, "compressed": False}
ZEROS = {"present": True, "zero": True, "data": False, "compressed": False}
NOTHING = {"present": False, "zero": True, "data": False, "compressed": False}
BELOW = {"present": False, "zero": False, "data": False, "compressed": False}
Words = tuple[str | Path, ...]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """`base.qcow2 <- middle.qcow2 <- top.qcow2`, of which the middle has a snapshot `before`."""
    folder = tmp_path / "images"
    folder.mkdir()
    make(folder / "base.qcow2", MIB, "write -P 1 0 256k")
    middle = make(folder / "middle.qcow2", MIB, "write -P 2 64k 64k", backing=("base.qcow2", "qcow2"))
    oracle.qemu_img("snapshot", "-c", "before", middle.path)
    middle.io("write -P 3 512k 64k", "write -z 0 64k")
    make(folder / "top.qcow2", MIB + 512, "write -c -P 4 128k 64k", backing=("middle.qcow2", "qcow2"))
    return folder


def answer(vdifs: Vdifs, *words: str | Path) -> Any:
    status, out, err = vdifs(*words, "--output", "json")
    assert (status, err) == (0, "")
    return json.loads(out)


def run(start: int, length: int, depth: int, what: dict[str, bool], place: tuple[Path, int] | None = None) -> Any:
    """Return one run, lengths in KiB; place: file and offset of its data."""
    where = {} if place is None else {"offset": place[1], "filename": str(place[0])}
    return {"start": start * KIB, "length": length * KIB, "depth": depth, **what, **where}


def test_a_map_tells_of_each_part_where_it_comes_from(folder: Path, vdifs: Vdifs) -> None:
    base, middle = Image(folder / "base.qcow2"), Image(folder / "middle.qcow2")
    assert answer(vdifs, "map", folder / "top.qcow2") == [
        run(0, 64, 1, ZEROS),
        run(64, 64, 1, PLAIN, (middle.path, middle.data_offset(1))),
        run(128, 64, 0, PLAIN | {"compressed": True}),
        run(192, 64, 2, PLAIN, (base.path, base.data_offset(3))),
        run(256, 256, 2, NOTHING),
        run(512, 64, 1, PLAIN, (middle.path, middle.data_offset(8))),
        run(576, 448, 2, NOTHING),
        {"start": MIB, "length": 512, "depth": 0, **NOTHING},
    ]


def test_a_map_down_to_a_base_does_not_look_into_it(folder: Path, vdifs: Vdifs) -> None:
    middle, top = Image(folder / "middle.qcow2"), folder / "top.qcow2"
    assert answer(vdifs, "map", middle.path, "--base", folder / "base.qcow2") == [
        run(0, 64, 0, ZEROS),
        run(64, 64, 0, PLAIN, (middle.path, middle.data_offset(1))),
        run(128, 384, 1, BELOW),
        run(512, 64, 0, PLAIN, (middle.path, middle.data_offset(8))),
        run(576, 448, 1, BELOW),
    ]
    assert answer(vdifs, "map", top, "--base", top) == [{"start": 0, "length": MIB + 512, "depth": 0, **BELOW}]


def test_a_map_of_a_snapshot_is_of_what_it_held(folder: Path, vdifs: Vdifs) -> None:
    base, middle = Image(folder / "base.qcow2"), Image(folder / "middle.qcow2")
    own = run(64, 64, 0, PLAIN, (middle.path, middle.data_offset(1)))
    snapshot = f"{middle.path}@before"
    assert answer(vdifs, "map", snapshot) == [
        run(0, 64, 1, PLAIN, (base.path, base.data_offset(0))),
        own,
        run(128, 128, 1, PLAIN, (base.path, base.data_offset(2))),
        run(256, 768, 1, NOTHING),
    ]
    assert answer(vdifs, "map", snapshot, "--base", base.path) == [run(0, 64, 1, BELOW), own, run(128, 896, 1, BELOW)]
    assert answer(vdifs, "map", snapshot, "--base", snapshot) == [run(0, 1024, 0, BELOW)]


def test_a_map_for_people_has_the_lines_of_qemu_img(folder: Path, vdifs: Vdifs) -> None:
    """Which cannot tell of compressed clusters; offsets are hexadecimal, and 0 is `0` there."""
    middle = folder / "middle.qcow2"
    wanted = [line.split() for line in oracle.qemu_img("map", middle).splitlines()]
    status, out, err = vdifs("map", middle)
    told = [line.split() for line in out.splitlines()]
    assert (status, err) == (0, "")
    assert told[0] == wanted[0] == ["Offset", "Length", "Mapped", "to", "File"]
    assert [[*(int(word, 16) for word in line[:3]), line[3]] for line in told[1:]] == [
        [*(int(word, 16) for word in line[:3]), line[3]] for line in wanted[1:]
    ]
    assert f"{128 * KIB:#x}            0x10000            compressed         {folder / 'top.qcow2'}\n" in (
        vdifs("map", folder / "top.qcow2").out
    )


def test_for_people_a_hole_in_the_file_is_no_data_as_for_qemu(tmp_path: Path, vdifs: Vdifs) -> None:
    image = make(tmp_path / "image.qcow2", MIB, "write -P 1 0 256k")
    place = str(image.data_offset(1))
    oracle.run("fallocate", "--punch-hole", "--offset", place, "--length", str(CLUSTER), image.path)
    assert [each["zero"] for each in answer(vdifs, "map", image.path)] == [False, True, False, True]
    told, wanted = (
        [line.split() for line in said.splitlines()[1:]]
        for said in (vdifs("map", image.path).out, oracle.qemu_img("map", "-f", "qcow2", image.path))
    )
    assert [(int(row[0], 16), int(row[1], 16)) for row in told] == [(0, CLUSTER), (2 * CLUSTER, 2 * CLUSTER)]
    assert [[*(int(word, 16) for word in row[:3])] for row in wanted] == [
        [*(int(word, 16) for word in row[:3])] for row in told
    ]


@pytest.mark.parametrize(
    ("raw", "external"),
    [(b"b\xff", False), (b"b\n\x1b[31m", False), ("größe".encode(), False), (b"b\xff", True), ("größe".encode(), True)],
)
def test_a_file_is_named_so_that_a_script_can_open_it(raw: bytes, external: bool, tmp_path: Path, vdifs: Vdifs) -> None:
    image, data = tmp_path / os.fsdecode(raw + b".qcow2"), tmp_path / os.fsdecode(raw + b".data")
    options: dict[str, Any] = {"data_file": tmp_path / "plain.data"} if external else {}
    made = make(tmp_path / "plain", MIB, "write -P 1 0 64k", **options)
    if external:
        (tmp_path / "plain.data").rename(data)
        made.extensions((DATA_FILE_NAME, raw + b".data"))
    made.path.rename(image)
    told = answer(vdifs, "map", image)[0]
    holder = data if external else image
    as_bytes = bytes.fromhex(told["filename_hex"]) if "filename_hex" in told else told["filename"].encode()
    assert as_bytes == os.fsencode(holder)
    assert told["filename"] == os.fsencode(holder).decode(errors="replace")
    assert ("filename_hex" in told) is (b"\xff" in raw)


@pytest.mark.parametrize("command", ["map", "measure"])
@pytest.mark.parametrize(
    ("words", "status", "line"),
    [
        (("top.qcow2", "--base", "gone.qcow2"), 1, "gone.qcow2: No such file or directory: name an ancestor of"),
        (("top.qcow2", "--base", "stranger.qcow2"), 1, "stranger.qcow2 is not in its chain"),
    ],
    ids=["missing", "stranger"],
)
def test_a_base_that_shares_nothing_is_refused(
    command: str, words: tuple[str, ...], status: int, line: str, folder: Path, vdifs: Vdifs,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(folder)
    make(folder / "stranger.qcow2", MIB)
    ended, out, err = vdifs(command, *words, "--output", "json")
    assert (ended, out, err.count("\n")) == (status, "", 1)
    assert line in err


@pytest.mark.parametrize("kind", ["raw", "vhd", "vhd-fixed", "vmdk"])
@pytest.mark.parametrize("words", [["--base", "base.qcow2"], ["--cluster-size", "4k"], ["--extended-l2"]], ids=" ".join)
def test_nothing_is_measured_that_cannot_be_exported(kind: str, words: list[str], folder: Path, vdifs: Vdifs) -> None:
    image, output = folder / "top.qcow2", folder / "output"
    measured = vdifs("measure", image, "--format", kind, *words)
    exported = vdifs("export", image, output, "--format", kind, *words)
    assert (measured.status, measured.out, measured.err.count("\n")) == (2, "", 1)
    assert measured.err.replace("measure", "export") == exported.err
    assert not output.exists()


MEASURED: list[tuple[str, ...]] = [
    ("top.qcow2",),
    ("top.qcow2", "--base", "base.qcow2"),
    ("top.qcow2", "--base", "middle.qcow2"),
    ("top.qcow2", "--base", "top.qcow2"),
    ("top.qcow2", "--format", "raw"),
    ("top.qcow2", "--format", "vhd"),
    ("top.qcow2", "--format", "vhd-fixed"),
    ("top.qcow2", "--format", "vmdk"),
    ("top.qcow2", "--cluster-size", "512"),
    ("top.qcow2", "--cluster-size", "2M", "--base", "base.qcow2"),
    ("top.qcow2", "--extended-l2"),
    ("middle.qcow2", "--extended-l2", "--base", "base.qcow2"),
    ("middle.qcow2@before",),
    ("middle.qcow2@before", "--base", "base.qcow2"),
    ("middle.qcow2@before", "--base", "middle.qcow2@before"),
    ("middle.qcow2@before", "--format", "raw"),
    ("middle.qcow2@before", "--format", "vhd"),
]


@pytest.mark.parametrize("words", MEASURED, ids=" ".join)
def test_the_measure_is_the_size_of_the_export(
    words: tuple[str, ...], folder: Path, vdifs: Vdifs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    measured = answer(vdifs, "measure", *words)
    by_qemu = json.loads(oracle.qemu_img("measure", "-O", "qcow2", "--output=json", "base.qcow2"))
    assert set(measured) == set(by_qemu) == {"bitmaps", "required", "fully-allocated"}
    assert vdifs("export", words[0], "output", *words[1:]).status == 0
    assert os.path.getsize("output") == measured["required"] <= measured["fully-allocated"]
    human = [line.rsplit("(", 1)[1] for line in vdifs("measure", *words).out.splitlines()]
    assert human == [f"{measured['required']} bytes)", f"{measured['fully-allocated']} bytes)"]


def test_subclusters_are_measured_where_they_need_more_tables(tmp_path: Path, vdifs: Vdifs) -> None:
    """An L2 table of 16 KiB maps 32 MiB, with subclusters 16 MiB: data at 0 and at 20 MiB take one, or two."""
    image = make(tmp_path / "image.qcow2", 64 * MIB, "write -P 1 0 64k", "write -P 2 20M 64k", cluster_size="16k").path
    measured = [answer(vdifs, "measure", image, *words)["required"] for words in ([], ["--extended-l2"])]
    assert measured[1] == measured[0] + 16 * KIB
    assert vdifs("export", image, tmp_path / "output", "--extended-l2").status == 0
    assert (tmp_path / "output").stat().st_size == measured[1]


def test_a_file_that_is_full_is_as_long_as_measured_before(tmp_path: Path, vdifs: Vdifs) -> None:
    image = make(tmp_path / "image.qcow2", 3 * MIB + 512, cluster_size="4k")
    before = answer(vdifs, "measure", image.path)
    full = answer(vdifs, "measure", image.io(f"write -P 1 0 {3 * MIB + 512}").path)
    assert full["required"] == full["fully-allocated"] == before["fully-allocated"] > before["required"]
    assert vdifs("measure", image.path).out == (
        f"required size: 3.03 MiB ({full['required']} bytes)\n"
        f"fully allocated size: 3.03 MiB ({full['required']} bytes)\n"
    )


def commands(folder: Path) -> list[Words]:
    """Return the commands that look at tables alone."""
    top, base = folder / "top.qcow2", folder / "base.qcow2"
    return [
        ("info", top, "--backing-chain"),
        ("list", folder),
        ("check", folder),
        *((command, top) for command in ("map", "measure")),
        *((command, top, "--base", base) for command in ("map", "measure")),
        *((command, f"{folder / 'middle.qcow2'}@before") for command in ("map", "measure")),
        *(("measure", top, "--format", kind) for kind in ("raw", "vhd", "vhd-fixed")),
        ("measure", top, "--extended-l2"),
        ("measure", top, "--cluster-size", "4k"),
    ]


def data_ranges(folder: Path) -> dict[int, list[tuple[int, int]]]:
    """Return for each image, by inode, the host ranges where guest data lie, packed or not."""
    found = {}
    for path in folder.glob("*.qcow2"):
        image, ranges = Image(path), []
        for cluster in range(16):
            entry = image.l2_entry(cluster)
            start = entry & ((1 << 54) - 1) if entry & COMPRESSED else image.data_offset(cluster)
            if start:
                length = 512 if entry & COMPRESSED else CLUSTER
                ranges.append((start, min(start + length, path.stat().st_size)))
        found[path.stat().st_ino] = ranges
    assert all(found.values())
    return found


def test_no_guest_data_are_read(folder: Path, vdifs: Vdifs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a byte of them is asked for; what the commands say is the same when all of it is another."""
    ranges, reads = data_ranges(folder), list[tuple[int, int, int]]()

    def recorded(name: str, length_of: Any) -> None:
        real = getattr(os, name)

        def read(fd: int, what: Any, offset: int, *flags: int) -> Any:
            reads.append((os.fstat(fd).st_ino, offset, offset + length_of(what)))
            return real(fd, what, offset, *flags)

        monkeypatch.setattr(os, name, read)

    def total(buffers: Iterable[memoryview]) -> int:
        return sum(len(buffer) for buffer in buffers)

    recorded("pread", int)
    recorded("preadv", total)

    def touched() -> list[tuple[str, str]]:
        return [
            (hex(start), hex(end))
            for inode, start, end in reads
            for low, high in ranges.get(inode, [])
            if start < high and low < end
        ]

    def said() -> dict[Words, list[str]]:
        ended = {words: vdifs(*words) for words in commands(folder)}
        assert all(each.status == 0 for each in ended.values())
        lasting = {words: re.sub(r", \d+ seconds? old", "", each.out) for words, each in ended.items()}
        return {
            words: [line for line in text.splitlines() if not line.startswith("disk size")]  # may come to rest late
            for words, text in lasting.items()
        }

    before = said()
    assert touched() == []
    assert {inode for inode, _, _ in reads} >= set(ranges)
    assert vdifs("export", folder / "top.qcow2", folder.parent / "output", "--format", "raw").status == 0
    assert touched(), "the export reads data, and this test does not see it"
    for path in folder.glob("*.qcow2"):
        for start, end in ranges[path.stat().st_ino]:
            Image(path).write(start, os.urandom(end - start))
    assert said() == before


def test_a_raw_image_is_mapped_by_its_holes(tmp_path: Path, vdifs: Vdifs) -> None:
    image = make_raw(tmp_path / "a.raw", b"x" * CLUSTER)
    os.truncate(image, MIB)
    assert answer(vdifs, "map", image) == [
        run(0, 64, 0, PLAIN, (image, 0)),
        run(64, 960, 0, ZEROS, (image, CLUSTER)),
    ]
    measured = answer(vdifs, "measure", image)
    assert measured["required"] == measured["fully-allocated"] - 15 * CLUSTER


def test_an_empty_disk_has_an_empty_map(tmp_path: Path, vdifs: Vdifs) -> None:
    image = make(tmp_path / "a.qcow2", 0).path
    assert answer(vdifs, "map", image) == []
