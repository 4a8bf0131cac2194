"""docs/qcow2.md, 'Backing files'."""

import os
import shutil
from pathlib import Path

import pytest

import vdifs
from tests.support import oracle
from tests.support.agreement import both_read, both_refuse, contents, qemu_contents, refused
from tests.support.builder import CLUSTER, make, make_raw, pattern, rebase
from tests.support.image_file import Image
from tests.support.proofs import prove_info
from tests.support.qcow2 import BACKING_FORMAT, COPIED
from tests.support.units import KIB, MIB

ONE, BELOW = pattern(1), pattern(0xBB)


@pytest.fixture
def base(tmp_path: Path) -> Image:
    return make(tmp_path / "base.qcow2", MIB, "write -P 0xbb 0 1M")


def overlay(folder: Path, backing: str, backing_format: str = "qcow2", size: int = MIB, name: str = "top") -> Image:
    """Make an overlay that holds 1 in its second cluster, if it is that long."""
    image = make(folder / f"{name}.qcow2", size, backing=(backing, backing_format))
    return image.io("write -P 1 64k 64k") if size >= 2 * CLUSTER else image


# Unallocated: look in the backing file


def test_unallocated_is_looked_up_in_the_backing_file(tmp_path: Path, base: Image) -> None:
    assert both_read(overlay(tmp_path, "base.qcow2")) == BELOW + ONE + pattern(0xBB, MIB - 2 * CLUSTER)


def test_beyond_the_end_of_the_backing_file_there_are_zeros(tmp_path: Path, base: Image) -> None:
    top = overlay(tmp_path, "base.qcow2", size=2 * MIB)
    assert both_read(top) == BELOW + ONE + pattern(0xBB, MIB - 2 * CLUSTER) + bytes(MIB)


def test_beyond_the_end_of_the_backing_file_nothing_further_down_shows(tmp_path: Path, base: Image) -> None:
    """A base of 1 MiB <- middle of 192 KiB <- top of 1 MiB."""
    overlay(tmp_path, "base.qcow2", size=3 * CLUSTER, name="middle")
    top = make(tmp_path / "top.qcow2", MIB, backing=("middle.qcow2", "qcow2"))
    assert both_read(top) == BELOW + ONE + BELOW + bytes(MIB - 3 * CLUSTER)


def test_a_delta_says_zeros_where_its_chain_was_shrunk_in_the_middle(tmp_path: Path, base: Image) -> None:
    overlay(tmp_path, "base.qcow2", size=3 * CLUSTER, name="middle")
    top = make(tmp_path / "top.qcow2", MIB, backing=("middle.qcow2", "qcow2"))
    wanted = both_read(top)
    delta = Image(tmp_path / "delta.qcow2")
    with vdifs.open(top.path, base=base.path) as opened:
        delta.path.write_bytes(b"".join(opened.stream()))
    assert both_read(delta) == wanted


@pytest.mark.parametrize("length", [0, 1, 511, 512, 1000, CLUSTER + 1])
def test_a_raw_backing_file_of_odd_length_is_zero_padded(tmp_path: Path, length: int) -> None:
    make_raw(tmp_path / "base.raw", pattern(0xBB, length))
    top = make(tmp_path / "top.qcow2", MIB, backing=("base.raw", "raw"))
    assert both_read(top) == pattern(0xBB, length).ljust(MIB, b"\0")


def test_a_longer_backing_file_is_cut_at_the_size_of_the_overlay(tmp_path: Path, base: Image) -> None:
    top = overlay(tmp_path, "base.qcow2", size=CLUSTER + 1024)
    assert both_read(top) == pattern(0xBB, CLUSTER + 1024)


def test_a_chain_of_three_is_looked_up_from_the_top_down(tmp_path: Path, base: Image) -> None:
    overlay(tmp_path, "base.qcow2", name="middle")
    top = make(tmp_path / "top.qcow2", MIB, "write -P 2 0 64k", backing=("middle.qcow2", "qcow2"))
    assert both_read(top) == pattern(2) + ONE + pattern(0xBB, MIB - 2 * CLUSTER)


def test_a_zero_cluster_hides_the_backing_file(tmp_path: Path, base: Image) -> None:
    top = overlay(tmp_path, "base.qcow2").io("write -z 0 64k")
    assert both_read(top)[: 2 * CLUSTER] == bytes(CLUSTER) + ONE


