"""The snapshot table: entries as the specification packs them, and the names under which they are shown."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.formats.qcow2.test_header import MINIMAL
from tests.support import qcow2
from vdifs.errors import FormatError
from vdifs.formats.qcow2.extensions import encode_name
from vdifs.formats.qcow2.snapshots import Snapshot, parse_snapshots, snapshot_labels

U64, U32 = st.integers(0, (1 << 64) - 1), st.integers(0, (1 << 32) - 1)
OFFSET = 0x50000
names = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12),
    st.sampled_from(["", "same", "a/b", "50%"]),
)


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    """Draw an entry; only the later fields may be missing, and a state of 32 bits alone is of an old image."""
    extra = draw(st.integers(0, 3))
    return Snapshot(
        l1_table_offset=draw(U64),
        l1_size=draw(U32),
        id=draw(names),
        name=draw(names),
        date_sec=draw(U32),
        date_nsec=draw(U32),
        vm_clock_nsec=draw(U64),
        vm_state_size=draw(U64 if extra else U32),
        disk_size=draw(U64) if extra >= 2 else None,
        icount=draw(U64) if extra >= 3 else None,
    )


def packed(snapshot: Snapshot, more: bytes = b"") -> bytes:
    """Pack an entry as the specification says; more: extra data of no known meaning."""
    extra = b""
    if snapshot.vm_state_size > 0xFFFF_FFFF or snapshot.disk_size is not None:
        extra = qcow2.words(snapshot.vm_state_size)
    if snapshot.disk_size is not None:
        extra += qcow2.words(snapshot.disk_size)
    if snapshot.icount is not None:
        extra += qcow2.words(snapshot.icount) + more
    ident, name = encode_name(snapshot.id), encode_name(snapshot.name)
    head = qcow2.SNAPSHOT.pack(
        snapshot.l1_table_offset,
        snapshot.l1_size,
        len(ident),
        len(name),
        snapshot.date_sec,
        snapshot.date_nsec,
        snapshot.vm_clock_nsec,
        snapshot.vm_state_size & 0xFFFF_FFFF,
        len(extra),
    )
    entry = head + extra + ident + name
    return entry + bytes(-len(entry) % 8)


def reader(table: bytes) -> Callable[[int, int], bytes]:
    """Return what reads a file that has `table` at OFFSET and ends with it."""

    def read(offset: int, length: int) -> bytes:
        assert offset >= OFFSET
        return table[offset - OFFSET : offset - OFFSET + length].ljust(length, b"\0")

    return read


def parsed(table: bytes, count: int) -> tuple[Snapshot, ...]:
    return parse_snapshots(replace(MINIMAL, nb_snapshots=count, snapshots_offset=OFFSET), reader(table))


@given(st.lists(snapshots(), max_size=5), st.binary(max_size=40))
def test_parsing_is_the_inverse_of_packing(found: list[Snapshot], more: bytes) -> None:
    table = [packed(snapshot, more) for snapshot in found]
    told = tuple(snapshot for snapshot, entry in zip(found, table, strict=True) if any(entry))
    assert parsed(b"".join(table), len(found)) == told


@given(st.binary(max_size=300), st.integers(0, 8))
def test_any_bytes_give_snapshots_or_a_format_error(table: bytes, count: int) -> None:
    try:
        assert len(parsed(table, count)) <= count
    except FormatError as error:
        assert "extra data" in str(error)


BLANK = bytes(40)
ONE, TWO = Snapshot(0x1000, 1, "1", "one", 0, 0, 0, 0, 512), Snapshot(0, 0, "", "", 0, 0, 0, 1)


@pytest.mark.parametrize("at_once", [1, 2, 4096])
@pytest.mark.parametrize("blanks", [1, 2, 3, 100])
def test_blank_entries_are_left_out_wherever_they_stand(
    blanks: int, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TWO is nearly blank: it begins with zeros, and is an entry all the same."""
    monkeypatch.setattr("vdifs.formats.qcow2.snapshots._BLANKS_AT_ONCE", at_once)
    gap = BLANK * blanks
    table = gap + packed(ONE) + gap + packed(TWO) + packed(ONE) + gap
    assert parsed(table, 3 + 3 * blanks) == (ONE, TWO, ONE)
    assert parsed(table, blanks) == ()
    assert parsed(table, 2 * blanks + 1) == (ONE,)


def test_65536_blank_entries_are_passed_over_in_few_reads() -> None:
    reads: list[int] = []

    def read(_offset: int, length: int) -> bytes:
        reads.append(length)
        return bytes(length)

    assert parse_snapshots(replace(MINIMAL, nb_snapshots=65536, snapshots_offset=OFFSET), read) == ()
    assert len(reads) < 30
    assert max(reads) <= 1 << 18


def test_a_table_above_64_mib_is_refused() -> None:
    entry = qcow2.SNAPSHOT.pack(0, 0, 0xFFFF, 0xFFFF, 0, 0, 0, 0, 1024)

    def read(_offset: int, length: int) -> bytes:
        return entry.ljust(length, b"\0")[:length]

    with pytest.raises(FormatError, match="the snapshot table is longer than 67108864 bytes"):
        parse_snapshots(replace(MINIMAL, nb_snapshots=600, snapshots_offset=OFFSET), read)


@given(st.lists(snapshots(), max_size=6))
def test_a_label_is_a_file_name_without_control_characters(found: list[Snapshot]) -> None:
    for label in snapshot_labels(found):
        assert "/" not in label
        assert not any(char < " " or char == "\x7f" for char in label)


@given(st.lists(names, unique=True, max_size=6))
def test_different_names_give_different_labels(unique: list[str]) -> None:
    template = Snapshot(0, 0, "1", "", 0, 0, 0, 0)
    labels = snapshot_labels([replace(template, name=name) for name in unique])
    assert len(set(labels)) == len(unique)


@given(st.lists(st.tuples(st.sampled_from(["x", "x~2", "x~2~2", "x~1", "x~1~2"]), st.sampled_from("123")), max_size=8))
def test_no_two_labels_are_the_same(names_and_ids: list[tuple[str, str]]) -> None:
    found = [Snapshot(0, 0, ident, name, 0, 0, 0, 0) for name, ident in names_and_ids]
    labels = snapshot_labels(found)
    assert len(set(labels)) == len(labels) == len(found)
    names = [name for name, _ in names_and_ids]
    for (name, ident), label in zip(names_and_ids, labels, strict=True):
        assert label.startswith(name if names.count(name) == 1 else f"{name}~{ident}")


def test_a_name_that_is_another_snapshots_label_goes_on_with_its_id() -> None:
    found = [Snapshot(0, 0, ident, name, 0, 0, 0, 0) for name, ident in [("x", "1"), ("x", "2"), ("x~2", "3")]]
    assert snapshot_labels(found) == ("x~1", "x~2", "x~2~3")
    assert snapshot_labels([found[0]] * 4) == ("x~1", "x~1~1", "x~1~1~3", "x~1~1~4")


def test_as_many_snapshots_as_there_may_be_are_labelled_at_once() -> None:
    """65536 of one name and one ID, as only malice makes them: without labels that grow and grow."""
    assert len("".join(snapshot_labels([Snapshot(0, 0, "1", "x", 0, 0, 0, 0)] * 65536))) < 65536 * 16


def test_shared_names_are_told_apart_by_their_ids() -> None:
    template = Snapshot(0, 0, "1", "daily", 0, 0, 0, 0)
    found = [template, replace(template, id="2"), replace(template, id="3", name="a/b%\n")]
    assert snapshot_labels(found) == ("daily~1", "daily~2", "a%2Fb%25%0A")
