"""Extents of every kind, built by the specification: the disk is what was put in, and what other readers see."""

from pathlib import Path
from typing import Any

import pytest

from tests.support import oracle, vmdk
from tests.support.vmdk import SECTOR, grain_of
from tests.support.vmdk_reading import by_libvmdk, disk_of

CID, CHILD = "0badcafe", "00000002"


def by_qemu(image: Path) -> bytes:
    return oracle.materialize(image, image.with_suffix(".qemu"), format="vmdk").read_bytes()


def of_one(folder: Path, name: str, content: bytes, stated: str, sectors: int, *, parent: str = "") -> Path:
    """Write an extent and a descriptor of that one. parent: the name of the one below."""
    vmdk.write(folder, f"{name}-extent.vmdk", content)
    line = f'RW {sectors} {stated} "{name}-extent.vmdk"{" 0" * (stated == "FLAT")}'
    text = vmdk.descriptor(
        line, cid=CHILD if parent else CID, parent_cid=CID if parent else "ffffffff", hint=parent
    ).replace(b"custom", {"VMFSSPARSE": b"vmfsSparse", "SESPARSE": b"seSparse"}.get(stated, b"monolithicFlat"))
    return vmdk.write(folder, f"{name}.vmdk", text)


def base(folder: Path, sectors: int) -> bytes:
    """Write a flat parent, `base.vmdk`, and return its disk."""
    content = grain_of(77, sectors)
    of_one(folder, "base", content, "FLAT", sectors)
    return content