def test_clusters_of_other_sizes_below_are_cut_to_size(tmp_path: Path) -> None:
    make(tmp_path / "base.qcow2", MIB, "write -P 0xbb 0 1M", cluster_size=2 * MIB)
    make(tmp_path / "middle.qcow2", MIB, "write -P 1 5k 1k", backing=("base.qcow2", "qcow2"), cluster_size=512)
    top = make(tmp_path / "top.qcow2", MIB, "write -P 2 64k 64k", backing=("middle.qcow2", "qcow2"))
    found = both_read(top)
    assert found[: 7 * KIB] == pattern(0xBB, 5 * KIB) + pattern(1, KIB) + pattern(0xBB, KIB)
    assert found[CLUSTER : 2 * CLUSTER] == pattern(2)


# Names


def test_a_relative_name_resolves_against_the_folder_of_the_overlay(
    tmp_path: Path, base: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "vms").mkdir()
    (tmp_path / "elsewhere").mkdir()
    shutil.copy(base.path, tmp_path / "vms" / "base.qcow2")
    make(tmp_path / "elsewhere" / "base.qcow2", MIB, "write -P 0xee 0 1M")
    top = overlay(tmp_path / "vms", "base.qcow2")
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert both_read(top)[:CLUSTER] == BELOW
    assert contents(Path("../vms/top.qcow2"))[:CLUSTER] == BELOW


def test_a_relative_name_may_lead_up_within_the_trusted_directories(tmp_path: Path, base: Image) -> None:
    (tmp_path / "vms").mkdir()
    top = overlay(tmp_path / "vms", "../base.qcow2")
    assert contents(top, trusted=[tmp_path]) == qemu_contents(top)


def test_an_absolute_name_in_the_own_folder_is_followed(tmp_path: Path, base: Image) -> None:
    assert both_read(overlay(tmp_path, str(base.path)))[:CLUSTER] == BELOW


def test_a_name_with_a_colon_behind_a_slash_is_a_file(tmp_path: Path, base: Image) -> None:
    shutil.copy(base.path, tmp_path / "a:b.qcow2")
    assert both_read(overlay(tmp_path, "./a:b.qcow2"))[:CLUSTER] == BELOW


