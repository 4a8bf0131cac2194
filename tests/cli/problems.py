"""Every problem that `vdifs check` knows: how QEMU's image comes to have it, what is said of it, and what QEMU says."""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.support import oracle
from tests.support.builder import CLUSTER, make, make_raw, rebase
from tests.support.image_file import Image
from tests.support.qcow2 import BITMAPS, COMPRESSED, COPIED, HIDDEN, ZERO, words
from tests.support.units import MIB

FOLDER = "FOLDER/"
SOUND, REFUSED, CORRUPT = 0, 1, 2  # the exit status of qemu-img check
ENDLESS = None  # it does not come to an end
GONE = 1 << 40
REFCOUNT_TABLE, REFCOUNT_BLOCK, L1_TABLE, L2_TABLE = (number * CLUSTER for number in range(1, 5))
SNAPSHOT_L1, SNAPSHOTS = 7 * CLUSTER, 8 * CLUSTER
Line = tuple[str, str, str, str]  # name, severity, kind, message, in which FOLDER stands for where the images are


@dataclass(frozen=True)
class Case:
    """One problem of `image.qcow2`: an overlay of 1 MiB, its first 128 KiB written, over a `base.qcow2` as long."""

    name: str
    damage: Callable[[Image], object]
    said: tuple[Line, ...]
    qemu: int | None


def image_in(folder: Path, name: str = "image.qcow2") -> Image:
    """Make such an image, or the like under another name; tables and data are where the constants say."""
    if not (folder / "base.qcow2").exists():
        make(folder / "base.qcow2", MIB, "write -P 0xbb 0 1M")
    return make(folder / name, MIB, "write -P 1 0 128k", backing=("base.qcow2", "qcow2"))


def beside(image: Image, name: str) -> Image:
    return Image(image.path.with_name(name))


def put(image: Image, offset: int, word: int) -> Image:
    return image.write(offset, words(word))


def anew(image: Image, size: int, *commands: str, **options: object) -> Image:
    """Make the image again, otherwise."""
    image.path.unlink()
    return make(image.path, size, "write -P 1 0 64k", *commands, backing=("base.qcow2", "qcow2"), **options)


def with_snapshot(image: Image) -> Image:
    """Take the snapshot `s` and write on: then the active state has an L2 table of its own, the snapshot L2_TABLE."""
    oracle.qemu_img("snapshot", "-c", "s", image.path)
    image.io("write -P 2 0 64k")
    assert image.words(image.get("snapshots_offset"), 1) == (SNAPSHOT_L1,)
    assert image.get("snapshots_offset") == SNAPSHOTS
    assert image.words(SNAPSHOT_L1, 1)[0] & ~COPIED == L2_TABLE != image.l1_entry(0) & ~COPIED
    return image


def with_data_file(image: Image) -> Path:
    """Make the image again with an external data file, and return that."""
    path = image.path.with_name("image.data")
    image.path.unlink()
    make(image.path, MIB, data_file=path)
    image.io("write -P 1 0 128k")
    return path


def set_refcounts(image: Image, entry: int) -> Image:
    """Set the first entry of the refcount table."""
    return put(image, REFCOUNT_TABLE, entry)


def over_a_link(image: Image, target: str) -> None:
    beside(image, "link.qcow2").path.symlink_to(target)
    rebase(image, "link.qcow2")


def over_a_folder(image: Image) -> None:
    beside(image, "sub").path.mkdir()
    rebase(image, "sub")


def over_its_overlay(image: Image) -> None:
    make(image.path.with_name("other.qcow2"), MIB, backing=("image.qcow2", "qcow2"))
    rebase(image, "other.qcow2")


def over_no_image(image: Image) -> None:
    make_raw(image.path.with_name("text.qcow2"), b"text" * 1000)
    rebase(image, "text.qcow2")


def over_unstated_raw(image: Image) -> None:
    make_raw(image.path.with_name("disk.raw"), bytes(MIB))
    rebase(image, "disk.raw", None)


def over_a_detour(image: Image) -> None:
    """A `..` behind a folder that is a link leads elsewhere than the name says."""
    beside(image, "sub").path.symlink_to(".")
    rebase(image, "sub/../base.qcow2")


