"""A format that has nothing to tell but the size of its disk: what all formats share serves it as far as that goes."""

import errno
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

import vdifs
from tests.support import boxed, oracle, surgery
from tests.support.agreement import refused
from tests.support.boxed import BOXED, START
from tests.support.builder import make
from tests.support.stated import rows
from vdifs.catalog.catalog import Catalog
from vdifs.chain.policy import Policy
from vdifs.errors import ChainError
from vdifs.extents import Kind
from vdifs.formats.flat_layer import FlatLayer
from vdifs.formats.image_format import Front
from vdifs.formats.layer import Layer
from vdifs.formats.registry import FORMATS, probed
from vdifs.report.audit import audit
from vdifs.storage.host_file import HostFile

BLOCK = 64 << 10
DISK = bytes([1]) * BLOCK + bytes(6 * BLOCK) + bytes([2]) * BLOCK


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FORMATS, BOXED.name, BOXED)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A base in that format, and an overlay that names it and states no format."""
    boxed.write(tmp_path / "base.boxed", DISK)
    make(tmp_path / "top.qcow2", len(DISK), f"write -P 3 {BLOCK} {BLOCK}", backing=("base.boxed", "raw"))
    surgery.forget_backing_format(tmp_path / "top.qcow2")
    return tmp_path


@pytest.fixture
def file(source: Path) -> Iterator[HostFile]:
    with closing(opened(source / "base.boxed")) as file:
        yield file


def opened(path: Path) -> HostFile:
    return HostFile.open(path.name, lambda flags: os.open(path, flags))


def layer_of(file: HostFile) -> Layer:
    return BOXED.read(Front(file)).layer(file, [file], None)


def test_a_disk_that_begins_within_its_file_is_read_from_there(source: Path, file: HostFile) -> None:
    layer = layer_of(file)
    assert layer.virtual_size == len(DISK)
    assert layer.populated().tolist() == [[0, BLOCK], [7 * BLOCK, 8 * BLOCK]]
    assert [(start, stop, kind, host) for start, stop, kind, _, host in rows(layer.extents(0, len(DISK)))] == [
        (0, BLOCK, Kind.DATA, START),
        (BLOCK, 7 * BLOCK, Kind.ZERO, 0),
        (7 * BLOCK, 8 * BLOCK, Kind.DATA, START + 7 * BLOCK),
    ]
    with vdifs.open(source / "base.boxed", view="raw") as image:
        assert b"".join(image.stream()) == DISK


def test_a_disk_that_ends_before_its_file_holds_nothing_behind_its_end(file: HostFile) -> None:
    """As with a footer; its end may lie within data, and within a hole."""
    for size in (BLOCK // 2, 3 * BLOCK):
        layer = FlatLayer(file, START, size)
        assert (layer.virtual_size, layer.populated().tolist()) == (size, [[0, min(size, BLOCK)]])
    behind = FlatLayer(file, START + 2 * BLOCK, BLOCK)
    assert (behind.virtual_size, behind.populated().tolist()) == (BLOCK, [])


def test_its_full_image_holds_the_disk_and_is_sound(source: Path, tmp_path: Path) -> None:
    with vdifs.open(source / "top.qcow2") as image:
        (tmp_path / "full.qcow2").write_bytes(b"".join(image.stream()))
    oracle.check(tmp_path / "full.qcow2")
    wanted = DISK[:BLOCK] + bytes([3]) * BLOCK + DISK[2 * BLOCK :]
    assert oracle.materialize(tmp_path / "full.qcow2", tmp_path / "disk.raw").read_bytes() == wanted


def test_it_has_no_snapshots_and_says_so_by_name(source: Path, file: HostFile) -> None:
    with refused(ChainError, errno.ENOENT, r"base\.boxed: it has no snapshot 's': choose one .*\(none\)"):
        vdifs.open(source / "base.boxed", snapshot="s")
    metadata = BOXED.read(Front(file))
    assert (metadata.labelled_snapshots(file), metadata.labels_and_sizes(file)) == ((), ())
    assert len(metadata.snapshot_states(file)) == 0
    with pytest.raises(ChainError):
        metadata.describe(file, "s")


def test_it_is_told_of_under_its_name_and_has_no_problems(source: Path) -> None:
    with closing(Catalog(os.fspath(source))) as catalog:
        catalog.scan()
        assert {path: entry.format for path, entry in catalog.entries.items()} == {
            "base.boxed": "boxed",
            "top.qcow2": "qcow2",
        }
        assert catalog.overlays("base.boxed") == ("top.qcow2",)
    with Policy(os.fspath(source)) as policy:
        assert audit(policy, "base.boxed") == []


def test_a_file_is_asked_for_the_marks_of_all_formats(source: Path, file: HostFile) -> None:
    assert probed(Front(file)) is BOXED
    for name, wanted in (("top.qcow2", "qcow2"), ("plain", None)):
        (source / "plain").write_bytes(DISK)
        with closing(opened(source / name)) as other:
            found = probed(Front(other))
            assert (None if found is None else found.name) == wanted