def test_a_name_that_is_no_utf_8_is_followed(tmp_path: Path, base: Image) -> None:
    name = b"gr\xf6\xdfe.qcow2"
    shutil.copy(base.path, os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
    top = make(tmp_path / "top.qcow2", MIB).extensions((BACKING_FORMAT, b"qcow2"))
    top.write(1024, name).set(backing_file_offset=1024, backing_file_size=len(name))
    assert both_read(top)[:CLUSTER] == BELOW


def test_dots_after_a_link_are_followed_as_by_qemu_or_refused(tmp_path: Path, base: Image) -> None:
    """QEMU opens `link/../base.qcow2` through the link, which is not the base in the own folder."""
    (tmp_path / "elsewhere" / "inner").mkdir(parents=True)
    make(tmp_path / "elsewhere" / "base.qcow2", MIB, "write -P 0xee 0 1M")
    (tmp_path / "link").symlink_to("elsewhere/inner")
    top = overlay(tmp_path, "link/../base.qcow2")
    try:
        found = contents(top)
    except vdifs.VdifsError:
        return
    assert found == qemu_contents(top)


# Formats


def test_raw_is_never_probed(tmp_path: Path, base: Image) -> None:
    """Even though the file starts with the qcow2 magic."""
    top = make(tmp_path / "top.qcow2", MIB, backing=("base.qcow2", "raw"))
    assert both_read(top) == base.path.read_bytes()[:MIB]


def test_qcow2_stated_for_a_raw_file_is_refused(tmp_path: Path) -> None:
    make_raw(tmp_path / "base.raw", pattern(0xBB, MIB))
    top = rebase(make(tmp_path / "top.qcow2", MIB), "base.raw", "qcow2")
    both_refuse(top, "base.raw: not a qcow2, VHD, VHDX, VMDK or VDI image")


def test_no_stated_format_and_a_valid_qcow2_is_read(tmp_path: Path, base: Image) -> None:
    top = rebase(make(tmp_path / "top.qcow2", MIB), "base.qcow2", None)
    assert both_read(top) == pattern(0xBB, MIB)


def test_no_stated_format_and_a_damaged_qcow2_is_refused(tmp_path: Path, base: Image) -> None:
    base.set(cluster_bits=8)
    both_refuse(rebase(make(tmp_path / "top.qcow2", MIB), "base.qcow2", None), "base.qcow2: cluster_bits is 8")


@pytest.mark.parametrize("stated", ["qed", "luks", "qcow", "QCOW2", "raw\x01"])
def test_other_formats_are_refused_by_their_name(tmp_path: Path, base: Image, stated: str) -> None:
    top = rebase(make(tmp_path / "top.qcow2", MIB), "base.qcow2", stated)
    with refused(vdifs.UnsupportedError, 95, "base.qcow2: its overlay states the format '"):
        contents(top)


@pytest.mark.parametrize("rest", ["\0", "\0.qcow2", "\0/../.."])
def test_a_nul_ends_a_name_as_for_qemu(rest: str, tmp_path: Path, base: Image) -> None:
    """All of them are C strings there: the name of the backing file, that of its format; an empty one is none."""
    top = rebase(make(tmp_path / "top.qcow2", MIB), f"base.qcow2{rest}", f"qcow2{rest}")
    assert both_read(top) == pattern(0xBB, MIB)
    prove_info(top.path)
    assert both_read(rebase(top, "base.qcow2", f"raw{rest}")) == base.path.read_bytes()[:MIB].ljust(MIB, b"\0")
    assert both_read(rebase(top, "base.qcow2", rest)) == pattern(0xBB, MIB)
    assert both_read(rebase(top, f"{rest}base.qcow2", "qcow2")) == bytes(MIB)


def test_an_empty_format_states_none(tmp_path: Path, base: Image) -> None:
    assert both_read(rebase(make(tmp_path / "top.qcow2", MIB), "base.qcow2", "")) == pattern(0xBB, MIB)


# Broken chains


def test_a_missing_backing_file_is_named_with_who_names_it(tmp_path: Path, base: Image) -> None:
    top = overlay(tmp_path, "base.qcow2")
    base.path.unlink()
    match = "top.qcow2: its backing file cannot be opened: .*base.qcow2: No such file or directory"
    both_refuse(top, match, kind=vdifs.ChainError)


def test_a_damaged_backing_file_is_refused_by_its_own_name(tmp_path: Path, base: Image) -> None:
    top = overlay(tmp_path, "base.qcow2")
    base.set_l2(3, 0x12345600 | COPIED)
    with refused(vdifs.FormatError, 5, "base.qcow2: at guest offset 0x0: L2 entry 3 of the range points to 0x12345600"):
        contents(top)
    assert qemu_contents(top) is None


def test_an_encrypted_backing_file_is_refused_by_name(tmp_path: Path, base: Image) -> None:
    top = overlay(tmp_path, "base.qcow2")
    base.set(crypt_method=1)
    both_refuse(top, r"base.qcow2: the image is encrypted \(AES\)", kind=vdifs.UnsupportedError, code=95)


@pytest.mark.parametrize("make_it", [Path.mkdir, os.mkfifo], ids=["a folder", "a fifo"])
def test_a_backing_file_that_is_no_regular_file_is_refused_at_once(tmp_path: Path, make_it: object) -> None:
    assert callable(make_it)
    make_it(tmp_path / "base")
    top = rebase(make(tmp_path / "top.qcow2", MIB), "base", "raw")
    with refused(vdifs.ChainError, 5, "top.qcow2: its backing file cannot be opened: .*not a regular file"):
        contents(top)


def test_an_ancestor_that_is_a_link_is_not_followed(tmp_path: Path, base: Image) -> None:
    (tmp_path / "link.qcow2").symlink_to("base.qcow2")
    top = overlay(tmp_path, "link.qcow2")
    assert qemu_contents(top) is not None
    with refused(vdifs.ChainError, 40, "its backing file cannot be opened: .*symbolic links are not followed"):
        contents(top)


def test_a_chain_of_256_works_and_one_of_257_is_refused(tmp_path: Path) -> None:
    make(tmp_path / "0.qcow2", MIB, "write -P 0xbb 0 64k")
    for index in range(1, 257):
        shutil.copy(tmp_path / "0.qcow2", tmp_path / f"{index}.qcow2")
        rebase(Image(tmp_path / f"{index}.qcow2").set_l1(0, 0), f"{index - 1}.qcow2")
    assert contents(tmp_path / "255.qcow2")[:CLUSTER] == BELOW
    with refused(vdifs.ChainError, 40, "the chain above it has 256 images already"):
        contents(tmp_path / "256.qcow2")


def test_the_convert_of_a_delta_chain_is_the_convert_of_its_source(tmp_path: Path, base: Image) -> None:
    """The two deltas of a chain of three, copied elsewhere under plain names, are the chain again."""
    middle = overlay(tmp_path, "base.qcow2", name="middle")
    top = make(tmp_path / "top.qcow2", MIB, "write -P 2 0 64k", "write -z 512k 64k", backing=("middle.qcow2", "qcow2"))
    copied = tmp_path / "copied"
    copied.mkdir()
    for image, below in ((base, None), (middle, base), (top, middle)):
        with vdifs.open(image.path, base=below.path if below else None) as opened:
            (copied / image.path.name).write_bytes(b"".join(opened.stream()))
    assert both_read(Image(copied / "top.qcow2")) == both_read(top)
    oracle.compare(copied / "top.qcow2", top.path)
