"""The layer: parts composed, and what it says of itself."""

import json
import tracemalloc
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from tests.support import oracle, vmdk
from tests.support.stated import rows
from tests.support.vmdk import SECTOR, grain_of
from tests.support.vmdk_reading import chain_of, disk_of, member_of, opened
from vdifs.errors import FormatError
from vdifs.extents import NO_FILE, Extents, Kind, MapKind
from vdifs.formats.image_format import Front
from vdifs.formats.layer import Layer
from vdifs.formats.vmdk.format import VMDK
from vdifs.output.protocol import ResolvedSpec
from vdifs.output.raw import RawOutput
from vdifs.storage.host_file import HostFile

G = 128 * SECTOR


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Extents of all kinds, a packed one too, of a base and of a child that has the same."""
    vmdk.write(tmp_path, "flat.bin", grain_of(1, 128) + bytes(G) + grain_of(2, 128))
    vmdk.write(tmp_path, "sparse.bin", vmdk.hosted(512 * 128 + 200, {0: grain_of(3), 512: grain_of(4), 1: "zero"}))
    vmdk.write(tmp_path, "packed.bin", vmdk.stream(200, {0: grain_of(5), 1: grain_of(6)}))
    lines = [
        'RW 384 FLAT "flat.bin" 0', "RW 128 ZERO", f'RW {512 * 128 + 200} SPARSE "sparse.bin"', "RW 56 ZERO",
        'RW 200 SPARSE "packed.bin"', 'RW 128 FLAT "flat.bin" 256',
    ]  # fmt: skip
    vmdk.write(tmp_path, "base.vmdk", vmdk.descriptor(*lines, cid="1"))
    vmdk.write(tmp_path, "child.vmdk", vmdk.descriptor(*lines, cid="2", parent_cid="1", hint="base.vmdk"))
    return tmp_path


def columns(extents: Extents) -> list[list[int]]:
    return [each.tolist() for each in (extents.start, extents.kind, extents.file, extents.host)]


def layer_of(path: Path, stack: ExitStack) -> Layer:
    return member_of(path, stack).layer


@pytest.mark.parametrize("name", ["base.vmdk", "child.vmdk"])
def test_any_range_is_a_slice_of_the_whole(mixed: Path, name: str) -> None:
    numbers = np.random.default_rng(3)
    with ExitStack() as stack:
        layer = layer_of(mixed / name, stack)
        for of in (layer.extents, layer.details):
            whole = of(0, layer.virtual_size)
            for _ in range(100):
                start, end = sorted(numbers.choice(layer.virtual_size // SECTOR, 2, replace=False) * SECTOR)
                assert columns(of(int(start), int(end))) == columns(whole.between(int(start), int(end)).merged())


def test_what_each_extent_says(mixed: Path) -> None:
    with ExitStack() as stack:
        base, child = (layer_of(mixed / f"{name}.vmdk", stack) for name in ("base", "child"))
        sparse, end = 4 * G, 4 * G + (512 * 128 + 200) * SECTOR
        stream = end + 56 * SECTOR
        last = stream + 200 * SECTOR
        found = list(rows(base.extents(0, base.virtual_size)))
        assert [row[:3] for row in found] == [
            (0, G, Kind.DATA), (G, 2 * G, Kind.ZERO), (2 * G, 3 * G, Kind.DATA), (3 * G, sparse, Kind.ZERO),
            (sparse, sparse + G, Kind.DATA), (sparse + G, sparse + 512 * G, Kind.ZERO),
            (sparse + 512 * G, sparse + 513 * G, Kind.DATA), (sparse + 513 * G, stream, Kind.ZERO),
            (stream, stream + G, Kind.COMPRESSED), (stream + G, last, Kind.COMPRESSED), (last, last + G, Kind.DATA),
        ]  # fmt: skip
        assert [row[3] for row in found if row[2] != Kind.ZERO] == [0, 0, 1, 1, 2, 2, 0]
        assert {row[3:] for row in found if row[2] == Kind.ZERO} == {(0, 0)}
        assert [row[4] for row in found if row[2] == Kind.COMPRESSED] == [stream, stream + G]
        kinds = child.extents(0, child.virtual_size)
        bare = [(start, stop, file) for start, stop, kind, file, _ in rows(kinds) if kind == Kind.UNALLOCATED]
        assert bare == [(sparse + 2 * G, sparse + 512 * G, NO_FILE), (sparse + 513 * G, end, NO_FILE)]
        told = set(map(MapKind, base.details(0, base.virtual_size).kind.tolist()))
        assert told == {MapKind.DATA, MapKind.ZERO_ALLOC, MapKind.ZERO, MapKind.UNALLOCATED, MapKind.COMPRESSED}


@pytest.mark.parametrize("name", ["base.vmdk", "child.vmdk"])
def test_outside_of_what_is_populated_there_is_nothing(mixed: Path, name: str) -> None:
    """That of a child is UNALLOCATED, or a chain would look past its zeros."""
    with ExitStack() as stack:
        layer = layer_of(mixed / name, stack)
        assert layer.has_backing == (name == "child.vmdk")
        edges = [0, *layer.populated().reshape(-1).tolist(), layer.virtual_size]
        assert edges == sorted(edges)
        for start, end in zip(edges[::2], edges[1::2], strict=True):
            if start < end:
                nothing = Kind.UNALLOCATED if layer.has_backing else Kind.ZERO
                assert set(layer.extents(start, end).kind.tolist()) == {nothing}
                assert layer.load.is_empty(start, end)
        for start, end in layer.populated().tolist():
            assert not layer.load.is_empty(start, end)
        below = layer.load.below(np.arange(0, layer.virtual_size + 1, SECTOR))
        assert below[0] == 0
        assert (np.diff(below) >= 0).all()
        assert below[-1] == pytest.approx(layer.load.units)


def test_a_large_sparse_disk_costs_what_is_on_disk(tmp_path: Path) -> None:
    """Of 1 TiB, with tables that all lie in holes of the file, one grain is written."""
    image = tmp_path / "a.vmdk"
    oracle.qemu_img("create", "-q", "-f", "vmdk", image, "1024G")
    with image.open("rb") as file:
        gd = int.from_bytes(file.read(64)[56:], "little")
        file.seek(gd * SECTOR)
        assert np.count_nonzero(np.frombuffer(file.read(4 * 32768), "<u4")) == 32768
    oracle.qemu_io(image, ["write -P 5 700G 64k"], format="vmdk")
    with ExitStack() as stack:
        layer = layer_of(image, stack)
        assert layer.virtual_size == 1 << 40
        assert layer.nbytes < 16 << 10
        assert len(layer.populated()) < 64
        (data,) = [row for row in rows(layer.extents(0, 1 << 40)) if row[2] == Kind.DATA]
        assert data[:2] == (700 << 30, (700 << 30) + G)


def test_images_that_are_open_twice_share_their_tables(tmp_path: Path) -> None:
    image = vmdk.write(tmp_path, "a.vmdk", vmdk.hosted(512, {0: grain_of(1)}, vmdk.descriptor()))
    with ExitStack() as stack:
        one, two = layer_of(image, stack), layer_of(image, stack)
        assert one.virtual_size == two.virtual_size
        assert (one.state, hash(one.state)) == (two.state, hash(two.state))


@pytest.mark.parametrize("subformat", ["monolithicSparse", "monolithicFlat", "twoGbMaxExtentSparse", "streamOptimized"])
def test_info_says_what_qemu_says(tmp_path: Path, subformat: str) -> None:
    image = tmp_path / "a.vmdk"
    oracle.qemu_img("create", "-q", "-f", "vmdk", "-o", f"subformat={subformat}", image, "3G")
    with ExitStack() as stack:
        member = member_of(image, stack)
        described = member.metadata.describe(member.file, None)
        told = described.as_qemu()
        assert described.virtual_size == 3 << 30
        fields = described.fields(None)
        assert fields["create type"] == subformat
        assert json.loads(json.dumps(described.all_fields()))["descriptor"]["createtype"] == subformat
        assert described.warnings() == []
    by_qemu = oracle.info(image, "vmdk")
    if subformat == "twoGbMaxExtentSparse":  # what only the headers of the extents tell
        for extent in by_qemu["format-specific"]["data"]["extents"]:
            del extent["cluster-size"]
        del by_qemu["cluster-size"]
    assert told["format-specific"] == by_qemu["format-specific"]
    assert told.get("cluster-size") == by_qemu.get("cluster-size")


def test_every_field_of_the_header_is_told(tmp_path: Path) -> None:
    text = vmdk.descriptor(*["RW 1 ZERO"] * 20, cid="5", parent_cid="6", hint=b"b\xe4.vmdk", more=b"x=\1\n")
    with ExitStack() as stack:
        image = vmdk.write(tmp_path, "a.vmdk", vmdk.hosted(512, {}, text, unclean_shutdown=1))
        file = front_of(image, stack)
        described = VMDK.read(file[0]).describe(file[1], None)
        told = described.all_fields()
        assert told is not None
        assert told["sparse_header"]["capacity"] == 512
        assert told["sparse_header"]["flag_names"] == ["newline test"]
        assert set(told["sparse_header"]) > {"version", "grain_size", "rgd_offset", "gd_offset", "overhead"}
        assert any("not closed cleanly" in each for each in described.warnings())
        fields = described.fields(None)
        assert (fields["CID"], fields["parent CID"], fields["closed cleanly"]) == ("00000005", "00000006", "no")
        json.dumps([told, described.as_qemu()])
        lines = vmdk.write(tmp_path, "b.vmdk", vmdk.descriptor(*["RW 1 ZERO"] * 20))
        assert VMDK.read(front_of(lines, stack)[0]).describe(file[1], None).fields(None)["more extents"] == 4


def front_of(path: Path, stack: ExitStack) -> tuple[Front, HostFile]:
    file = opened(path, stack)
    return Front(file), file


def problems(path: Path) -> list[tuple[str, str]]:
    with ExitStack() as stack:
        member = member_of(path, stack)
        audit = member.metadata.audit(member.file, "a.vmdk", has_overlay=False)
        found = [*audit.problems, *audit.of_state(member.layer, "a.vmdk")]
        assert all(each.where and str(path.parent) in each.where for each in found)
        return [(str(each.severity), each.kind) for each in found]


def test_what_a_check_finds(tmp_path: Path) -> None:
    text = vmdk.descriptor()
    good = vmdk.hosted(2048, {0: grain_of(1), 3: grain_of(2)}, text)
    gd = int.from_bytes(good[56:64], "little") * SECTOR
    gt = int.from_bytes(good[gd : gd + 4], "little") * SECTOR
    first, second = (int.from_bytes(good[gt + at : gt + at + 4], "little") for at in (0, 12))

    def changed(index: int, sector: int, whole: bytes = good) -> Path:
        at = gt + 4 * index
        return vmdk.write(tmp_path, "a.vmdk", whole[:at] + sector.to_bytes(4, "little") + whole[at + 4 :])

    assert problems(vmdk.write(tmp_path, "a.vmdk", good)) == []
    assert problems(changed(1, first)) == [("warning", "overlap")]
    assert problems(changed(1, second - 1)) == [("warning", "overlap")]
    assert problems(changed(1, 1 << 30)) == [("error", "damaged")]
    assert problems(changed(1, 1)) == [("error", "damaged")]
    unclean = vmdk.hosted(2048, {0: grain_of(1), 3: grain_of(2)}, text, unclean_shutdown=1, overhead=0)
    assert problems(vmdk.write(tmp_path, "a.vmdk", unclean)) == [("warning", "dirty")]
    assert problems(changed(1, gt // SECTOR, unclean)) == [("warning", "dirty"), *[("warning", "overlap")] * 2]


def test_damage_in_one_table_does_not_hide_what_is_wrong_in_another(tmp_path: Path) -> None:
    count = 3 * 512
    good = bytearray(vmdk.hosted(count * 128, {0: grain_of(1), 1024: grain_of(2)}, vmdk.descriptor(), overhead=0))
    gd = int.from_bytes(good[56:64], "little") * SECTOR
    tables = [int.from_bytes(good[gd + at : gd + at + 4], "little") * SECTOR for at in (0, 8)]
    good[tables[0] + 8 : tables[0] + 12] = (1 << 30).to_bytes(4, "little")
    good[tables[1] + 8 : tables[1] + 12] = (gd // SECTOR).to_bytes(4, "little")
    found = problems(vmdk.write(tmp_path, "a.vmdk", bytes(good)))
    assert found == [("warning", "overlap"), ("error", "damaged")]


def test_packed_grains_fail_alone(tmp_path: Path) -> None:
    """Opening tells nothing of them; a read of another does not fail."""
    text = vmdk.descriptor().replace(b"custom", b"streamOptimized")
    content = vmdk.stream(3 * 128, {0: grain_of(1), 1: grain_of(2), 2: grain_of(3)}, text, packed={1: b"\xff" * 9})
    with chain_of(vmdk.write(tmp_path, "a.vmdk", content)) as chain:
        output = RawOutput(ResolvedSpec(chain, None, 16, False, None, None))
        for index, fine in ((0, True), (1, False), (2, True)):
            buffer = bytearray(G)
            if fine:
                output.readinto(index * G, memoryview(buffer), wait=True)
                assert bytes(buffer) == grain_of(index + 1)
            else:
                with pytest.raises(FormatError, match=r"a\.vmdk: .* at 0x.*damaged"):
                    output.readinto(index * G, memoryview(buffer), wait=True)


def test_equal_grains_of_a_stream_are_each_their_own(tmp_path: Path) -> None:
    """Two entries that lead to one packed grain: the second is not what its marker says."""
    text = vmdk.descriptor().replace(b"custom", b"streamOptimized")
    good = vmdk.stream(256, {0: grain_of(1), 1: grain_of(2)}, text)
    gd = int.from_bytes(good[-1024 + 56 : -1024 + 64], "little") * SECTOR
    table = int.from_bytes(good[gd : gd + 4], "little") * SECTOR
    broken = good[: table + 4] + (128).to_bytes(4, "little") + good[table + 8 :]
    path = vmdk.write(tmp_path, "a.vmdk", broken)
    with pytest.raises(FormatError, match="its marker says that it is sector 0 of the disk, expected 128"):
        disk_of(path)


def test_runs_of_extents_are_merged_over_their_borders(tmp_path: Path) -> None:
    vmdk.write(tmp_path, "flat.bin", grain_of(1, 100))
    text = vmdk.descriptor('RW 40 FLAT "flat.bin"', 'RW 60 FLAT "flat.bin" 40', "RW 1 ZERO", "RW 1 ZERO")
    with ExitStack() as stack:
        layer = layer_of(vmdk.write(tmp_path, "a.vmdk", text), stack)
        found: Extents = layer.extents(0, layer.virtual_size)
        assert [row[:3] for row in rows(found)] == [(0, 51200, Kind.DATA), (51200, 52224, Kind.ZERO)]


def test_the_lines_of_a_descriptor_count_as_memory_that_it_takes(tmp_path: Path) -> None:
    vmdk.write(tmp_path, "flat.bin", grain_of(1, 64))
    lines = [f'RW 1 FLAT "flat.bin" {number % 64}' for number in range(8000)]
    path = vmdk.write(tmp_path, "a.vmdk", vmdk.descriptor(*lines))
    with ExitStack() as stack:
        layer_of(path, stack)  # what is imported, and kept of any image
    tracemalloc.start()
    try:
        with ExitStack() as stack:
            before = tracemalloc.get_traced_memory()[0]
            layer = layer_of(path, stack)
            taken = tracemalloc.get_traced_memory()[0] - before
            assert 8000 * 64 < taken <= layer.nbytes
            assert len(repr(layer.identity)) < 4096  # kept in caches as a key
    finally:
        tracemalloc.stop()
