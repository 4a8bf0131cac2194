"""docs/qcow2.md, 'L1 and L2', on data files: offset 0 is a place there, and the name is under the policy."""

import os
from pathlib import Path

import pytest

import vdifs
from tests.support import oracle
from tests.support.agreement import both_read, both_refuse, contents, format_error, qemu_contents, refused
from tests.support.builder import CLUSTER, make, pattern
from tests.support.image_file import Image
from tests.support.qcow2 import COMPRESSED, COPIED, DATA_FILE_NAME, ZERO
from tests.support.units import MIB

WRITTEN = pattern(1) + pattern(2) + bytes(MIB - 2 * CLUSTER)


@pytest.fixture
def image(tmp_path: Path) -> Image:
    """Clusters 0 and 1 hold 1 and 2, in a file beside."""
    commands = ("write -P 1 0 64k", "write -P 2 64k 64k")
    return make(tmp_path / "image.qcow2", MIB, *commands, data_file=tmp_path / "image.data")


def name_data_file(image: Image, name: str | None) -> Image:
    """State another name for the data file."""
    extensions = [] if name is None else [(DATA_FILE_NAME, name.encode())]
    return image.extensions(*extensions)


def test_external_data_file_holds_the_data(image: Image, tmp_path: Path) -> None:
    assert both_read(image) == WRITTEN
    (tmp_path / "image.data").write_bytes(pattern(9, MIB))
    assert both_read(image) == pattern(9, 2 * CLUSTER) + bytes(MIB - 2 * CLUSTER)


def test_external_data_file_name_ends_at_a_nul_as_for_qemu(image: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(image.path.parent)  # QEMU 7.2 looks for the name from there
    assert both_read(name_data_file(image, "image.data\0.old")) == WRITTEN
    both_refuse(name_data_file(image, "\0image.data"), "external data file, but does not name one")


def test_external_data_file_offset_0_with_copied_is_a_real_place(image: Image) -> None:
    assert image.l2_entry(0) == COPIED
    assert both_read(image) == WRITTEN


def test_external_data_file_offset_0_without_copied_is_unallocated(image: Image) -> None:
    assert both_read(image.set_l2(0, 0)) == bytes(CLUSTER) + WRITTEN[CLUSTER:]


def test_external_data_file_may_have_zero_clusters(image: Image) -> None:
    assert both_read(image.set_l2(0, COPIED | ZERO)) == bytes(CLUSTER) + WRITTEN[CLUSTER:]


def test_external_raw_data_file_is_read_through_the_tables(tmp_path: Path) -> None:
    image = make(
        tmp_path / "image.qcow2", MIB, "write -P 1 0 64k", data_file=tmp_path / "image.data", data_file_raw="on"
    )
    assert image.get("autoclear_features") & 2
    assert both_read(image) == pattern(1) + bytes(MIB - CLUSTER)


def test_external_data_file_with_extended_l2_entries(tmp_path: Path) -> None:
    image = make(tmp_path / "image.qcow2", MIB, "write -P 1 2k 2k", data_file=tmp_path / "image.data", extended_l2="on")
    assert both_read(image)[: 3 << 11] == bytes(2048) + pattern(1, 2048) + bytes(2048)


def test_external_data_file_of_a_backing_file(tmp_path: Path, image: Image) -> None:
    top = make(tmp_path / "top.qcow2", MIB, "write -P 7 64k 64k", backing=("image.qcow2", "qcow2"))
    assert both_read(top) == pattern(1) + pattern(7) + WRITTEN[2 * CLUSTER :]


def test_external_data_file_without_a_name_is_refused(image: Image) -> None:
    both_refuse(name_data_file(image, None), "keeps its data in an external data file, but does not name one")


def test_external_data_file_that_is_missing_is_refused(image: Image, tmp_path: Path) -> None:
    (tmp_path / "image.data").unlink()
    both_refuse(image, "its data file cannot be opened: .*image.data: No such file", kind=vdifs.ChainError)


def test_external_data_file_name_resolves_against_the_folder_of_the_image(image: Image, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "image.data").rename(tmp_path / "sub" / "other.data")
    assert contents(name_data_file(image, "sub/other.data")) == WRITTEN


def test_external_data_file_name_resolves_against_the_working_directory_in_qemu(image: Image, tmp_path: Path) -> None:
    """QEMU finds a relative name only when it runs in that folder; then both read the same."""
    name_data_file(image, "image.data")
    assert qemu_contents(image) is None
    oracle.qemu_img("convert", "-f", "qcow2", "-O", "raw", "image.qcow2", "out.raw", cwd=tmp_path)
    assert contents(image) == (tmp_path / "out.raw").read_bytes() == WRITTEN


@pytest.mark.parametrize("name", ["/etc/passwd", "../../../../etc/passwd", "nbd:localhost:1", "json:{}", "a\tb"])
def test_external_data_file_name_is_under_the_policy(image: Image, name: str) -> None:
    with refused(vdifs.PolicyError, 13, "image.qcow2: it names"):
        contents(name_data_file(image, name))


def test_external_data_file_that_is_a_link_is_not_followed(image: Image, tmp_path: Path) -> None:
    (tmp_path / "image.data").rename(tmp_path / "real.data")
    (tmp_path / "image.data").symlink_to("real.data")
    with refused(vdifs.ChainError, 40, "its data file cannot be opened: .*symbolic links are not followed"):
        contents(image)


def test_external_data_file_has_no_compressed_clusters(image: Image) -> None:
    image.set_l2(0, COMPRESSED | 5 * CLUSTER)
    with format_error("a compressed cluster, which an image with an external data file cannot have"):
        contents(image)
    assert qemu_contents(image) is None


def test_external_data_file_has_every_cluster_at_its_guest_offset(image: Image) -> None:
    """QEMU: the host offset must equal the guest offset, since others may read the file as raw."""
    image.set_l2(0, CLUSTER | COPIED).set_l2(1, COPIED)
    assert qemu_contents(image) is None
    with format_error("guest offset"):
        contents(image)


def test_external_data_file_that_ends_before_a_cluster_is_refused(image: Image, tmp_path: Path) -> None:
    os.truncate(tmp_path / "image.data", CLUSTER)
    with format_error("image.data: the data of guest offset 0x.* beyond the end of the file at 0x10000"):
        contents(image)


def test_external_data_file_may_be_the_image_itself(image: Image) -> None:
    """It ends nowhere but in its own header, which both read as the disk."""
    image.io("write -P 1 0 64k").extensions((DATA_FILE_NAME, str(image.path).encode())).set_l2(1, 0)
    assert both_read(image)[:4] == b"QFI\xfb"


def test_a_change_of_the_data_file_alone_is_a_change(image: Image, tmp_path: Path) -> None:
    with vdifs.open(image.path, view="raw") as opened:
        etag = opened.etag
        opened.read_at(0, 1)
        (tmp_path / "image.data").write_bytes(pattern(9, MIB))
        with refused(vdifs.SourceChangedError, 116, "image.data: changed since it was opened"):
            opened.read_at(0, 1)
    with vdifs.open(image.path, view="raw") as opened:
        assert opened.etag != etag
