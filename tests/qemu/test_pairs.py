"""Deltas between any two states that share a past: siblings, snapshots of one file, before and after a rebase."""

import itertools
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from uuid import UUID

import pytest

import vdifs
from tests.support import oracle
from tests.support.builder import make
from tests.support.command_line import answer, export, run_vdifs
from tests.support.copying import copy_in_pieces
from tests.support.stamps import stamped
from tests.support.units import KIB, MIB, SECTOR
from tests.support.vhd import Vhd
from tests.support.written_disks import writes, written

STEPS = 20
MOST_IMAGES, MOST_SNAPSHOTS = 5, 4
CLUSTER = 64 * KIB


@dataclass(slots=True)
class History:
    """Images of one family, what happened to them, and their states."""

    folder: Path
    rng: Random
    backing: dict[str, str | None] = field(default_factory=dict)
    snapshots: list[tuple[str, str]] = field(default_factory=list)
    recipe: list[str] = field(default_factory=list)
    count: int = 0

    def begin(self) -> None:
        size = self.rng.choice([MIB, MIB + 512, 2 * MIB + 3 * SECTOR])
        self.create("0.qcow2", size, None)
        for _ in range(3):
            self.write()
        self.create("1.qcow2", size, "0.qcow2")

    def step(self) -> None:
        """Do one thing that QEMU may refuse."""
        acts = (self.write, self.write, self.write, self.zero, self.discard, self.snapshot, self.overlay, self.resize)
        rare = (self.compressed, self.commit, self.rebase, self.apply, self.delete)
        act = self.rng.choice(acts + rare)
        try:
            act()
        except oracle.OracleError:
            self.recipe[-1] += "   # refused"

    def create(self, name: str, size: int, below: str | None) -> None:
        self.recipe.append(f"create {name} {size} over {below}")
        options: dict[str, str | int] = {"cluster_size": self.rng.choice([4, 16, 64]) * KIB}
        if self.rng.random() < 0.3:
            options |= {"extended_l2": "on", "cluster_size": 16 * KIB}
        make(self.folder / name, size, backing=None if below is None else (below, "qcow2"), **options)
        self.backing[name] = below

    def write(self) -> None:
        self.io("write -s {data}")

    def compressed(self) -> None:
        self.io("write -c -s {data}", aligned=True)

    def zero(self) -> None:
        self.io(self.rng.choice(["write -z", "write -z -u"]))

    def discard(self) -> None:
        self.io("discard")

    def io(self, words: str, *, aligned: bool = False) -> None:
        name = self.rng.choice(list(self.backing))
        size = self.size(name)
        unit = CLUSTER if aligned else SECTOR
        start = self.rng.randrange(size) // unit * unit
        length = min(CLUSTER if aligned else self.rng.choice([SECTOR, 4 * KIB, 100 * KIB, 300 * KIB]), size - start)
        length = length // SECTOR * SECTOR
        self.count += 1
        data = self.folder.parent / "data"
        data.write_bytes(stamped(start, length, self.count))
        self.recipe.append(f"qemu-io {name}: {words} {start} {length}")
        oracle.qemu_io(self.folder / name, [f"{words.format(data=data)} {start} {length}"])

    def size(self, name: str) -> int:
        return int(oracle.info(self.folder / name)["virtual-size"])

    def snapshot(self) -> None:
        name = self.rng.choice(list(self.backing))
        if len(self.snapshots) < MOST_SNAPSHOTS:
            label = f"s{len(self.recipe)}"
            self.img("snapshot", "-c", label, name)
            self.snapshots.append((name, label))

    def apply(self) -> None:
        if self.snapshots:
            name, label = self.rng.choice(self.snapshots)
            self.img("snapshot", "-a", label, name)

    def delete(self) -> None:
        if self.snapshots:
            name, label = self.snapshots[self.rng.randrange(len(self.snapshots))]
            self.img("snapshot", "-d", label, name)
            self.snapshots.remove((name, label))

    def overlay(self) -> None:
        if len(self.backing) < MOST_IMAGES:
            below = self.rng.choice(list(self.backing))
            size = self.size(below) if self.rng.random() < 0.7 else self.rng.choice([MIB // 2, 3 * MIB - 512])
            self.create(f"{len(self.backing)}.qcow2", size, below)

    def resize(self) -> None:
        name = self.rng.choice(list(self.backing))
        self.img("resize", "-q", "--shrink", "-f", "qcow2", name, str(self.rng.choice([MIB, 2 * MIB + 512, 3 * MIB])))

    def commit(self) -> None:
        over = [name for name, below in self.backing.items() if below]
        self.img("commit", "-q", self.rng.choice(over))

    def rebase(self) -> None:
        """Onto another image that does not stand on it."""
        name = self.rng.choice([name for name, below in self.backing.items() if below])
        below = self.rng.choice([other for other in self.backing if name not in self.line(other)])
        self.img("rebase", "-f", "qcow2", "-b", below, "-F", "qcow2", name)
        self.backing[name] = below

    def line(self, name: str | None) -> list[str]:
        """Return an image and its ancestors."""
        found = []
        while name is not None:
            found.append(name)
            name = self.backing[name]
        return found

    def img(self, *words: str) -> None:
        self.recipe.append("qemu-img " + " ".join(words))
        oracle.qemu_img(*words, cwd=self.folder)

    def states(self) -> list[str]:
        return [*self.backing, *(f"{name}@{label}" for name, label in self.snapshots)]

    def pairs(self) -> Iterator[tuple[str, str]]:
        """Yield every ordered pair of states that share a file."""
        for image, base in itertools.permutations(self.states(), 2):
            if set(self.line(image.partition("@")[0])) & set(self.line(base.partition("@")[0])):
                yield image, base


@pytest.mark.seeds(40, long=300)
@pytest.mark.timeout(900)
def test_the_delta_between_any_two_states_that_share_a_file_reads_as_its_image(
    tmp_path: Path, seed: int, rng: Random
) -> None:
    folder = tmp_path / "source"
    folder.mkdir()
    history = History(folder, rng)
    try:
        history.begin()
        for _ in range(STEPS):
            history.step()
        contents = {state: contents_by_qemu(folder, state, tmp_path) for state in history.states()}
        fulls = {state: export(folder / state, tmp_path / f"{state}.full") for state in history.states()}
        for image, base in history.pairs():
            prove_pair(folder, image, base, fulls[base], contents[image])
    except BaseException as error:
        error.add_note("\n".join(history.recipe))
        raise


def contents_by_qemu(folder: Path, state: str, scratch: Path) -> Path:
    """Return the guest contents of an image or a snapshot as QEMU has them."""
    name, _, label = state.partition("@")
    image = folder / name
    output = scratch / f"{state}.raw"
    if label:
        back = folder / "back"
        shutil.copy(image, back)
        oracle.qemu_img("snapshot", "-a", label, back)
        oracle.materialize(back, output)
        back.unlink()
        return output
    return oracle.materialize(image, output)


def prove_pair(folder: Path, image: str, base: str, backing: Path, contents: Path) -> None:
    """Prove a delta: valid, on its base the contents of its image, and the size of it."""
    delta = backing.with_name("delta")
    name, _, label = image.partition("@")
    with vdifs.open(folder / name, snapshot=label or None, base=folder / base, backing_name=backing.name) as opened:
        delta.write_bytes(opened.read_at(0, opened.size))
        assert delta.stat().st_size == opened.size
    try:
        oracle.check(delta)
        oracle.compare(delta, contents, right_format="raw")
    except oracle.OracleError as error:
        error.add_note(f"{image} on {base}")
        raise


@pytest.fixture
def snapshots(tmp_path: Path) -> Path:
    """A disk of 64 MiB, half of it written, with snapshots before and after some writes."""
    image = make(tmp_path / "disk.qcow2", 64 * MIB, "write -P 1 0 32M")
    oracle.qemu_img("snapshot", "-c", "monday", image.path)
    image.io("write -P 2 1M 200k", "write -z 4M 1M", "write -P 3 40M 64k")
    oracle.qemu_img("snapshot", "-c", "tuesday", image.path)
    image.io("write -P 4 2M 64k")
    return image.path


def test_a_delta_of_snapshots_holds_what_was_written_between_them(snapshots: Path, tmp_path: Path) -> None:
    monday = export(f"{snapshots}@monday", tmp_path / "monday.qcow2")
    tuesday = export(
        f"{snapshots}@tuesday",
        tmp_path / "tuesday.qcow2",
        *("--base", f"{snapshots}@monday", "--backing-name", monday.name),
    )
    now = export(snapshots, tmp_path / "now.qcow2", "--base", f"{snapshots}@tuesday", "--backing-name", tuesday.name)
    oracle.compare(now, snapshots)
    held = [(each.start, each.end) for each in oracle.map_of(tuesday) if each.depth == 0 and each.data]
    assert held == [(MIB, MIB + 256 * KIB), (40 * MIB, 40 * MIB + CLUSTER)]
    zeros = [(each.start, each.end) for each in oracle.map_of(tuesday) if each.depth == 0 and each.zero]
    assert zeros == [(4 * MIB, 5 * MIB)]
    assert [(e.start, e.end) for e in oracle.map_of(now) if e.depth == 0] == [(2 * MIB, 2 * MIB + CLUSTER)]
    for file in (tuesday, now):
        oracle.check(file)
    measured = answer("measure", f"{snapshots}@tuesday", "--base", f"{snapshots}@monday")
    assert measured["required"] == tuesday.stat().st_size
    runs = answer("map", f"{snapshots}@tuesday", "--base", f"{snapshots}@monday")
    assert [(run["start"], run["length"]) for run in runs if run["depth"] == 0 and run["data"]] == [
        (MIB, 256 * KIB),
        (40 * MIB, CLUSTER),
    ]


def test_a_state_is_no_other_of_itself(snapshots: Path) -> None:
    with vdifs.open(snapshots, snapshot="monday", base=f"{snapshots}@monday") as opened:
        assert opened.allocated == 0


def test_a_snapshot_of_a_disk_that_was_shrunk_since_is_a_base_in_its_own_size(snapshots: Path, tmp_path: Path) -> None:
    overlay = make(tmp_path / "overlay.qcow2", 64 * MIB, backing=("disk.qcow2", "qcow2"))
    oracle.qemu_img("snapshot", "-c", "large", overlay.path)
    oracle.qemu_img("resize", "-q", "--shrink", "-f", "qcow2", overlay.path, "1M")
    full = export(f"{overlay.path}@large", tmp_path / "large.qcow2")
    delta = tmp_path / "delta.qcow2"
    with vdifs.open(snapshots, base=f"{overlay.path}@large", backing_name=full.name) as opened:
        assert opened.allocated == 0
        delta.write_bytes(opened.read_at(0, opened.size))
    oracle.compare(delta, snapshots)
    with vdifs.open(overlay.path, snapshot="large", base=f"{overlay.path}@large") as opened:
        assert opened.allocated == 0
    for image, base in ((f"{overlay.path}@large", overlay.path), (str(overlay.path), f"{overlay.path}@large")):
        like, below = export(image, tmp_path / "like"), export(base, tmp_path / "below")
        exported = export(image, tmp_path / "exported", "--base", base, "--backing-name", "below")
        oracle.compare(exported, like)
        for file in (like, below, exported):
            file.unlink()


def test_siblings_differ_where_one_of_them_was_written(tmp_path: Path) -> None:
    make(tmp_path / "base.qcow2", 8 * MIB, "write -P 1 0 8M")
    for name, command in (("a", "write -P 2 1M 64k"), ("b", "write -P 3 2M 64k")):
        make(tmp_path / f"{name}.qcow2", 8 * MIB, command, backing=("base.qcow2", "qcow2"))
    full = export(tmp_path / "b.qcow2", tmp_path / "b.full")
    delta = tmp_path / "delta.qcow2"
    with vdifs.open(tmp_path / "a.qcow2", base=tmp_path / "b.qcow2", backing_name=full.name) as opened:
        assert opened.allocated == 2 * CLUSTER
        assert opened.depth == 2
        copy_in_pieces(opened, delta, Random(1))
    oracle.compare(delta, tmp_path / "a.qcow2")


def test_what_shares_nothing_is_refused_by_name(tmp_path: Path) -> None:
    for name in ("a", "b"):
        make(tmp_path / f"{name}.qcow2", MIB, "write -P 1 0 64k")
    ended = run_vdifs("export", tmp_path / "a.qcow2", tmp_path / "out", "--base", tmp_path / "b.qcow2")
    assert ended.status == 1
    assert "b.qcow2 is not in its chain, and shares no file with it: give one of its ancestors" in ended.err
    assert not os.path.lexists(tmp_path / "out")


def test_a_copy_of_a_file_shares_nothing_with_it(snapshots: Path, tmp_path: Path) -> None:
    """At two times it holds other bytes in the same places."""
    other = Path(shutil.copy(snapshots, tmp_path / "copy.qcow2"))
    with pytest.raises(vdifs.ChainError, match="shares no file with it"):
        vdifs.open(snapshots, base=other)


@pytest.mark.seeds(3, long=100)
def test_siblings_of_vmdk_differ_like_those_of_qcow2(tmp_path: Path, seed: int, rng: Random) -> None:
    """QEMU writes these itself; a delta is on the full image of the sibling."""
    size = 4 * MIB
    oracle.qemu_img("create", "-q", "-f", "vmdk", tmp_path / "base.vmdk", str(size))
    oracle.qemu_io(tmp_path / "base.vmdk", [f"write -P 1 0 {2 * MIB}"], format="vmdk")
    for name in ("a", "b"):
        oracle.qemu_img(*("create", "-q", "-f", "vmdk", "-b", "base.vmdk", "-F", "vmdk", f"{name}.vmdk"), cwd=tmp_path)
        writes = [f"write -P {rng.randrange(2, 9)} {rng.randrange(60) * CLUSTER} {CLUSTER}" for _ in range(6)]
        oracle.qemu_io(tmp_path / f"{name}.vmdk", writes, format="vmdk")
    disks = {name: disk_of_vmdk(tmp_path / name) for name in ("a.vmdk", "b.vmdk")}
    prove_siblings(tmp_path, "a.vmdk", "b.vmdk", disks, most=12 * CLUSTER)


def disk_of_vmdk(path: Path) -> bytes:
    return oracle.materialize(path, path.with_suffix(".raw"), format="vmdk").read_bytes()


@pytest.mark.seeds(3, long=100)
def test_siblings_of_vhd_differ_sector_by_sector(tmp_path: Path, seed: int, rng: Random) -> None:
    """The disks are arrays that got the same writes, as QEMU reads no differencing VHD right."""
    size, disks = 2 * MIB, dict[str, bytes]()
    base = Vhd(size, 512 * KIB, None, UUID(int=1))
    wrote = writes(rng, size, most=12)
    for each in wrote:
        base.put(each.offset, each.data)
    base.write(tmp_path / "base.vhd")
    below = written(b"", size, wrote)
    for number, name in enumerate(("a.vhd", "b.vhd"), 2):
        child = Vhd(size, 512 * KIB, UUID(int=1), UUID(int=number))
        child.locators, child.name = [(b"W2ru", ".\\base.vhd".encode("utf-16-le"))], "C:\\base.vhd"
        wrote = writes(rng, size, most=12)
        for each in wrote:
            child.put(each.offset, each.data)
        child.write(tmp_path / name)
        disks[name] = written(below, size, wrote)
    prove_siblings(tmp_path, "a.vhd", "b.vhd", disks, most=size)


def prove_siblings(folder: Path, one: str, other: str, disks: Mapping[str, bytes], most: int) -> None:
    """Prove the deltas of two images against each other; disks: what each holds. most: bytes that a delta has."""
    for image, base in ((one, other), (other, one)):
        full = export(folder / base, folder / f"{base}.full")
        delta, like = folder / f"{image}.delta", folder / f"{image}.like"
        like.write_bytes(disks[image])
        with vdifs.open(folder / image, base=folder / base, backing_name=full.name) as opened:
            assert 0 < opened.allocated <= most
            delta.write_bytes(opened.read_at(0, opened.size))
        oracle.check(delta)
        oracle.compare(delta, like, right_format="raw")


def test_images_that_place_one_packed_extent_otherwise_share_no_grain_of_it(tmp_path: Path) -> None:
    """A grain is known by its offset on the disk, which means another one in the other image."""
    grains, half = 64, MIB
    data = tmp_path / "data.raw"
    data.write_bytes(b"".join(bytes([index + 1]) * CLUSTER for index in range(grains // 2)))
    oracle.qemu_img(
        *("convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=streamOptimized"), data, tmp_path / "extent.vmdk"
    )
    sectors = data.stat().st_size // SECTOR
    packed, zeros = f'RW {sectors} SPARSE "extent.vmdk"', f"RW {half // SECTOR} ZERO"
    for name, extents in (("a.vmdk", (packed, zeros)), ("b.vmdk", (zeros, packed))):
        lines = [
            *("# Disk DescriptorFile", "version=1", "CID=12345678", "parentCID=ffffffff"),
            *('createType="streamOptimized"', *extents, 'ddb.adapterType = "ide"', ""),
        ]
        (tmp_path / name).write_text("\n".join(lines))
    disks = {"a.vmdk": data.read_bytes() + bytes(half), "b.vmdk": bytes(half) + data.read_bytes()}
    for name, disk in disks.items():
        with vdifs.open(tmp_path / name, view="raw") as opened:
            assert opened.read_at(0, opened.size) == disk
    prove_siblings(tmp_path, "a.vmdk", "b.vmdk", disks, most=len(disks["a.vmdk"]))
