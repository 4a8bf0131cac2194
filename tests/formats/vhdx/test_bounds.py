"""What opening a VHDX costs: it follows what is in the file, not how large its disk is, or how much its BAT claims."""

from pathlib import Path
from uuid import UUID

import numpy as np
import pytest

from tests.support.cost import counted_reads, little_memory
from tests.support.units import GIB, KIB, MIB, TIB
from tests.support.vhdx import BAT_AT, Draft, linked, opened
from vdifs.extents import Kind

PARENT = linked(UUID(int=5), "b.vhdx")


def full(path: Path, blocks: int, *, partial: int = 0) -> Path:
    """Write an image of 1 MiB blocks that are all in the file, in its holes; in the first every second sector is."""
    draft = Draft(blocks * MIB, parent=PARENT if partial else None)
    draft.save(path)
    index, table = np.arange(blocks), np.zeros(draft.entries, "<u8")
    chunks = draft.chunks if partial else 0
    first = draft.first_block + chunks
    table[[draft.bitmap_index(chunk) for chunk in range(chunks)]] = np.arange(chunks) + draft.first_block << 20 | 6
    table[index + index // draft.ratio] = index + first << 20 | np.where(index < partial, 7, 6)
    with path.open("r+b") as file:
        file.seek(BAT_AT)
        file.write(table.tobytes())
        file.truncate((first + blocks) * MIB)
        file.seek(draft.first_block * MIB)
        file.write(b"\xaa" * (partial * 256))
    return path


@pytest.mark.parametrize("block", [MIB, 16 * MIB])
@pytest.mark.parametrize("parent", [None, PARENT], ids=["base", "child"])
def test_of_a_disk_of_64_tebibytes_only_what_is_in_the_file_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int, parent: dict[str, str] | None
) -> None:
    draft = Draft(64 * TIB, block, parent=parent)
    for at in (0, 40 * TIB, 64 * TIB - block):
        draft.write(at, b"x" * 512)
    path = draft.save(tmp_path / "a.vhdx")
    with counted_reads(monkeypatch) as lengths, little_memory(24 * MIB), opened(path) as chain:
        assert sum(lengths) < 3 * MIB
        assert len(lengths) < 40
        layer = chain.members[0].layer
        assert layer.nbytes < 4 * KIB
        data = [(low, kind) for part in chain.in_parts() for low, kind in zip(part.start, part.kind, strict=True)]
        assert [low for low, kind in data if kind == Kind.DATA] == [0, 40 * TIB, 64 * TIB - block]
        populated = layer.populated()
        assert len(populated) == 3
        assert (populated[:, 1] - populated[:, 0]).max() <= max(block, 512 * MIB)


def test_a_bat_that_is_written_but_empty_is_looked_at_in_parts(tmp_path: Path) -> None:
    draft = Draft(8 * TIB)
    path = draft.save(tmp_path / "a.vhdx")
    with path.open("r+b") as file:
        file.seek(BAT_AT)
        for _ in range(64):
            file.write(bytes(MIB))
    with little_memory(24 * MIB), opened(path) as chain:
        assert chain.extents(0, 8 * TIB).kind.tolist() == [Kind.ZERO]


def test_a_full_disk_takes_a_bit_for_each_mebibyte_while_it_is_opened_and_nothing_thereafter(tmp_path: Path) -> None:
    path = full(tmp_path / "a.vhdx", 1 << 20)
    with little_memory(24 * MIB), opened(path) as chain:
        layer = chain.members[0].layer
        assert layer.nbytes < 4 * KIB
        assert layer.load.units == (1 << 20) + 1
        assert layer.populated().tolist() == [[0, TIB]]


def test_many_runs_in_few_blocks_are_taken_in_parts_though_the_disk_holds_little_else(tmp_path: Path) -> None:
    path = full(tmp_path / "a.vhdx", 50_000, partial=1024)
    with little_memory(32 * MIB), opened(path) as chain:
        assert chain.members[0].layer.populated().tolist() == [[0, 50_000 * MIB]]
        lengths = [len(part.start) for part in chain.in_parts()]
    assert sum(lengths) >= GIB // 512
    assert max(lengths) <= 1 << 18


def test_a_metadata_region_of_any_length_is_read_as_far_as_its_items_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draft = Draft()
    draft.regions[1].at, draft.regions[1].length = 4096 * MIB, 4095 * MIB
    draft.patches += [(4096 * MIB + at, data) for at, data in draft.metadata()]
    draft.cut = 8191 * MIB
    with counted_reads(monkeypatch) as lengths, opened(draft.save(tmp_path / "a.vhdx")) as chain:
        assert chain.virtual_size == 8 * MIB
    assert sum(lengths) < 2 * MIB