def over_a_shrunk_image(image: Image) -> None:
    make(image.path.with_name("middle.qcow2"), MIB // 2, backing=("base.qcow2", "qcow2"))
    rebase(image, "middle.qcow2")


def lost_bitmaps(image: Image) -> None:
    oracle.qemu_img("bitmap", "--add", image.path, "b")
    put(image, image.path.read_bytes().index(BITMAPS.to_bytes(4, "big")) + 24, 1 << 63)


def beside_a_hidden_image(image: Image) -> None:
    make(image.path.with_name("hidden.qcow2"), MIB).extensions((HIDDEN, b"\1"))


def shared_l2_table(image: Image) -> None:
    anew(image, 1 << 30, "write -P 1 512M 64k").set_l1(1, image.l1_entry(0))


def zeros_in_version_2(image: Image) -> None:
    anew(image, MIB, compat="0.10").set_l2(1, ZERO)


def contradicting_subclusters(image: Image) -> None:
    anew(image, MIB, extended_l2="on").set_l2(0, image.l2_entry(0), 1 << 32 | 1)


def zero_bit_with_subclusters(image: Image) -> None:
    anew(image, MIB, extended_l2="on").set_l2(0, image.l2_entry(0) | ZERO)


def name_taken(image: Image) -> None:
    shutil.copy(beside(image, "base.qcow2").path, with_snapshot(image).path.with_name("image.qcow2@s"))


def told(severity: str, kind: str, message: str, *, name: str = "image.qcow2", by: str = "") -> tuple[Line, ...]:
    """Return what is said: name, the image that has the problem; by, the file that the message names, if another."""
    return ((name, severity, kind, f"{FOLDER}{by or name.split('@', maxsplit=1)[0]}: {message}"),)


def error(kind: str, message: str, *, name: str = "image.qcow2", by: str = "") -> tuple[Line, ...]:
    return told("error", kind, message, name=name, by=by)


def skipped(target: str, remedy: str, severity: str = "note", name: str = "link.qcow2") -> tuple[Line, ...]:
    what = f"left out: a symbolic link to '{target}', which is not followed: {remedy}"
    return told(severity, "skipped-link", what, name=name)


def unopenable(file: str, why: str, role: str = "backing file") -> tuple[Line, ...]:
    return error("broken-chain", f"its {role} cannot be opened: {FOLDER}{file}: {why}")


def damaged(message: str, *, name: str = "image.qcow2", by: str = "") -> tuple[Line, ...]:
    return error("damaged", message, name=name, by=by)


def beyond(what: str, place: int, end: int, by: str = "") -> tuple[Line, ...]:
    ends = f"beyond the end of the file at {end:#x}: the file was cut short; restore it from a copy"
    return damaged(f"{what} at {place:#x}{',' if what.endswith('lie') else ' lies'} {ends}", by=by)


def reserved(count: int, where: str, name: str = "image.qcow2") -> tuple[Line, ...]:
    message = f"reserved bits are set in {count} of the entries in its {where}: ignored"
    return told("note", "reserved-bits", message, name=name)


def on_table(offset: int) -> tuple[Line, ...]:
    message = f"guest data lie on its own tables, first at {offset:#x}: restore it from a copy"
    return told("warning", "overlap", message)


NOT_FOUND = "No such file or directory: restore it, or correct the name"
NO_LINKS = "Too many levels of symbolic links: symbolic links are not followed; name the file itself"
IN_ITSELF = "it is in its own chain: rebase one of the images that name it"
LEFT_OUT = r"left out: its first bytes are not 'QFI\xfb'"
REFCOUNTS = told(
    "warning",
    "refcounts",
    "its refcount table is wrong in 1 of its entries, which no reader needs: 'qemu-img check -r all'",
)
ZEROS_FROM = "it ends at {}, before its overlay: from there on zeros are read"

OF_CHAINS = [
    Case("missing backing file", lambda i: rebase(i, "gone.qcow2"), unopenable("gone.qcow2", NOT_FOUND), REFUSED),
    Case(
        "broken link",
        lambda i: over_a_link(i, "gone.qcow2"),
        unopenable("link.qcow2", NO_LINKS)
        + skipped("gone.qcow2", "have the image itself there, or mount the folder it lies in", "warning"),
        REFUSED,
    ),
    Case(
        "link",
        lambda i: over_a_link(i, "base.qcow2"),
        unopenable("link.qcow2", NO_LINKS) + skipped("base.qcow2", f"use {FOLDER}base.qcow2"),
        SOUND,
    ),
    Case(
        "folder",
        over_a_folder,
        unopenable("sub", "not a regular file: only regular files can be images"),
        REFUSED,
    ),
    Case("itself", lambda i: rebase(i, "image.qcow2"), error("broken-chain", IN_ITSELF), ENDLESS),
    Case(
        "its overlay",
        over_its_overlay,
        error("broken-chain", IN_ITSELF),
        ENDLESS,
    ),
    Case(
        "no image",
        over_no_image,
        damaged(r"not a qcow2, VHD, VHDX, VMDK or VDI image: its first bytes are not 'QFI\xfb'", by="text.qcow2")
        + told("warning", "no-image", LEFT_OUT, name="text.qcow2"),
        REFUSED,
    ),
    Case(
        "another format",
        lambda i: rebase(i, "base.qcow2", "qed"),
        error(
            "unsupported",
            "its overlay states the format 'qed': only qcow2, vpc, vhdx, vmdk, vdi and raw are read",
            by="base.qcow2",
        ),
        REFUSED,
    ),
    Case(
        "raw, unstated",
        over_unstated_raw,
        error(
            "not-trusted",
            "its overlay states no format and it is no qcow2, VHD, VHDX, VMDK or VDI image: "
            "it is not taken for raw unless stated; state it with 'qemu-img rebase -u -F raw'",
            by="disk.raw",
        ),
        SOUND,
    ),
    Case(
        "outside",
        lambda i: rebase(i, "/etc/passwd", "raw"),
        error(
            "not-trusted",
            "it names '/etc/passwd', which is not beneath a trusted directory: allow it with --trust /etc",
        ),
        SOUND,
    ),
    Case(
        "protocol",
        lambda i: rebase(i, "nbd:unix:/nonexistent"),
        error(
            "not-trusted",
            "it names 'nbd:unix:/nonexistent', a protocol: only files are followed; rebase the image on a file",
        ),
        REFUSED,
    ),
    Case(
        "control character",
        lambda i: rebase(i, "a\nb"),
        error(
            "not-trusted",
            r"it names 'a\nb', with a control character in it: rename the file and rebase the image",
        ),
        REFUSED,
    ),
    Case(
        "detour",
        over_a_detour,
        error(
            "not-trusted",
            "it names 'sub/../base.qcow2': its '..' follows what is no folder beneath the source: "
            "rebase it on a plain name",
        )
        + skipped(".", f"use {FOLDER[:-1]}", name="sub"),
        REFUSED,
    ),
    Case(
        "shrunk in mid chain",
        over_a_shrunk_image,
        told("warning", "shrunk", ZEROS_FROM.format(MIB // 2), name="middle.qcow2"),
        SOUND,
    ),
    Case(
        "shorter base",
        lambda i: i.set(size=2 * MIB),
        told("note", "shorter", ZEROS_FROM.format(MIB), name="base.qcow2"),
        SOUND,
    ),
    Case(
        "format unstated",
        lambda i: rebase(i, "base.qcow2", None),
        told(
            "warning",
            "unstated-format",
            "it does not state the format of its backing file: state it with 'qemu-img rebase -u -F'",
        ),
        SOUND,
    ),
    Case(
        "missing data file",
        lambda i: with_data_file(i).unlink(),
        unopenable("image.data", NOT_FOUND, "data file"),
        REFUSED,
    ),
    Case(
        "name taken",
        name_taken,
        told(
            "warning",
            "name-taken",
            "its snapshot would be called image.qcow2@s, which is taken: rename the file or the snapshot",
            name="image.qcow2@s",
        ),
        SOUND,
    ),
    Case(
        "emptied, beside it",
        lambda i: beside(i, "other.qcow2").path.write_bytes(b""),
        told("warning", "no-image", LEFT_OUT, name="other.qcow2"),
        SOUND,
    ),
]

OF_HEADERS = [
    Case(
        "encrypted",
        lambda i: i.set(crypt_method=1),
        error(
            "unsupported",
            "the image is encrypted (AES): vdifs does not decrypt; convert it with qemu-img and its secret first",
        ),
        REFUSED,
    ),
    Case(
        "unknown feature",
        lambda i: i.set(incompatible_features=1 << 7),
        error("unsupported", "unknown incompatible feature: bit 7; a newer program wrote this image"),
        REFUSED,
    ),
    Case(
        "version 4",
        lambda i: i.set(version=4),
        error("unsupported", "qcow2 version 4 is not supported, only 2 and 3"),
        REFUSED,
    ),
    Case(
        "header cut short",
        lambda i: os.truncate(i.path, 80),
        damaged("the header ends after 80 bytes, expected at least 104"),
        REFUSED,
    ),
    Case(
        "corrupt bit",
        lambda i: i.set(incompatible_features=1 << 1),
        damaged("the image is marked corrupt: repair it with 'qemu-img check -r all' first"),
        SOUND,
    ),
    Case(
        "dirty bit",
        lambda i: i.set(incompatible_features=1 << 0),
        told(
            "warning",
            "dirty",
            "it is marked dirty: its refcounts may be wrong, which no reader needs: 'qemu-img check -r all'",
        ),
        SOUND,
    ),
    Case(
        "bitmap directory",
        lost_bitmaps,
        told(
            "warning",
            "bitmaps",
            "the bitmap directory is at 0x8000000000000000, beyond what a file can hold, 0x7fffffffffffffff bytes: "
            "QEMU may refuse the whole image",
        ),
        REFUSED,
    ),
    Case(
        "hidden",
        beside_a_hidden_image,
        told("note", "hidden", "it is marked hidden, and no image of this chain is above it", name="hidden.qcow2"),
        SOUND,
    ),
]

OF_TABLES = [
    Case(
        "L1 entry not aligned",
        lambda i: i.set_l1(0, L2_TABLE | 512),
        damaged("in the L1 table at 0x30000: L1 entry 0 points to 0x40200, no multiple of the cluster size 0x10000"),
        CORRUPT,
    ),
    Case(
        "L2 entry not aligned",
        lambda i: i.set_l2(3, 0x12345600),
        damaged(
            "at guest offset 0x0: L2 entry 3 of the range points to 0x12345600, no multiple of the cluster size 0x10000"
        ),
        CORRUPT,
    ),
    Case(
        "L2 table beyond the end",
        lambda i: i.set_l1(0, GONE | COPIED),
        beyond("the L2 table", GONE, 7 * CLUSTER),
        CORRUPT,
    ),
    Case(
        "data beyond the end",
        lambda i: i.set_l2(3, GONE | COPIED),
        beyond("the data of guest offset 0x30000 lie", GONE, 7 * CLUSTER),
        CORRUPT,
    ),
    Case(
        "cut short",
        lambda i: os.truncate(i.path, i.data_offset(1)),
        beyond("the data of guest offset 0x10000 lie", 6 * CLUSTER, 6 * CLUSTER),
        CORRUPT,
    ),
    Case(
        "compressed data beyond the end",
        lambda i: i.set_l2(5, COMPRESSED | 7 * CLUSTER),
        beyond("compressed data lie", 7 * CLUSTER, 7 * CLUSTER),
        CORRUPT,
    ),
    Case(
        "data file cut short",
        lambda i: os.truncate(with_data_file(i), CLUSTER),
        beyond("the data of guest offset 0x10000 lie", CLUSTER, CLUSTER, by="image.data"),
        SOUND,
    ),
    Case(
        "two L1 entries with one L2 table",
        shared_l2_table,
        damaged("two L1 entries share the L2 table at 0x40000: repair the image with 'qemu-img check -r all'"),
        CORRUPT,
    ),
    Case(
        "zeros in version 2",
        zeros_in_version_2,
        damaged("at guest offset 0x0: L2 entry 1 of the range marks zeros, which version 2 does not have"),
        SOUND,
    ),
    Case(
        "contradicting subclusters",
        contradicting_subclusters,
        damaged(
            "at guest offset 0x0: extended L2 entry 0 of the range has the subcluster bitmap 00000001:00000001, "
            "which contradicts itself"
        ),
        CORRUPT,
    ),
    Case(
        "a snapshot's L1 entry not aligned",
        lambda i: put(with_snapshot(i), SNAPSHOT_L1, 0x12345600),
        damaged(
            "in the L1 table at 0x70000: L1 entry 0 points to 0x12345600, no multiple of the cluster size 0x10000",
            name="image.qcow2@s",
        ),
        CORRUPT,
    ),
    Case("reserved in L1", lambda i: i.set_l1(0, L2_TABLE | COPIED | 1 << 57), reserved(1, "L1 table"), CORRUPT),
    Case(
        "reserved in L2",
        lambda i: i.set_l2(0, i.l2_entry(0) | 1 << 57).set_l2(1, i.l2_entry(1) | 1 << 1),
        reserved(2, "L2 tables"),
        CORRUPT,
    ),
    Case("zero bit with subclusters", zero_bit_with_subclusters, reserved(1, "L2 tables"), SOUND),
    Case(
        "reserved in refcounts",
        lambda i: set_refcounts(i, REFCOUNT_BLOCK | 1 << 8),
        reserved(1, "refcount table"),
        CORRUPT,
    ),
    Case(
        "reserved in a snapshot's L1",
        lambda i: put(with_snapshot(i), SNAPSHOT_L1, L2_TABLE | 1 << 57),
        reserved(1, "L1 table", "image.qcow2@s"),
        CORRUPT,
    ),
    Case(
        "reserved in a snapshot's L2",
        lambda i: put(with_snapshot(i), L2_TABLE + 8 * 9, 1 << 57),
        reserved(1, "L2 tables", "image.qcow2@s"),
        CORRUPT,
    ),
    Case("refcount block beyond the end", lambda i: set_refcounts(i, GONE), REFCOUNTS, CORRUPT),
    Case("refcount block not aligned", lambda i: set_refcounts(i, REFCOUNT_BLOCK | 512), REFCOUNTS, REFUSED),
    Case("no refcount block", lambda i: set_refcounts(i, 0), REFCOUNTS, CORRUPT),
    Case("refcount table beyond the end", lambda i: i.set(refcount_table_offset=GONE), REFCOUNTS, CORRUPT),
]


def data_on(name: str, place: int) -> Case:
    return Case(f"data on {name}", lambda i: i.set_l2(5, place | COPIED), on_table(place), CORRUPT)


def data_on_snapshot(name: str, place: int) -> Case:
    return Case(f"data on {name}", lambda i: with_snapshot(i).set_l2(5, place | COPIED), on_table(place), CORRUPT)


OVERLAPS = [
    data_on("the refcount table", REFCOUNT_TABLE),
    data_on("a refcount block", REFCOUNT_BLOCK),
    data_on("the L1 table", L1_TABLE),
    data_on("an L2 table", L2_TABLE),
    data_on_snapshot("a snapshot's L1 table", SNAPSHOT_L1),
    data_on_snapshot("a snapshot's L2 table", L2_TABLE),
    data_on_snapshot("the snapshot table", SNAPSHOTS),
    Case(
        "a snapshot's data on the L2 table",
        lambda i: put(with_snapshot(i), L2_TABLE + 8 * 9, i.l1_entry(0)),
        tuple(("image.qcow2@s", *line[1:]) for line in on_table(0x90000)),
        CORRUPT,
    ),
    Case("compressed data on a table", lambda i: i.set_l2(5, COMPRESSED | L1_TABLE + 512), on_table(0x30200), CORRUPT),
    Case(
        "compressed data that end on a table",
        lambda i: with_snapshot(i).set_l2(5, COMPRESSED | 1 << 54 | SNAPSHOT_L1 - 512),
        on_table(SNAPSHOT_L1),
        CORRUPT,
    ),
    Case(
        "refcount table on the L1 table",
        lambda i: i.set(refcount_table_offset=L1_TABLE),
        REFCOUNTS + told("warning", "overlap", "two of its tables overlap at 0x30000: restore it from a copy"),
        REFUSED,
    ),
]

CASES = [*OF_CHAINS, *OF_HEADERS, *OF_TABLES, *OVERLAPS]
