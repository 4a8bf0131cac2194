"""Every rule of docs/formats.md, VHDX, with a file that breaks it and the error that this gives."""

import re
import struct
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import pytest

from tests.support import vhdx
from tests.support.stated import rows
from tests.support.units import KIB, MIB, TIB
from tests.support.vhdx import LOG_GUID, PAGE, Draft, Head, Item, LogEntry, Region, Zeros, contents, linked, opened
from vdifs.errors import FormatError, UnsupportedError
from vdifs.extents import Kind, MapKind

OTHER = UUID("12345678-9abc-def0-1234-56789abcdef0")
BASE = UUID(int=5)


def base() -> Draft:
    """Return a disk of 8 blocks, of which 0 and 2 are there."""
    draft = Draft()
    draft.write(0, b"a" * MIB)
    draft.write(2 * MIB, b"b" * MIB)
    return draft


def child() -> Draft:
    """Return a child in which block 1 is partially present, and block 3 wholly."""
    draft = Draft(parent=linked(BASE, "b.vhdx"), number=2)
    draft.write(MIB, b"c" * 512)
    draft.write(3 * MIB, b"d" * MIB)
    return draft


def heads(draft: Draft, **fields: object) -> None:
    for head in draft.heads:
        for name, value in fields.items():
            setattr(head, name, value)


def zero_head(draft: Draft, *numbers: int) -> None:
    draft.patches += [(64 * KIB * (number + 1) + 100, b"\1") for number in numbers]


def equal_heads(draft: Draft) -> None:
    draft.heads = [Head(5, draft.guid), Head(5, OTHER)]


def newer_version_2(draft: Draft) -> None:
    draft.heads[1].version = 2


def tables(draft: Draft, table: bytes) -> None:
    draft.region_tables = [table, table]


def many_regions(draft: Draft) -> None:
    tables(draft, vhdx.summed(draft.region_table()[:8] + struct.pack("<I", 2048) + draft.region_table()[12:]))


def no_table(draft: Draft) -> None:
    tables(draft, draft.region_table()[:-1] + b"\1")


def region(draft: Draft, index: int, **fields: object) -> None:
    for name, value in fields.items():
        setattr(draft.regions[index], name, value)


def item(draft: Draft, guid: UUID, **fields: object) -> None:
    for name, value in fields.items():
        setattr(draft.item(guid), name, value)


def value(draft: Draft, guid: UUID, form: str, *values: int) -> None:
    draft.item(guid).data = struct.pack(form, *values)


def without(draft: Draft, guid: UUID) -> None:
    draft.items.remove(draft.item(guid))


def parent(draft: Draft, values: object, kind: UUID = vhdx.LOCATOR_TYPE) -> None:
    draft.item(vhdx.LOCATOR).data = vhdx.locator(values, kind)  # type: ignore[arg-type]  # a table of cases


def patched_locator(draft: Draft, at: int, form: str, number: int) -> None:
    data = bytearray(draft.item(vhdx.LOCATOR).data)
    struct.pack_into(form, data, at, number)
    draft.item(vhdx.LOCATOR).data = bytes(data)


