"""Unclean logs: what is read is what `qemu-img check -r all` makes of a copy, and the file is left as it is."""

import random
import shutil
import struct
from pathlib import Path
from uuid import UUID

import pytest

from tests.conftest import require_tool
from tests.support import oracle
from tests.support.units import KIB, MIB
from tests.support.vhdx import BAT_AT, LOG_GUID, PAGE, Draft, LogEntry, Zeros, contents, linked, opened
from tests.support.vhdx_readers import by_qemu
from vdifs.errors import FormatError, UnsupportedError
from vdifs.extents import Kind
from vdifs.formats.vhdx import log
from vdifs.formats.vhdx.crc32c import appended
from vdifs.formats.vhdx.replay import _last_over  # the one step that is not seen from outside

BLOCKS, RING = 24, 256
OTHER_GUID = UUID(int=0x0123 << 64)
Writes = list[tuple[int, bytes | Zeros]]


def base(rng: random.Random) -> Draft:
    draft = Draft(BLOCKS * MIB)
    for block in rng.sample(range(BLOCKS), 8):
        draft.write(block * MIB, rng.randbytes(MIB))
    return draft


def bat_page(draft: Draft, rng: random.Random) -> bytes:
    """Return the first 4 KiB of the BAT, its blocks in other places."""
    entries = draft.bat()
    words = [entries.get(index, 0) for index in range(BLOCKS)]
    rng.shuffle(words)
    return struct.pack(f"<{BLOCKS}Q", *words).ljust(PAGE, b"\0")


def random_writes(draft: Draft, rng: random.Random) -> Writes:
    free = BAT_AT + rng.randrange(1, 200) * PAGE
    return rng.choice([
        [(BAT_AT, bat_page(draft, rng))],
        [(BAT_AT, bat_page(draft, rng)), (free, rng.randbytes(PAGE))],
        [(BAT_AT, Zeros(PAGE))],
        [(BAT_AT, bat_page(draft, rng)), (BAT_AT, Zeros(3 * PAGE))],
        [(BAT_AT, Zeros(16 * PAGE)), (BAT_AT, bat_page(draft, rng))],
        [(BAT_AT, bat_page(draft, rng)), (BAT_AT, bat_page(draft, rng))],
        [(free, Zeros(PAGE))],
        [],
    ])  # fmt: skip


def sectors(entry: LogEntry) -> int:
    return len(entry.packed()) // PAGE


def random_run(draft: Draft, rng: random.Random, start: int, sequence: int) -> list[tuple[int, LogEntry]]:
    """Return the places of the entries of a run, in sectors, and the entries: the tail of each is one of theirs."""
    run: list[tuple[int, LogEntry]] = []
    at = start
    for number in range(rng.randrange(1, 5)):
        tail = rng.choice([place for place, _ in run] + [at % RING])
        entry = LogEntry(sequence + number, tail * PAGE, random_writes(draft, rng), flushed=MIB, last=MIB)
        run.append((at % RING, entry))
        at += sectors(entry)
    return run


def tail_of(run: list[tuple[int, LogEntry]]) -> int:
    """Return how many entries of a run are behind its tail: what they write is in the file."""
    return [place * PAGE for place, _ in run].index(run[-1][1].tail)


def replayed(draft: Draft, entries: list[tuple[int, LogEntry]]) -> bytes:
    """Return the first page of the BAT after the replay of entries, as a model has it."""
    words = draft.bat()
    page = struct.pack(f"<{BLOCKS}Q", *(words.get(index, 0) for index in range(BLOCKS))).ljust(PAGE, b"\0")
    for _, entry in entries:
        for offset, what in entry.writes:
            if offset == BAT_AT:
                page = bytes(PAGE) if isinstance(what, Zeros) else what
    return page


def disk_with(draft: Draft, page: bytes) -> bytes:
    """Return the disk with that beginning of the BAT."""
    of_place = {draft.places[block]: bytes(content) for block, content in draft.contents.items()}
    words = struct.unpack_from(f"<{BLOCKS}Q", page)
    return b"".join(of_place[word >> 20] if word & 7 == 6 else bytes(MIB) for word in words)