@pytest.mark.parametrize(
    ("grain", "sectors"), [(1, 4096 * 2 + 64), (8, 4096 * 8 * 2 + 64), (128, 4096 * 8 * 2 + 64), (1, 1000), (8, 1000)]
)
def test_cowd_is_what_qemu_and_libvmdk_read(tmp_path: Path, grain: int, sectors: int) -> None:
    count = sectors // grain
    chosen = {0, 1, count // 2, count - 1, min(4095, count - 1), min(4096, count - 1)}
    grains = {index: grain_of(index + 1, grain) for index in chosen}
    below = base(tmp_path, sectors)
    child = of_one(
        tmp_path, "child", vmdk.cowd(sectors, grains, grain=grain), "VMFSSPARSE", sectors, parent="base.vmdk"
    )
    wanted = vmdk.disk(sectors, grains, grain, below)
    assert disk_of(child) == wanted
    assert by_qemu(child) == wanted
    assert by_libvmdk(child, tmp_path / "base.vmdk") == wanted


@pytest.mark.parametrize("sectors", [4096 * 8 * 2 + 5, 800])
def test_sesparse_is_what_qemu_reads(tmp_path: Path, sectors: int) -> None:
    """Types 1 and 2 are zeros over what is below."""
    count = sectors // 8
    grains: dict[int, Any] = {index: grain_of(index, 8) for index in (0, 3, 4, count // 2, count - 1)}
    grains |= {1: "zero", 2: "unmapped", count - 2: "zero"}
    below = base(tmp_path, sectors)
    content = vmdk.sesparse(sectors, grains)
    child = of_one(tmp_path, "child", content, "SESPARSE", sectors, parent="base.vmdk")
    wanted = vmdk.disk(sectors, grains, 8, below)
    assert disk_of(child) == wanted
    assert by_qemu(child) == wanted


def test_the_number_of_a_grain_of_sesparse_has_its_low_bits_above(tmp_path: Path) -> None:
    """Numbers beyond 4,096 use both fields: the middle of a sparse file is where they lead."""
    number, at = 7000, 4096 * 8 + 64
    content = bytearray(vmdk.sesparse(at, {0: "zero"}, entries={7: vmdk.sesparse_entry(number)}))
    grains_at = 8 + 1 + 64
    content = content.ljust((grains_at + 8 * number) * SECTOR, b"\0") + grain_of(9, 8)
    image = of_one(tmp_path, "a", bytes(content), "SESPARSE", at)
    wanted = vmdk.disk(at, {7: grain_of(9, 8)}, 8)
    assert disk_of(image) == by_qemu(image) == wanted


@pytest.mark.parametrize("grain", [8, 128, 4096])
@pytest.mark.parametrize("entries", [512, 100])
def test_hosted_sparse_of_other_grains_and_tables(tmp_path: Path, grain: int, entries: int) -> None:
    count = 2 * entries + 3 if grain < 4096 else 9
    sectors = count * grain - min(grain // 2, 5)
    grains: dict[int, Any] = {index: grain_of(index, grain) for index in (0, 2, count // 2, count - 1)}
    grains[1] = "zero"
    text = vmdk.descriptor().replace(b"custom", b"monolithicSparse")
    content = vmdk.hosted(sectors, grains, text, grain=grain, entries=entries)
    image = vmdk.write(tmp_path, "a.vmdk", content)
    wanted = vmdk.disk(sectors, grains, grain)
    assert disk_of(image) == wanted
    assert by_qemu(image) == wanted


@pytest.mark.parametrize("footer", [True, False])
def test_streams(tmp_path: Path, footer: bool) -> None:
    sectors = 513 * 128 + 77
    grains = {index: grain_of(index) for index in (0, 1, 7, 511, 512, 513)}
    text = vmdk.descriptor(f'RDONLY {sectors} SPARSE "a.vmdk"').replace(b"custom", b"streamOptimized")
    image = vmdk.write(tmp_path, "a.vmdk", vmdk.stream(sectors, grains, text, footer=footer))
    wanted = vmdk.disk(sectors, grains)
    assert disk_of(image) == wanted
    assert by_qemu(image) == wanted
    if footer:
        assert by_libvmdk(image) == wanted


def test_the_lines_of_an_embedded_descriptor_are_ignored(tmp_path: Path) -> None:
    text = vmdk.descriptor('RDONLY 1 SPARSE "/etc/passwd"', "RW and more").replace(b"custom", b"streamOptimized")
    image = vmdk.write(tmp_path, "a.vmdk", vmdk.stream(130, {0: grain_of(1)}, text))
    assert disk_of(image) == by_qemu(image) == vmdk.disk(130, {0: grain_of(1)})


def test_the_last_grain_of_a_stream_may_end_with_the_disk(tmp_path: Path) -> None:
    last = grain_of(5)[: 3 * SECTOR]
    text = vmdk.descriptor().replace(b"custom", b"streamOptimized")
    image = vmdk.write(tmp_path, "a.vmdk", vmdk.stream(128 + 3, {0: grain_of(1), 1: last}, text))
    assert disk_of(image) == grain_of(1) + last


def test_flat_extents_lie_where_their_lines_say(tmp_path: Path) -> None:
    """Several lines may share a file."""
    content = grain_of(1, 300)
    vmdk.write(tmp_path, "a-flat.vmdk", content)
    lines = ['RW 100 FLAT "a-flat.vmdk" 200', 'RW 50 VMFS "a-flat.vmdk"', 'RW 1 FLAT "a-flat.vmdk" 299']
    image = vmdk.write(tmp_path, "a.vmdk", vmdk.descriptor(*lines).replace(b"custom", b"monolithicFlat"))
    wanted = content[200 * 512 :] + content[: 50 * 512] + content[299 * 512 :]
    assert disk_of(image) == wanted
    assert by_qemu(image) == wanted


def test_lines_of_every_kind_make_up_one_disk(tmp_path: Path) -> None:
    """RDONLY and ZERO lines take their place; extents begin where no grain does."""
    pieces = {
        "flat": grain_of(1, 33),
        "sparse": vmdk.hosted(300, {0: grain_of(2), 2: grain_of(3), 1: "zero"}),
        "cowd": vmdk.cowd(77, {3: grain_of(4, 1), 76: grain_of(5, 1)}),
        "sesparse": vmdk.sesparse(91, {0: grain_of(6, 8), 11: grain_of(7, 8)}),
    }
    for name, content in pieces.items():
        vmdk.write(tmp_path, f"{name}.bin", content)
    lines = [
        'RW 33 FLAT "flat.bin" 0', "RW 3 ZERO", 'RDONLY 300 SPARSE "sparse.bin"', "NOACCESS 5 ZERO",
        'RW 77 VMFSSPARSE "cowd.bin"', 'RDONLY 91 SESPARSE "sesparse.bin"', 'RW 33 VMFS "flat.bin"',
    ]  # fmt: skip
    image = vmdk.write(tmp_path, "a.vmdk", vmdk.descriptor(*lines))
    wanted = b"".join([
        pieces["flat"], bytes(3 * 512), vmdk.disk(300, {0: grain_of(2), 2: grain_of(3)}), bytes(5 * 512),
        vmdk.disk(77, {3: grain_of(4, 1), 76: grain_of(5, 1)}, 1),
        vmdk.disk(91, {0: grain_of(6, 8), 11: grain_of(7, 8)}, 8), pieces["flat"],
    ])  # fmt: skip
    assert disk_of(image) == wanted


def test_zeros_of_a_child_hide_its_parent(tmp_path: Path) -> None:
    """ZERO lines, holes of FLAT files, grains of zeros; only what is nothing shows the parent."""
    below = base(tmp_path, 1000)
    vmdk.write(tmp_path, "holes.bin", bytes(64 << 10))
    vmdk.write(tmp_path, "sparse.bin", vmdk.hosted(512, {1: "zero"}))
    lines = ["RW 100 ZERO", 'RW 128 FLAT "holes.bin"', 'RW 512 SPARSE "sparse.bin"', "RW 260 ZERO"]
    text = vmdk.descriptor(*lines, cid=CHILD, parent_cid=CID.upper(), hint="base.vmdk")
    image = vmdk.write(tmp_path, "child.vmdk", text)
    wanted = bytearray(1000 * 512)
    for first, last in ((228, 356), (484, 740)):
        wanted[first * 512 : last * 512] = below[first * 512 : last * 512]
    assert disk_of(image) == bytes(wanted)
