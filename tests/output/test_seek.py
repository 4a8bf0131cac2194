"""SEEK_DATA and SEEK_HOLE: against the disk byte by byte, and how little is looked into for them."""

import errno
import os
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import vdifs
from tests.support.agreement import refused
from tests.support.builder import make_raw, write_blank
from tests.support.stated import GRAIN, StatedChain, StatedFile, stated_chains
from tests.support.units import KIB, MIB, TIB
from vdifs.chain.open_chain import Chain, Member
from vdifs.errors import UsageError, WouldBlock
from vdifs.extents import NO_FILE, Extents, Kind
from vdifs.formats.flat_layer import FlatState
from vdifs.formats.image_format import Metadata
from vdifs.formats.layer import UNLIMITED
from vdifs.formats.load import Load
from vdifs.formats.raw import RAW
from vdifs.output import granularity
from vdifs.output.allocation import Allocation
from vdifs.output.granularity import Granularity
from vdifs.output.image import Image
from vdifs.output.protocol import ResolvedSpec
from vdifs.output.qcow2.output import Qcow2Output
from vdifs.output.raw import RawOutput
from vdifs.output.view import View
from vdifs.ranges import Ranges
from vdifs.storage.host_file import HostFile

Range = tuple[int, int]
CLUSTER = 64 * KIB
WINDOW = CLUSTER << 13
"""Of an image in such clusters."""


def raw_image(chain: Chain, bits: int = 16) -> Image:
    return Image(chain, RawOutput(ResolvedSpec(chain, None, bits)), "")


def seek(image: Image, offset: int, whence: int) -> int | None:
    """Return what the image answers, None for ENXIO."""
    try:
        return image.seek(offset, whence)
    except vdifs.VdifsError as error:
        assert error.errno == errno.ENXIO
        return None


def walk(image: Image, at: int = 0) -> Iterator[Range]:
    """Yield the runs of data as cp and tar find them."""
    while (start := seek(image, at, os.SEEK_DATA)) is not None:
        assert start >= at
        at = image.seek(start, os.SEEK_HOLE)
        assert start < at
        yield start, at


def wanted(data: Sequence[bool], at: int, whence: int) -> int | None:
    """Return what lseek(2) answers; data: of each byte whether it is data."""
    if not 0 <= at < len(data):
        return None
    for offset in range(at, len(data)):
        if data[offset] == (whence == os.SEEK_DATA):
            return offset
    return None if whence == os.SEEK_DATA else len(data)


def edges(data: Sequence[bool]) -> set[int]:
    """Return the offsets around each place where data begin or end."""
    turns = [at for at in range(1, len(data)) if data[at] != data[at - 1]]
    return {at + by for at in (0, *turns, len(data)) for by in (-1, 0, 1)}


sizes_of_windows = st.sampled_from([1, 2, 4, 32, 8192])