def repaired(path: Path) -> bytes:
    """Return the disk of a copy that QEMU has replayed the log of."""
    require_tool("qemu-img")
    copy = path.with_name("copy.vhdx")
    shutil.copyfile(path, copy)
    oracle.qemu_img("check", "-q", "-r", "all", "-f", "vhdx", copy)
    return by_qemu(copy)


def suits_qemu(run: list[tuple[int, LogEntry]], done: int) -> bool:
    """Tell whether QEMU replays a run right: all of it, whatever its tail, but not over the start of the ring.

    done: how many of its entries are in the file already.
    """
    return done == tail_of(run) and all(place > run[0][0] for place, _ in run[1:])


@pytest.mark.seeds(24, long=300)
def test_a_log_is_replayed_as_by_qemu(tmp_path: Path, rng: random.Random) -> None:
    """Runs that wrap, older ones, newer ones of another GUID, a torn entry behind, tails in mid-run, zeros."""
    draft = base(rng)
    start, sequence = rng.randrange(RING), rng.choice([20, 1 << 32, (1 << 32) - 2])
    run = random_run(draft, rng, start, sequence)
    entries = [*run]
    done = run[: tail_of(run)] if rng.random() < 0.6 else []
    for _, entry in done:
        draft.patches += [(at, bytes(what.length) if isinstance(what, Zeros) else what) for at, what in entry.writes]
    if rng.random() < 0.5:
        entries += random_run(draft, rng, start + 64, sequence - rng.randrange(8, 20))
    if rng.random() < 0.5:
        other = random_run(draft, rng, start + 128, sequence + 100)
        entries += [(at, LogEntry(e.sequence, e.tail, e.writes, MIB, MIB, OTHER_GUID)) for at, e in other]
    if rng.random() < 0.5:
        place = run[-1][0] + sectors(run[-1][1])
        torn = LogEntry(run[-1][1].sequence + 1, run[0][0] * PAGE, [(BAT_AT, bat_page(draft, rng))], MIB, MIB)
        torn.broken = rng.choice([{"checksum": 1}, {"length": 3 * PAGE}])  # QEMU does not look at numbers of data
        entries.append((place % RING, torn))
    rng.shuffle(entries)
    draft.dirty(*((place * PAGE, entry.packed()) for place, entry in entries))
    path = draft.save(tmp_path / "dirty.vhdx")
    before = path.read_bytes()
    found = contents(path)
    assert found == disk_with(draft, replayed(draft, done + run[tail_of(run) :]))
    assert path.read_bytes() == before
    if suits_qemu(run, len(done)):
        assert found == repaired(path)


def dirty(draft: Draft, *entries: LogEntry, guid: UUID = LOG_GUID) -> Draft:
    """Return a draft with entries one behind the other."""
    at, placed = 0, []
    for entry in entries:
        placed.append((at, entry.packed()))
        at += len(placed[-1][1])
    draft.dirty(*placed, guid=guid)
    return draft