def overlapping_texts(draft: Draft) -> None:
    patched_locator(draft, 24, "<I", 0)
    patched_locator(draft, 30, "<H", len(draft.item(vhdx.LOCATOR).data) // 2 * 2)


def entry(draft: Draft, index: int, change: Callable[[int], int]) -> None:
    draft.entry[index] = change(draft.bat().get(index, 0))


def logged(draft: Draft, *writes: tuple[int, bytes | Zeros], **fields: int) -> None:
    draft.dirty((0, LogEntry(1, 0, writes, **fields).packed()))  # type: ignore[arg-type]  # sizes, all of them


PAGE_OF_A = b"a" * PAGE
BAD, UNREAD = FormatError, UnsupportedError

RULES: list[tuple[str, Callable[[], Draft], Callable[[Draft], object], type[FormatError], str]] = [
    ("no header", base, lambda d: zero_head(d, 0, 1), BAD, "neither of its two headers is intact"),
    ("no signature", base, lambda d: heads(d, signature=b"haed"), BAD, "neither of its two headers is intact"),
    ("equal headers", base, equal_heads, BAD, "its two headers differ under one sequence number, 5"),
    ("version", base, lambda d: heads(d, version=2), UNREAD, "has the version 2, expected 1"),
    ("newer version", base, newer_version_2, UNREAD, "has the version 2, expected 1"),
    ("log place", base, lambda d: heads(d, log_at=MIB + 4096), BAD, "log of .* is not in whole MiB"),
    ("log length", base, lambda d: heads(d, log_length=MIB + 4096), BAD, "log of .* is not in whole MiB"),
    ("log on headers", base, lambda d: heads(d, log_at=0), BAD, "log of .* is not in whole MiB"),
    ("log on BAT", base, lambda d: heads(d, log_at=3 * MIB), BAD, "its (log|BAT region) and its .* overlap"),
    ("log version", base, lambda d: heads(d, log_version=1, log_guid=LOG_GUID), UNREAD, "log has the version 1"),
    ("no log", base, lambda d: heads(d, log_length=0, log_guid=LOG_GUID), BAD, "a log to replay, of no length"),
    ("long log", base, lambda d: heads(d, log_length=65 * MIB, log_guid=LOG_GUID), UNREAD, "at most 67108864"),
    ("log outside", base, lambda d: heads(d, log_at=64 * MIB, log_guid=LOG_GUID), BAD, "log .* beyond the end"),
    ("empty log", base, lambda d: d.dirty(), BAD, "has no entries that can be"),
    ("no table", base, no_table, BAD, "neither of its two region tables is intact"),
    ("2048 regions", base, many_regions, BAD, "2048 entries, at most 2047"),
    ("region place", base, lambda d: region(d, 1, at=2 * MIB + 4096), BAD, "metadata region .* whole MiB"),
    ("region length", base, lambda d: region(d, 1, length=MIB + 1), BAD, "metadata region .* whole MiB"),
    ("empty region", base, lambda d: region(d, 1, length=0), BAD, "metadata region .* whole MiB"),
    ("region on headers", base, lambda d: region(d, 1, at=0), BAD, "metadata region .* whole MiB"),
    ("region outside", base, lambda d: region(d, 1, at=1 << 40), BAD, "metadata region .* beyond the end"),
    ("region far outside", base, lambda d: region(d, 1, at=(1 << 64) - MIB), BAD, "beyond the end"),
    ("regions overlap", base, lambda d: region(d, 1, at=3 * MIB), BAD, "overlap at 0x300000"),
    ("region on log", base, lambda d: region(d, 1, at=MIB), BAD, "overlap at 0x100000"),
    ("region twice", base, lambda d: d.regions.append(Region(vhdx.BAT_GUID, 5 * MIB, MIB)), BAD, "twice"),
    ("no BAT", base, lambda d: d.regions.pop(0), BAD, "has no BAT region"),
    ("no metadata", base, lambda d: d.regions.pop(), BAD, "has no metadata region"),
    ("unknown region", base, lambda d: d.regions.append(Region(OTHER, 5 * MIB, MIB)), UNREAD,
     f"unknown required region, {OTHER}"),
    ("small BAT", lambda: Draft(TIB), lambda d: region(d, 0, length=MIB), BAD, "its disk needs"),
    ("metadata", base, lambda d: setattr(d, "metadata_head", b"Metadata"), BAD, "does not begin with 'metadata'"),
    ("2048 items", base, lambda d: d.patches.append((2 * MIB + 10, b"\0\x08")), BAD, "2048 entries, at most 2047"),
    ("low item", base, lambda d: item(d, vhdx.DISK_ID, at=32 * KIB), BAD, "may not lie there"),
    ("item outside", base, lambda d: item(d, vhdx.DISK_ID, at=MIB - 8), BAD, "may not lie there"),
    ("long item", base, lambda d: d.items.append(Item(OTHER, b"", 0, length=MIB + 1)), BAD, "may not lie there"),
    ("items overlap", base, lambda d: item(d, vhdx.DISK_ID, at=64 * KIB), BAD, "overlap"),
    ("item twice", base, lambda d: d.items.append(Item(vhdx.DISK_SIZE, bytes(8))), BAD, f"{vhdx.DISK_SIZE} twice"),
    ("unknown item", base, lambda d: d.items.append(Item(OTHER, b"x")), UNREAD, f"system item .*{OTHER}"),
    ("user item", base, lambda d: d.items.append(Item(OTHER, b"x", 5)), UNREAD, f"required user item .*{OTHER}"),
    ("known user item", base, lambda d: d.items.append(Item(vhdx.DISK_ID, b"x", 5)), UNREAD,
     f"required user item .*{vhdx.DISK_ID}"),
    ("unfinished", base, lambda d: d.items.append(Item(UUID("71cc85f0-1b69-4e28-9558-c3bf83ae75d3"), b"x")), BAD,
     "marked it as unfinished"),
    ("no parameters", base, lambda d: without(d, vhdx.FILE_PARAMETERS), BAD, "no file parameters"),
    ("no disk size", base, lambda d: without(d, vhdx.DISK_SIZE), BAD, "no disk size"),
    ("no logical sector", base, lambda d: without(d, vhdx.LOGICAL_SECTOR), BAD, "no logical sector size"),
    ("no physical sector", base, lambda d: without(d, vhdx.PHYSICAL_SECTOR), BAD, "no physical sector size"),
    ("no disk GUID", base, lambda d: without(d, vhdx.DISK_ID), BAD, "no disk guid"),
    ("short GUID", base, lambda d: item(d, vhdx.DISK_ID, length=15), BAD, "has 15 bytes, expected 16"),
    ("small block", base, lambda d: value(d, vhdx.FILE_PARAMETERS, "<II", MIB // 2, 0), BAD, "block size is 524288"),
    ("odd block", base, lambda d: value(d, vhdx.FILE_PARAMETERS, "<II", 3 * MIB, 0), BAD, "block size is 3145728"),
    ("large block", base, lambda d: value(d, vhdx.FILE_PARAMETERS, "<II", 512 * MIB, 0), BAD, "block size is"),
    ("no block", base, lambda d: value(d, vhdx.FILE_PARAMETERS, "<II", 0, 0), BAD, "block size is 0"),
    ("flags", base, lambda d: value(d, vhdx.FILE_PARAMETERS, "<II", MIB, 4), UNREAD, "unknown bits set, 0x4"),
    ("empty disk", base, lambda d: value(d, vhdx.DISK_SIZE, "<Q", 0), BAD, "disk has 0 bytes"),
    ("large disk", base, lambda d: value(d, vhdx.DISK_SIZE, "<Q", 64 * TIB + 512), BAD, "up to 64 TiB"),
    ("odd disk", base, lambda d: value(d, vhdx.DISK_SIZE, "<Q", 8 * MIB - 1), BAD, "a multiple of 512"),
    ("odd disk of 4096", lambda: Draft(8 * MIB, sector=4096), lambda d: value(d, vhdx.DISK_SIZE, "<Q", 8 * MIB - 512),
     BAD, "a multiple of 4096"),
    ("logical sector", base, lambda d: value(d, vhdx.LOGICAL_SECTOR, "<I", 1024), BAD, "logical sector size is 1024"),
    ("physical sector", base, lambda d: value(d, vhdx.PHYSICAL_SECTOR, "<I", 0), BAD, "physical sector size is 0"),
    ("no locator", child, lambda d: without(d, vhdx.LOCATOR), BAD, "no parent locator"),
    ("locator type", child, lambda d: parent(d, linked(BASE, "b"), OTHER), UNREAD, f"unknown type, {OTHER}"),
    ("no entries", child, lambda d: parent(d, {}), BAD, "has 0 entries"),
    ("257 entries", child, lambda d: parent(d, {f"k{n}": "v" for n in range(257)}), BAD, "has 257 entries"),
    ("more entries than room", child, lambda d: patched_locator(d, 18, "<H", 200), BAD, "has 200 entries"),
    ("short locator", child, lambda d: setattr(d.item(vhdx.LOCATOR), "data", bytes(19)), BAD, "has 19 bytes"),
    ("key twice", child, lambda d: parent(d, [("parent_linkage", "a"), ("parent_linkage", "b")]), BAD, "twice"),
    ("odd length", child, lambda d: patched_locator(d, 28, "<H", 27), BAD, "may not lie there"),
    ("no key", child, lambda d: patched_locator(d, 28, "<H", 0), BAD, "may not lie there"),
    ("no value", child, lambda d: patched_locator(d, 30, "<H", 0), BAD, "may not lie there"),
    ("value outside", child, lambda d: patched_locator(d, 24, "<I", 4000), BAD, "may not lie there"),
    ("long texts", child, overlapping_texts, BAD, "texts of its parent locator take more than it has"),
    ("NUL", child, lambda d: parent(d, {"parent_linkage": f"{{{BASE}}}\0"}), BAD, "has a NUL in it"),
    ("half a character", child, lambda d: patched_locator(d, 44, "<H", 0xD800), BAD, "no UTF-16"),
    ("no linkage", child, lambda d: parent(d, {"relative_path": "b"}), BAD, "no parent_linkage"),
    ("key in capitals", child, lambda d: parent(d, {"Parent_linkage": f"{{{BASE}}}"}), BAD, "no parent_linkage"),
    ("no braces", child, lambda d: parent(d, {"parent_linkage": str(BASE)}), BAD, "a GUID in braces"),
    ("second linkage", child, lambda d: parent(d, linked(BASE, "b") | {"parent_linkage2": "x"}), BAD,
     "parent_linkage2"),
    ("state 4", base, lambda d: entry(d, 1, lambda _: 4), BAD, "state 4 means nothing for a block"),
    ("state 5", base, lambda d: entry(d, 1, lambda _: 5), BAD, "state 5 means nothing for a block"),
    ("reserved bits", base, lambda d: entry(d, 0, lambda e: e | 1 << 19), BAD, "reserved bits are set"),
    ("reserved bit 3", base, lambda d: entry(d, 1, lambda _: 8), BAD, "reserved bits are set"),
    ("partial in a base", base, lambda d: entry(d, 0, lambda e: e | 7), BAD, "but the image has no parent"),
    ("no bitmap", child, lambda d: entry(d, 4096, lambda _: 0), BAD, "chunk 0 .* no sector bitmap"),
    ("state of bitmap", child, lambda d: entry(d, 4096, lambda e: e | 7), BAD, "state 7 means nothing for a bitmap"),
    ("zero bitmap", child, lambda d: entry(d, 4096, lambda e: e & ~7 | 2), BAD, "state 2 means nothing for a bitmap"),
    ("block at 0", base, lambda d: entry(d, 0, lambda _: 6), BAD, "block .* lies on its headers"),
    ("bitmap at 0", child, lambda d: entry(d, 4096, lambda _: 6), BAD, "bitmap .* lies on its headers"),
    ("block outside", base, lambda d: entry(d, 0, lambda _: 64 << 20 | 6), BAD, "block .* beyond the end"),
    ("block far outside", base, lambda d: entry(d, 0, lambda _: (1 << 64) - (1 << 20) | 6), BAD, "beyond the end"),
    ("bitmap outside", child, lambda d: entry(d, 4096, lambda _: 64 << 20 | 6), BAD, "bitmap .* beyond the end"),
    ("block cut", base, lambda d: setattr(d, "cut", 6 * MIB - 1), BAD, "block .* beyond the end"),
    ("block on log", base, lambda d: entry(d, 0, lambda _: 1 << 20 | 6), BAD, "its block at 0x100000 and its log"),
    ("block on metadata", base, lambda d: entry(d, 0, lambda _: 2 << 20 | 6), BAD, "its metadata region overlap"),
    ("block on BAT", base, lambda d: entry(d, 0, lambda _: 3 << 20 | 6), BAD, "its BAT region overlap"),
    ("bitmap on BAT", child, lambda d: entry(d, 4096, lambda _: 3 << 20 | 6), BAD, "bitmap at .* overlap"),
    ("blocks overlap", base, lambda d: entry(d, 0, lambda _: d.bat()[2]), BAD, "two of its blocks overlap at"),
    ("block on bitmap", child, lambda d: entry(d, 1, lambda _: d.bat()[4096] | 7), BAD, "two of its blocks overlap"),
    ("bitmap on block", child, lambda d: entry(d, 4096, lambda _: d.bat()[1] ^ 1), BAD, "two of its blocks overlap"),
    ("log below", base, lambda d: logged(d, (188 * KIB, PAGE_OF_A)), BAD, "log writes at 0x2f000, over its headers"),
    ("log on log", base, lambda d: logged(d, (2 * MIB - PAGE, PAGE_OF_A)), BAD, "over the log itself"),
    ("zeros on log", base, lambda d: logged(d, (192 * KIB, Zeros(MIB))), BAD, "over the log itself"),
    ("log beyond", base, lambda d: logged(d, (1 << 63, PAGE_OF_A)), BAD, "beyond all files"),
    ("zeros beyond", base, lambda d: logged(d, (4 * MIB, Zeros(1 << 63))), BAD, "beyond all files"),
    ("log in a block", base, lambda d: logged(d, (4 * MIB, PAGE_OF_A)), BAD, "writes into the block at 0x400000"),
    ("zeros in a block", base, lambda d: logged(d, (3 * MIB + 4096, Zeros(1 << 40))), BAD, "writes into the block"),
    ("file cut", base, lambda d: logged(d, (3 * MIB + PAGE, bytes(PAGE)), flushed=7 * MIB), BAD, "when its log was"),
    ("file lost", base, lambda d: logged(d, (3 * MIB + PAGE, bytes(PAGE)), last=1 << 40), BAD, "says that it had"),
]  # fmt: skip


@pytest.mark.parametrize(("draft", "break_it", "kind", "message"), [r[1:] for r in RULES], ids=[r[0] for r in RULES])
def test_a_file_that_breaks_a_rule_is_refused(
    tmp_path: Path,
    draft: Callable[[], Draft],
    break_it: Callable[[Draft], object],
    kind: type[FormatError],
    message: str,
) -> None:
    broken = draft()
    with opened(draft().save(tmp_path / "sound.vhdx")) as chain:
        assert chain.virtual_size == broken.size, "without that it is read"
    break_it(broken)
    path = broken.save(tmp_path / "broken.vhdx")
    with pytest.raises(FormatError, match=message) as raised, opened(path):
        pass
    assert type(raised.value) is kind
    assert raised.value.where is not None
    assert raised.value.where.startswith(str(path)), "the file is named"
    assert raised.value.remedy


def test_an_unknown_region_or_item_that_is_not_required_is_ignored(tmp_path: Path) -> None:
    draft = base()
    draft.regions.append(Region(OTHER, 16 * MIB, MIB, 0))
    draft.items += [Item(OTHER, b"x", 0), Item(OTHER, b"y", 1), Item(UUID(int=3), b"", 0, at=0)]
    draft.items.append(Item(UUID("da02d7bc-3d3a-423c-ac88-2a36ab21479b"), bytes(8)))
    draft.patches.append((16 * MIB, bytes(MIB)))
    assert contents(draft.save(tmp_path / "a.vhdx")) == contents(base().save(tmp_path / "b.vhdx"))


def test_the_second_linkage_names_a_parent_too_unless_it_is_zero(tmp_path: Path) -> None:
    for second, expected in ((OTHER, {str(BASE), str(OTHER)}), (UUID(int=0), {str(BASE)})):
        draft = Draft(parent=linked(BASE, "b") | {"parent_linkage2": f"{{{str(second).upper()}}}"})
        with opened(draft.save(tmp_path / "c.vhdx")) as chain:
            parent = chain.members[0].metadata.parent
            assert parent is not None
            assert parent.identities == expected


@pytest.mark.parametrize("damaged", [0, 1])
def test_the_header_that_is_left_is_taken_and_that_is_told(tmp_path: Path, damaged: int) -> None:
    draft = base()
    zero_head(draft, damaged)
    with opened(draft.save(tmp_path / "a.vhdx")) as chain:
        (member,) = chain.members
        (warning,) = member.metadata.describe(member.file, None).warnings()
        assert re.search(f"its header {damaged + 1} of 2 is damaged", warning)
        (problem,) = member.metadata.audit(member.file, "a.vhdx", has_overlay=False).problems
        assert problem.message == f"{member.file.name}: {warning}: {problem.remedy}"


def test_the_header_with_the_higher_number_is_the_current_one(tmp_path: Path) -> None:
    for numbers in ((4, 5), (5, 4), ((1 << 64) - 1, 0)):
        draft = base()
        draft.heads = [Head(number, UUID(int=number)) for number in numbers]
        with opened(draft.save(tmp_path / "a.vhdx")) as chain:
            assert chain.members[0].metadata.identities == {str(UUID(int=max(numbers)))}
            assert not chain.members[0].metadata.describe(chain.members[0].file, None).warnings()


@pytest.mark.parametrize("damaged", [0, 1])
def test_the_region_table_that_is_left_is_taken_and_that_is_told(tmp_path: Path, damaged: int) -> None:
    draft = base()
    draft.region_tables[damaged] = b"x" * 64 * KIB
    with opened(draft.save(tmp_path / "a.vhdx")) as chain:
        (warning,) = chain.members[0].metadata.describe(chain.members[0].file, None).warnings()
        assert f"its region table {damaged + 1} of 2 is damaged" in warning


def test_of_two_region_tables_that_differ_the_first_is_taken_and_that_is_told(tmp_path: Path) -> None:
    draft, other = base(), base()
    other.regions[1].at = 64 * MIB
    draft.region_tables[1] = other.region_table()
    with opened(draft.save(tmp_path / "a.vhdx")) as chain:
        (warning,) = chain.members[0].metadata.describe(chain.members[0].file, None).warnings()
        assert "its two region tables differ" in warning


def test_entries_beyond_the_disk_are_ignored(tmp_path: Path) -> None:
    draft = child()
    draft.entry |= {8: 5, 9: 4095, 4095: (1 << 64) - 1}
    assert contents(draft.save(tmp_path / "a.vhdx")) == contents(child().save(tmp_path / "b.vhdx"))


def test_the_last_block_may_end_where_the_disk_ends(tmp_path: Path) -> None:
    draft = Draft(4 * MIB + 1024, 2 * MIB)
    draft.write(4 * MIB, b"z" * 1024)
    draft.cut = 4 * MIB + 1024
    assert contents(draft.save(tmp_path / "a.vhdx"))[-1024:] == b"z" * 1024
    draft.cut -= 1
    with pytest.raises(FormatError, match="beyond the end"):
        contents(draft.save(tmp_path / "a.vhdx"))


def test_a_block_that_lies_in_a_hole_of_the_file_is_zeros(tmp_path: Path) -> None:
    draft = child()
    draft.states[5], draft.contents[5] = 6, bytearray(MIB)
    top, below = draft.save(tmp_path / "a.vhdx"), base()
    below.write(5 * MIB, b"z" * MIB)
    with opened(top, below.save(tmp_path / "b.vhdx")) as chain:
        assert list(rows(chain.extents(5 * MIB, 6 * MIB))) == [(5 * MIB, 6 * MIB, Kind.ZERO, 0, 0)]
        found = chain.members[0].layer.details(5 * MIB, 6 * MIB)
        assert (found.kind.tolist(), found.host.tolist()) == ([MapKind.DATA_HOLE], [draft.places[5] * MIB])