@given(stated_chains(), st.sampled_from([9, 9, 10, 12]), sizes_of_windows)
def test_it_answers_as_lseek_at_and_around_each_edge(stated: StatedChain, bits: int, blocks: int) -> None:
    """All data of stated files are other than zero, so each zero is a hole."""
    data = [byte != 0 for byte in stated.contents()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(granularity, "_MOST_BLOCKS", blocks)
        image = raw_image(stated.chain, bits)
        for at in edges(data):
            for whence in (os.SEEK_DATA, os.SEEK_HOLE):
                assert seek(image, at, whence) == wanted(data, at, whence)


@given(stated_chains(), st.integers(1, 40), sizes_of_windows)
def test_a_range_that_is_resolved_in_one_go_has_the_same_data(stated: StatedChain, most: int, blocks: int) -> None:
    data = np.array([byte != 0 for byte in stated.contents()])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(granularity, "_MOST_BLOCKS", blocks)
        image = raw_image(stated.chain, 9)
        for at in {0, image.size // 3, image.size - 1} & set(range(image.size)):
            region = image.ahead(at, most)
            assert region is not None
            assert region.pieces is not None
            found = np.zeros(region.stop - region.start, bool)
            for start, stop in zip(region.pieces.out.tolist(), region.pieces.stop.tolist(), strict=True):
                found[start:stop] = True
            assert len(region.pieces.out) <= most
            assert region.start <= at
            assert (found == data[region.start : region.stop]).all()
            assert at < region.stop or len(region.pieces.out) == most
        assert image.ahead(image.size, most) is None
        with pytest.raises(UsageError, match="most=0"):
            image.ahead(0, 0)


@given(stated_chains(), sizes_of_windows)
def test_no_byte_but_zeros_lies_in_a_hole(stated: StatedChain, blocks: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(granularity, "_MOST_BLOCKS", blocks)
        image = raw_image(stated.chain, 9)
        copied = bytearray(image.size)
        for start, stop in walk(image):
            copied[start:stop] = image.read_at(start, stop - start)
        assert copied == stated.contents()


@given(stated_chains(), st.sampled_from([9, 10, 12]), sizes_of_windows)
def test_the_windows_that_are_full_are_data_all_through_and_no_others_are(
    stated: StatedChain, bits: int, blocks: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(granularity, "_MOST_BLOCKS", blocks)
        summary = Allocation(stated.chain, None, Granularity(bits, bits)).summarize()
    kinds = stated.kinds()
    is_full: list[bool] = []
    at = 0
    while at < len(kinds) * GRAIN:
        at, stop = summary.windows.range(len(is_full))
        is_full.append({*kinds[at // GRAIN : stop // GRAIN]} == {Kind.DATA})
        at = stop
    assert summary.full.contains(np.arange(len(is_full))).tolist() == is_full
    assert summary.full.rows.tolist() == Ranges.union(summary.full.rows).rows.tolist()


@given(st.lists(st.integers(1, 3), max_size=6), st.integers(0, 30))
def test_the_first_number_outside_of_ranges_is_in_none(lengths: list[int], value: int) -> None:
    turns = np.cumsum(lengths[: len(lengths) // 2 * 2], dtype=np.int64)
    inside = {number for start, stop in turns.reshape(-1, 2).tolist() for number in range(start, stop)}
    assert Ranges(turns).first_outside(value) == min(set(range(value, 60)) - inside)


@dataclass
class Wide:
    """A layer of any size that holds `runs` of `kind`. asked: each range that it was asked for."""

    size: int
    runs: NDArray[np.int64]
    kind: Kind = Kind.DATA
    asked: list[Range] = field(default_factory=list)
    has_backing: bool = True
    compressed: None = None
    nbytes: int = 0

    def __post_init__(self) -> None:
        starts, stops = self.runs[:, 0], self.runs[:, 1]
        offsets = np.concatenate([[0], stops, starts])
        order = offsets.argsort(kind="stable")
        kinds = np.concatenate([[0], np.zeros(len(stops)), np.full(len(starts), self.kind)]).astype(np.uint8)
        keep = np.append(offsets[order][1:] != offsets[order][:-1], True) & (offsets[order] < self.size)
        start, kind = offsets[order][keep].astype(np.int64), kinds[order][keep]
        # Each run somewhere else in the file, so that none goes on where the one before ends.
        host = np.where(kind == Kind.UNALLOCATED, 0, np.arange(len(start)) * 3 * CLUSTER)
        file = np.where(kind == Kind.UNALLOCATED, NO_FILE, 0).astype(np.int16)
        self._whole = Extents(start, kind, file, host.astype(np.int64), self.size)
        self.load = Load(self.populated(), UNLIMITED)

    @property
    def virtual_size(self) -> int:
        return self.size

    @property
    def state(self) -> FlatState:
        return FlatState(self.size)

    @property
    def identity(self) -> Hashable:
        return id(self)

    def extents(self, start: int, end: int) -> Extents:
        self.asked.append((start, end))
        return self._whole.between(start, end)

    details = extents

    def populated(self) -> NDArray[np.int64]:
        return Ranges.union(self.runs).rows

    def image(self) -> Image:
        """Return the raw view, with what was asked for it forgotten."""
        file = cast(HostFile, StatedFile(0))
        opened = raw_image(Chain((Member("0", file, (file,), Metadata(RAW, self.size), self),)))
        self.asked.clear()
        return opened


def runs_of(*rows: Range) -> NDArray[np.int64]:
    return np.array(rows, np.int64).reshape(-1, 2)


@pytest.mark.parametrize("size", [CLUSTER, 64 * TIB, 64 * TIB - 512])
def test_nothing_is_asked_of_an_empty_disk(size: int) -> None:
    layer = Wide(size, runs_of())
    image = layer.image()
    for at in (0, 1, size // 2, size - 1):
        assert seek(image, at, os.SEEK_DATA) is None
        assert seek(image, at, os.SEEK_HOLE) == at
    assert layer.asked == []


def test_nothing_is_asked_of_a_disk_that_is_data_all_through() -> None:
    layer = Wide(64 * TIB, runs_of((0, 64 * TIB)))
    image = layer.image()
    for at in (0, 1, 32 * TIB, 64 * TIB - 1):
        assert seek(image, at, os.SEEK_DATA) == at
        assert seek(image, at, os.SEEK_HOLE) == 64 * TIB
    assert layer.asked == []


def test_one_window_is_asked_for_if_data_are_only_at_the_end() -> None:
    layer = Wide(64 * TIB, runs_of((64 * TIB - 512, 64 * TIB)))
    assert list(walk(layer.image())) == [(64 * TIB - 512, 64 * TIB)]
    assert layer.asked == [(64 * TIB - WINDOW, 64 * TIB)]


def test_one_window_is_asked_for_if_a_hole_is_only_at_the_end() -> None:
    layer = Wide(64 * TIB, runs_of((0, 64 * TIB - 512)))
    assert list(walk(layer.image())) == [(0, 64 * TIB - 512)]
    assert layer.asked == [(64 * TIB - WINDOW, 64 * TIB)]


def test_zeros_of_any_number_are_not_looked_through_for_data() -> None:
    """Each of them has an entry in a table: an image of a disk that was discarded."""
    zeros = np.arange(0, 64 << 30, 2 * CLUSTER)
    layer = Wide(64 << 30, np.stack([zeros, zeros + CLUSTER], 1), Kind.ZERO)
    assert list(walk(layer.image())) == []
    assert layer.asked == []


def test_an_answer_takes_two_windows_at_most_wherever_it_lies() -> None:
    """Windows without data, full ones, and those of which a part at either end is data, in turns."""
    rows: list[Range] = []
    for number, kind in enumerate("--fffb--e-ffb-eff-bbeeff--f-e"):
        start = number * WINDOW
        match kind:
            case "f":
                rows.append((start, start + WINDOW))
            case "b":
                rows.append((start, start + 3 * CLUSTER))
            case "e":
                rows.append((start + WINDOW - CLUSTER - 512, start + WINDOW))
    layer = Wide(40 * WINDOW, Ranges.union(runs_of(*rows)).rows)
    data = layer.populated()
    for at in {edge + by for edge in data.reshape(-1).tolist() for by in (-1, 0, 1, -WINDOW, WINDOW)}:
        if 0 <= at < layer.size:
            image = layer.image()  # which has kept nothing yet
            inside = Ranges.of(data)
            assert seek(image, at, os.SEEK_DATA) == inside.first_within(at, layer.size)
            assert len(layer.asked) <= 2
            assert seek(layer.image(), at, os.SEEK_HOLE) == inside.first_outside(at)
            assert len(layer.asked) <= 2


def every_fourth_cluster(clusters: int) -> NDArray[np.int64]:
    starts = np.arange(0, clusters * CLUSTER, 4 * CLUSTER) + CLUSTER
    return np.stack([starts, starts + CLUSTER + 512], 1)


def test_a_walk_asks_for_each_window_once() -> None:
    windows = 4
    layer = Wide(windows * WINDOW, every_fourth_cluster(windows << 13))
    assert list(walk(layer.image())) == [(start, stop) for start, stop in layer.runs.tolist()]
    assert len(layer.asked) == windows


def test_walks_at_the_same_time_keep_what_each_needs() -> None:
    windows = 16
    layer = Wide(windows * WINDOW, every_fourth_cluster(windows << 13))
    image = layer.image()
    walks = [walk(image, start) for start in range(0, layer.size, WINDOW)]
    for _ in range(300):
        assert all(next(each) for each in walks)
    assert len(layer.asked) == windows


def test_a_walk_of_what_reads_have_resolved_asks_for_nothing() -> None:
    layer = Wide(WINDOW, every_fourth_cluster(1 << 13))
    image = layer.image()
    image.read_at(0, 1)
    layer.asked.clear()
    assert len(list(walk(image))) == len(layer.runs)
    assert layer.asked == []


def test_without_waiting_it_answers_where_the_window_is_known_and_else_resolves_nothing() -> None:
    layer = Wide(5 * WINDOW, runs_of((WINDOW, 2 * WINDOW), (3 * WINDOW + CLUSTER, 3 * WINDOW + 2 * CLUSTER)))
    image = layer.image()
    assert image.seek(0, os.SEEK_DATA, wait=False) == image.seek(WINDOW, os.SEEK_DATA, wait=False) == WINDOW
    assert image.seek(WINDOW, os.SEEK_HOLE, wait=False) == 2 * WINDOW
    for at, whence in [(2 * WINDOW, os.SEEK_DATA), (3 * WINDOW, os.SEEK_HOLE)]:
        with pytest.raises(WouldBlock):
            image.seek(at, whence, wait=False)
    assert layer.asked == []
    image.read_at(3 * WINDOW, 1)
    assert image.seek(2 * WINDOW, os.SEEK_DATA, wait=False) == 3 * WINDOW + CLUSTER
    assert image.seek(3 * WINDOW + CLUSTER, os.SEEK_HOLE, wait=False) == 3 * WINDOW + 2 * CLUSTER


@pytest.mark.parametrize("count", [1, 2, 15, 16, 17, 18, 47, 48, 49, 50, 1000])
def test_a_run_of_data_is_one_however_many_places_of_a_file_it_comes_from(count: int) -> None:
    starts = np.arange(3, 3 + count) * CLUSTER
    own = np.stack([starts, starts + CLUSTER], 1)
    stop = int(own[-1, 1])
    rows = runs_of((0, CLUSTER), *own.tolist(), (stop + 512, stop + CLUSTER))
    layer = Wide(stop + 2 * CLUSTER, rows)
    image = layer.image()
    for at in {3 * CLUSTER, stop - 1, *starts.tolist()}:
        assert image.seek(at, os.SEEK_HOLE) == stop
    assert list(walk(image)) == [(0, CLUSTER), (3 * CLUSTER, stop), (stop + 512, stop + CLUSTER)]


def test_packed_data_are_data() -> None:
    layer = Wide(MIB, runs_of((CLUSTER, 2 * CLUSTER), (2 * CLUSTER, 3 * CLUSTER), (MIB - 512, MIB)), Kind.COMPRESSED)
    assert list(walk(layer.image())) == [(CLUSTER, 3 * CLUSTER), (MIB - 512, MIB)]


@given(stated_chains((1, 2)))
def test_a_synthetic_qcow2_is_one_piece_of_data(stated: StatedChain) -> None:
    chain = stated.chain
    image = Image(chain, Qcow2Output(ResolvedSpec(chain, None, 12)), "")
    for at in (0, 1, 4096, image.size - 1):
        assert (image.seek(at, os.SEEK_DATA), image.seek(at, os.SEEK_HOLE)) == (at, image.size)
    for at in (-1, image.size):
        assert seek(image, at, os.SEEK_DATA) is seek(image, at, os.SEEK_HOLE) is None


SEEKS: list[Callable[[vdifs.Image], int]] = [
    lambda image: image.seek(0, os.SEEK_DATA),
    lambda image: image.seek(0, os.SEEK_HOLE),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A raw image with data in the middle, and an overlay of it that holds nothing."""
    with make_raw(tmp_path / "base.raw", b"").open("r+b") as file:
        file.seek(128 * KIB)
        file.write(b"d" * CLUSTER)
        file.truncate(MIB)
    write_blank(tmp_path / "top.qcow2", "base.raw", "raw")
    return tmp_path


def test_what_lies_outside_is_enxio_and_another_whence_einval(folder: Path) -> None:
    with vdifs.open(folder / "top.qcow2", view="raw") as image:
        for at in (-1, MIB, MIB + 1, 1 << 80):
            for whence in (os.SEEK_DATA, os.SEEK_HOLE):
                with refused(vdifs.UsageError, errno.ENXIO, "not within the 1048576 bytes"):
                    image.seek(at, whence)
        with refused(vdifs.UsageError, errno.ENXIO, "no data follow"):
            image.seek(192 * KIB, os.SEEK_DATA)
        for whence in (os.SEEK_SET, os.SEEK_CUR, os.SEEK_END, 5, -1):
            with refused(vdifs.UsageError, errno.EINVAL, "whence="):
                image.seek(-1, whence)


@pytest.mark.parametrize("view", ["raw", "qcow2"])
@pytest.mark.parametrize("name", ["base.raw", "top.qcow2"])
@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("ask", SEEKS)
def test_a_source_that_has_changed_is_told(
    folder: Path, view: View, name: str, kept: bool, ask: Callable[[vdifs.Image], int]
) -> None:
    with vdifs.open(folder / "top.qcow2", view=view) as image:
        if kept:
            ask(image)
        with (folder / name).open("r+b") as file:
            file.truncate(2 * MIB)
        with pytest.raises(vdifs.SourceChangedError):
            ask(image)


@pytest.mark.parametrize("changed", [True, False])
def test_tables_that_are_damaged_since_a_source_was_written_are_no_damage(
    folder: Path, monkeypatch: pytest.MonkeyPatch, changed: bool
) -> None:
    def torn(*_: object) -> Extents:
        if changed:
            os.truncate(folder / "base.raw", 2 * MIB)
        raise vdifs.FormatError("the L2 table lies beyond the end of the file")

    with vdifs.open(folder / "top.qcow2", view="raw") as image:
        monkeypatch.setattr(Chain, "extents", torn)
        with pytest.raises(vdifs.SourceChangedError if changed else vdifs.FormatError):
            image.seek(0, os.SEEK_DATA)