GOOD: Writes = [(BAT_AT, bytes(PAGE))]
REFUSED: dict[str, list[LogEntry]] = {
    "torn": [LogEntry(7, 0, GOOD, broken={"checksum": 1})],
    "another GUID": [LogEntry(7, 0, GOOD, guid=OTHER_GUID)],
    "no sequence number": [LogEntry(0, 0, GOOD)],
    "tail outside of the run": [LogEntry(7, 8 * PAGE, GOOD)],
    "tail outside of the ring": [LogEntry(7, MIB, GOOD)],
    "tail within a sector": [LogEntry(7, 8, GOOD)],
    "data of another sequence": [LogEntry(7, 0, GOOD, broken={"sequence_of_data": 6})],
    "descriptors of another sequence": [LogEntry(7, 0, GOOD, broken={"sequence_of_descriptors": 6})],
    "longer than its parts": [LogEntry(7, 0, GOOD, broken={"length": 3 * PAGE})],
    "shorter than its parts": [LogEntry(7, 0, GOOD, broken={"length": PAGE})],
    "no length": [LogEntry(7, 0, GOOD, broken={"length": 0})],
    "no whole sectors": [LogEntry(7, 0, GOOD, broken={"length": 2 * PAGE - 8})],
    "longer than the ring": [LogEntry(7, 0, GOOD, broken={"length": 2 * MIB})],
    "more descriptors than there are": [LogEntry(7, 0, GOOD, broken={"descriptors": 2})],
    "too many descriptors": [LogEntry(7, 0, GOOD, broken={"descriptors": 0xFFFF_FFFF})],
    "an offset within a page": [LogEntry(7, 0, [(BAT_AT + 8, bytes(PAGE))])],
    "zeros of half a page": [LogEntry(7, 0, [(BAT_AT, Zeros(PAGE // 2))])],
}


@pytest.mark.parametrize("entries", REFUSED.values(), ids=REFUSED)
def test_a_log_without_a_run_that_counts_is_refused(tmp_path: Path, entries: list[LogEntry], seed: int) -> None:
    path = dirty(base(random.Random(1)), *entries).save(tmp_path / "a.vhdx")
    with pytest.raises(FormatError, match="no entries that can be"), opened(path):
        pass


def test_a_run_ends_where_a_number_is_left_out(tmp_path: Path) -> None:
    draft, rng = base(random.Random(1)), random.Random(2)
    pages = [bat_page(draft, rng), bat_page(draft, rng)]
    dirty(draft, LogEntry(5, 0, [(BAT_AT, pages[0])]), LogEntry(7, 0, [(BAT_AT, pages[1])]))
    assert contents(draft.save(tmp_path / "a.vhdx")) == disk_with(draft, pages[0])


def test_a_page_of_the_bat_that_only_the_log_has_is_looked_at(tmp_path: Path) -> None:
    draft = Draft(1024 * MIB)
    draft.write(0, b"a" * MIB)
    draft.bat()
    page = struct.pack("<512Q", *([0] * 88), draft.places[0] + 1 << 20 | 6, *([0] * 423))
    dirty(draft, LogEntry(5, 0, [(BAT_AT + PAGE, page)]))
    draft.patches.append(((draft.places[0] + 1) * MIB, b"b" * MIB))
    with opened(draft.save(tmp_path / "a.vhdx")) as chain:
        extents = chain.extents(0, 1024 * MIB)
        assert extents.start[extents.kind == Kind.DATA].tolist() == [0, 600 * MIB]


def test_two_runs_that_end_with_one_number_are_refused(tmp_path: Path) -> None:
    draft = base(random.Random(1))
    draft.dirty((0, LogEntry(7, 0, GOOD).packed()), (64 * PAGE, LogEntry(7, 64 * PAGE, GOOD).packed()))
    with pytest.raises(FormatError, match="two runs of entries in its log end with the sequence number 7"):
        contents(draft.save(tmp_path / "a.vhdx"))


def test_an_entry_may_have_more_descriptors_than_its_first_sector_holds(tmp_path: Path) -> None:
    rng = random.Random(3)
    draft = base(rng)
    page = bat_page(draft, rng)
    writes: Writes = [(BAT_AT + (n + 1) * PAGE, Zeros(PAGE)) for n in range(250)]
    for number in (125, 126, 127, 250):
        dirty(draft, LogEntry(7, 0, [*writes[:number], (BAT_AT, page)]))
        assert contents(draft.save(tmp_path / "a.vhdx")) == disk_with(draft, page), number


def test_metadata_region_tables_and_sector_bitmaps_are_read_as_the_log_has_them(tmp_path: Path) -> None:
    child = Draft(parent=linked(UUID(int=5), "b.vhdx"))
    child.write(512, b"a" * 512)
    child.write(4096, b"b" * 512)
    child.save(tmp_path / "clean.vhdx")
    other = Draft(parent=linked(UUID(int=6), "b.vhdx"))
    metadata = dict(other.metadata())
    items = b"".join(data.ljust(0) for at, data in sorted(metadata.items()) if at)
    bitmap = bytes([0b100]).ljust(PAGE, b"\0")
    table = child.region_table()
    writes: Writes = [
        (2 * MIB + 64 * KIB, items.ljust(PAGE, b"\0")),
        (child.places[~0] * MIB, bitmap),
        *((192 * KIB + at, table[at : at + PAGE]) for at in range(0, 64 * KIB, PAGE)),
    ]
    dirty(child, LogEntry(7, 0, writes))
    child.region_tables[0] = b"torn"
    with opened(child.save(tmp_path / "a.vhdx")) as chain:
        (member,) = chain.members
        assert member.metadata.parent is not None
        assert member.metadata.parent.identities == {str(UUID(int=6))}
        kinds = member.layer.extents(0, 8192)
        assert list(zip(kinds.start.tolist(), kinds.kind.tolist(), strict=True)) == [(0, 0), (1024, 2), (1536, 0)]
        (warning,) = member.metadata.describe(member.file, None).warnings()
        assert warning == "it was not closed cleanly: 1 entry of its log is replayed in memory"
        (problem,) = member.metadata.audit(member.file, "a", has_overlay=False).problems
        assert problem.kind == "unclean-log"


def test_what_the_file_has_lost_at_its_end_is_zeros(tmp_path: Path) -> None:
    draft = Draft(BLOCKS * MIB)
    draft.write(0, b"a" * MIB)
    draft.save(tmp_path / "clean.vhdx")
    page = struct.pack("<2Q", draft.places[0] << 20 | 6, draft.places[0] + 1 << 20 | 6).ljust(PAGE, b"\0")
    size = (draft.places[0] + 1) * MIB
    dirty(draft, LogEntry(7, 0, [(BAT_AT, page)], flushed=size, last=size + MIB))
    path = draft.save(tmp_path / "a.vhdx")
    assert path.stat().st_size == size
    assert contents(path) == (b"a" * MIB).ljust(BLOCKS * MIB, b"\0")
    dirty(draft, LogEntry(7, 0, [(BAT_AT, page)], flushed=size, last=size + MIB - PAGE))
    with pytest.raises(FormatError, match="beyond the end"):
        contents(draft.save(tmp_path / "a.vhdx"))


def test_too_many_descriptors_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draft = dirty(base(random.Random(1)), LogEntry(7, 0, [(BAT_AT + PAGE, Zeros(PAGE))] * 9))
    path = draft.save(tmp_path / "a.vhdx")
    monkeypatch.setattr(log, "_MAX_DESCRIPTORS", 9)
    contents(path)
    monkeypatch.setattr(log, "_MAX_DESCRIPTORS", 8)
    with pytest.raises(UnsupportedError, match="more than 8 descriptors"):
        contents(path)


def test_each_sector_of_a_hostile_log_is_summed_up_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each sector of a log begins an entry that claims all the rest."""
    draft = base(random.Random(1))
    claims = LogEntry(7, 0, GOOD, broken={"length": MIB})
    draft.dirty(*((place * PAGE, claims.packed()[:PAGE]) for place in range(RING)))
    summed: list[int] = []

    def counting(state: int, remainder: int) -> int:
        summed.append(remainder)
        return appended(state, remainder)

    monkeypatch.setattr(log, "appended", counting)
    with pytest.raises(FormatError, match="no entries that can be"):
        contents(draft.save(tmp_path / "a.vhdx"))
    assert len(summed) <= RING


@pytest.mark.seeds(10, long=300)
def test_the_last_zeros_over_a_page_are_found(rng: random.Random) -> None:
    import numpy as np

    pages = np.array(sorted(rng.sample(range(200), rng.randrange(1, 60))), np.int64)
    ranges = [sorted(rng.sample(range(201), 2)) for _ in range(rng.randrange(40))]
    starts, stops = (np.array([each[side] for each in ranges], np.int64) for side in (0, 1))
    order = np.cumsum([rng.randrange(1, 4) for _ in ranges]).astype(np.int64)
    expected = [
        max((n for (low, high), n in zip(ranges, order.tolist(), strict=True) if low <= page < high), default=-1)
        for page in pages.tolist()
    ]
    assert _last_over(pages, starts, stops, order).tolist() == expected
