"""`vdifs info` says what qemu-img says, and every field of the header besides."""

import json
import os
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tests.cli.conftest import Vdifs, run_process
from tests.support import oracle, qcow2, surgery, vmdk
from tests.support.builder import make, write_blank
from tests.support.image_file import Image
from tests.support.proofs import prove_info, settle_blocks
from tests.support.vhdx import Draft, linked

GIB = 1 << 30
VARIANTS: list[dict[str, object]] = [
    {},
    {"compat": "0.10"},
    {"compat": "1.1", "lazy_refcounts": "on", "cluster_size": 512},
    {"cluster_size": "2M", "refcount_bits": 1},
    {"refcount_bits": 64, "cluster_size": "1k"},
    {"compression_type": "zstd"},
    {"extended_l2": "on", "cluster_size": "128k"},
    {"data_file": "data.bin", "data_file_raw": "on"},
]


def info_json(vdifs: Vdifs, *words: str | Path) -> Any:
    status, out, err = vdifs("info", *words, "--output", "json")
    assert (status, err) == (0, "")
    return json.loads(out)


def human_fields(vdifs: Vdifs, image: Path) -> dict[str, str]:
    status, out, err = vdifs("info", image)
    assert (status, err) == (0, "")
    return dict(line.split(": ", 1) for line in out.splitlines())


def missing_or_different(wanted: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    return {name: (value, given.get(name)) for name, value in wanted.items() if given.get(name) != value}


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_json_holds_all_that_qemu_img_says(options: dict[str, object], vdifs: Vdifs, tmp_path: Path) -> None:
    make(tmp_path / "base.qcow2", 1 << 20)
    backing = None if "data_file" in options else ("base.qcow2", "qcow2")
    make(tmp_path / "a.qcow2", 3_000_320, backing=backing, **options)
    image = tmp_path / "a.qcow2"
    settle_blocks(tmp_path)
    assert missing_or_different(oracle.info(image), info_json(vdifs, image)) == {}


@pytest.mark.parametrize("options", VARIANTS[:-1], ids=str)
def test_json_holds_every_field_of_the_header(options: dict[str, object], vdifs: Vdifs, tmp_path: Path) -> None:
    make(tmp_path / "base.qcow2", 1 << 20)
    make(tmp_path / "a.qcow2", 3_000_320, backing=("base.qcow2", "qcow2"), **options)
    head = (tmp_path / "a.qcow2").read_bytes()
    wanted = {field.name: field.of(head) for field in qcow2.FIELDS if field.offset < qcow2.extensions_at(head)}
    assert wanted.pop("magic") == int.from_bytes(qcow2.MAGIC, "big")
    assert missing_or_different(wanted, info_json(vdifs, tmp_path / "a.qcow2")["header"]) == {}


@pytest.mark.parametrize("size", [2 * GIB, 8 * GIB, 5120 * GIB])
def test_the_human_answer_names_what_a_reader_of_the_manual_looks_for(size: int, vdifs: Vdifs, tmp_path: Path) -> None:
    make(tmp_path / "9.qcow2", size, cluster_size="64k")
    make(tmp_path / "10.qcow2", size, backing=("9.qcow2", "qcow2"), cluster_size="2M")
    fields = human_fields(vdifs, tmp_path / "10.qcow2")
    header = (tmp_path / "10.qcow2").read_bytes()
    l1_size = qcow2.value(header, "l1_size")
    assert fields["version"] == "3 (compat 1.1)"
    assert fields["header length"] == "112"
    assert fields["virtual size"].endswith(f"({size} bytes)")
    assert fields["backing file"] == f"9.qcow2 (actual path: {tmp_path / '9.qcow2'})"
    assert fields["backing file format"] == "qcow2"
    assert fields["crypt method"] == "0 (none)"
    assert fields["cluster size"].startswith("2 MiB (2097152 bytes)")
    assert fields["sectors per cluster"] == "4096"
    assert fields["refcount table size"].startswith("262144 entries, 2 MiB in 1 cluster ")
    assert fields["refcount block size"] == "1048576 entries"
    assert fields["L1 size"].split(" ")[0] == str(l1_size)
    assert fields["L2 size"].startswith("262144 entries")
    assert fields["snapshots"] == "0"
    for word in ("incompatible", "compatible", "autoclear"):
        assert fields[f"{word} features"] == "0x0 (none)"


def test_feature_bits_have_names(vdifs: Vdifs, tmp_path: Path) -> None:
    make(tmp_path / "a.qcow2", GIB, extended_l2="on", lazy_refcounts="on")
    fields = human_fields(vdifs, tmp_path / "a.qcow2")
    assert fields["incompatible features"] == "0x10 (extended l2)"
    assert fields["compatible features"] == "0x1 (lazy refcounts)"


def test_a_bit_nobody_knows_has_the_name_that_the_image_gives_it(vdifs: Vdifs, tmp_path: Path) -> None:
    image = tmp_path / "a.qcow2"
    make(image, GIB)
    head = bytearray(image.read_bytes())
    table = head.index(b"dirty bit") - 2
    head[table : table + 48] = bytes([1, 40]) + b"sparkling".ljust(46, b"\0")
    image.write_bytes(head)
    Image(image).set(compatible_features=1 << 40 | 1 << 41)
    assert human_fields(vdifs, image)["compatible features"] == "0x30000000000 (sparkling, bit 41)"


def test_the_backing_chain_is_described_as_by_qemu_img(
    vdifs: Vdifs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    make(folder / "1.raw", 1 << 20)  # stated to be raw, which is final
    make(folder / "2.qcow2", 1 << 20, backing=("1.raw", "raw"))
    make(folder / "3.qcow2", 2 << 20, backing=(str(folder / "2.qcow2"), "qcow2"))
    make(folder / "4.qcow2", 2 << 20, backing=("3.qcow2", "qcow2"))
    monkeypatch.chdir(tmp_path)
    settle_blocks(folder)
    wanted = json.loads(oracle.qemu_img("info", "--backing-chain", "--output=json", "images/4.qcow2"))
    given = info_json(vdifs, "images/4.qcow2", "--backing-chain")
    assert [missing_or_different(*pair) for pair in zip(wanted, given, strict=True)] == [{}, {}, {}, {}]
    status, out, _ = vdifs("info", "images/4.qcow2", "--backing-chain")
    assert (status, [line for line in out.splitlines() if line.startswith("image: ")]) == (
        0,
        [f"image: {each['filename']}" for each in wanted],
    )


def test_info_opens_nothing_but_its_image(vdifs: Vdifs, tmp_path: Path) -> None:
    make(tmp_path / "base.qcow2", 1 << 20)
    make(tmp_path / "a.qcow2", 1 << 20, backing=("base.qcow2", "qcow2"))
    (tmp_path / "base.qcow2").unlink()
    assert info_json(vdifs, tmp_path / "a.qcow2")["backing-filename"] == "base.qcow2"
    status, out, err = vdifs("info", tmp_path / "a.qcow2", "--backing-chain")
    assert (status, out) == (1, "")
    assert str(tmp_path / "base.qcow2") in err


def test_a_chain_that_contains_itself_ends(vdifs: Vdifs, tmp_path: Path) -> None:
    for name, backing in [("a.qcow2", "b.qcow2"), ("b.qcow2", "a.qcow2")]:
        oracle.qemu_img("create", "-q", "-u", "-f", "qcow2", "-b", backing, "-F", "qcow2", name, "1M", cwd=tmp_path)
    status, _, err = vdifs("info", tmp_path / "a.qcow2", "--backing-chain")
    assert status == 1
    assert "in its own chain" in err


def test_a_backing_file_is_described_in_the_format_that_is_stated_or_that_its_bytes_or_its_name_tell(
    vdifs: Vdifs, tmp_path: Path
) -> None:
    (tmp_path / "plain.img").write_bytes(bytes(512))
    write_blank(tmp_path / "base.qcow2")
    for name, stated, wanted in [
        ("plain.img", "raw", "raw"),
        ("plain.img", None, "raw"),
        ("base.qcow2", "raw", "raw"),
        ("base.qcow2", None, "qcow2"),
        ("base.qcow2", "qed", "qcow2"),
    ]:
        write_blank(tmp_path / "top.qcow2", name, stated)
        described = info_json(vdifs, tmp_path / "top.qcow2", "--backing-chain")
        assert [each["format"] for each in described] == ["qcow2", wanted], (name, stated)
    for stated in ("qcow2", "qed"):
        write_blank(tmp_path / "top.qcow2", "plain.img", stated)
        status, out, err = vdifs("info", tmp_path / "top.qcow2", "--backing-chain")
        assert (status, out) == (1, "")
        assert f"{tmp_path / 'plain.img'}: not a qcow2, VHD, VHDX, VMDK or VDI image" in err


def test_a_backing_file_outside_needs_trust(vdifs: Vdifs, tmp_path: Path) -> None:
    for name in ("inside", "outside"):
        (tmp_path / name).mkdir()
    base, image = tmp_path / "outside" / "base.qcow2", tmp_path / "inside" / "a.qcow2"
    make(base, 1 << 20)
    make(image, 1 << 20, backing=(str(base), "qcow2"))
    assert "not beneath a trusted directory" in "".join(info_json(vdifs, image)["warnings"])
    assert vdifs("info", image, "--backing-chain").status == 1
    assert info_json(vdifs, image, "--trust", base.parent)["warnings"] == []
    assert len(info_json(vdifs, image, "--trust", base.parent, "--backing-chain")) == 2


def test_what_its_user_should_know_is_a_warning(vdifs: Vdifs, tmp_path: Path) -> None:
    image = tmp_path / "a.qcow2"
    make(tmp_path / "base.qcow2", 1 << 20)
    make(tmp_path / "a.qcow2", 1 << 20, backing=("base.qcow2", "qcow2"))
    surgery.forget_backing_format(image)
    head = bytearray(image.read_bytes())
    head[79] |= 1
    image.write_bytes(head)
    fields = human_fields(vdifs, image)
    assert "dirty" in fields["warning 1"]
    assert "format" in fields["warning 2"]
    assert fields["backing file format"] == "not stated"
    assert info_json(vdifs, image)["dirty-flag"] is True


PROTOCOLS = ["nbd://h/x", "http://h/x", "a:b", ":x", "fat:/etc", "file:base.qcow2", 'json:{"driver":"null-co"}']


@pytest.mark.parametrize("name", [*PROTOCOLS, "./a:b", "sub/a:b", "/a:b", "../up"])
def test_the_name_of_a_protocol_is_not_joined_to_the_folder(
    name: str, vdifs: Vdifs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "images").mkdir()
    monkeypatch.chdir(tmp_path)
    oracle.qemu_img("create", "-q", "-u", "-f", "qcow2", "-b", name, "-F", "raw", "images/a.qcow2", "1M")
    settle_blocks(Path("images"))
    given = info_json(vdifs, "images/a.qcow2")
    assert missing_or_different(oracle.info(Path("images/a.qcow2")), given) == {}
    assert (given["full-backing-filename"] == name) is (name in (*PROTOCOLS, "/a:b"))


def test_an_image_that_is_marked_corrupt_is_described_as_such(vdifs: Vdifs, tmp_path: Path) -> None:
    image = make(tmp_path / "a.qcow2", 1 << 20, "write -P 1 0 64k")
    oracle.qemu_img("snapshot", "-c", "one", image.path)
    oracle.qemu_img("bitmap", "--add", image.path, "b")
    image.set(incompatible_features=2)
    prove_info(image.path)
    given = info_json(vdifs, image.path)
    assert given["format-specific"]["data"]["corrupt"] is True
    assert given["warnings"] == ["marked corrupt: not served; repair it with 'qemu-img check -r all' first"]
    assert human_fields(vdifs, image.path)["incompatible features"] == "0x2 (corrupt)"
    for command in ("map", "measure"):
        assert vdifs(command, image.path).status == 1


@pytest.mark.parametrize("size", [1 << 63, (1 << 64) - 1])
def test_the_size_of_a_vm_state_is_the_number_that_qemu_prints(size: int, tmp_path: Path) -> None:
    image = make(tmp_path / "a.qcow2", 1 << 20)
    oracle.qemu_img("snapshot", "-c", "one", image.path)
    image.write(image.get("snapshots_offset") + 40, qcow2.words(size))
    prove_info(image.path)


def test_a_snapshot_whose_name_is_no_utf_8_has_a_label_in_hex(vdifs: Vdifs, tmp_path: Path) -> None:
    image = make(tmp_path / "a.qcow2", 1 << 20)
    oracle.qemu_img("snapshot", "-c", os.fsdecode(b"b\xff"), image.path)
    (told,) = info_json(vdifs, image.path)["snapshots"]
    assert {key: told[key] for key in ("name", "name_hex", "label", "label_hex")} == {
        "name": "b\ufffd", "name_hex": "62ff", "label": "b\ufffd", "label_hex": "62ff"
    }  # fmt: skip


def test_a_snapshot_has_the_size_and_the_chain_it_had(vdifs: Vdifs, tmp_path: Path) -> None:
    """All else is said of the file: its header, its snapshots."""
    make(tmp_path / "base.qcow2", 1 << 20)
    make(tmp_path / "a.qcow2", 1 << 20, backing=("base.qcow2", "qcow2"))
    image = tmp_path / "a.qcow2"
    oracle.qemu_img("snapshot", "-c", "before", image)
    oracle.qemu_io(image, ["truncate 2M"])
    active, taken = info_json(vdifs, image), info_json(vdifs, f"{image}@before")
    assert (active["virtual-size"], taken["virtual-size"]) == (2 << 20, 1 << 20)
    assert "snapshot" not in active
    assert taken["snapshot"] == "before"
    same = active.keys() - {"virtual-size", "actual-size"}
    assert {key: taken[key] for key in same} == {key: active[key] for key in same}
    assert info_json(vdifs, f"{image}@1")["snapshot"] == "before", "its ID is a name as well"
    chain = info_json(vdifs, f"{image}@before", "--backing-chain")
    assert [(each.get("snapshot"), each["virtual-size"]) for each in chain] == [("before", 1 << 20), (None, 1 << 20)]
    lines = vdifs("info", f"{image}@before").out.splitlines()
    assert lines[:4] == [
        f"image: {image}",
        "file format: qcow2",
        "snapshot: before",
        "virtual size: 1 MiB (1048576 bytes)",
    ]
    assert vdifs("info", f"{image}@gone") == (
        1,
        "",
        f"vdifs: {image}: it has no snapshot 'gone': choose one of its snapshots (before)\n",
    )


def test_a_raw_image_has_a_size(vdifs: Vdifs, tmp_path: Path) -> None:
    image = tmp_path / "a.raw"
    image.write_bytes(b"x" * 1000)
    settle_blocks(tmp_path)
    given = info_json(vdifs, image)
    assert missing_or_different(oracle.info(image, "raw"), given) == {}
    assert given["file-length"] == 1000


def test_a_chain_of_256_is_described_and_one_of_257_is_refused(vdifs: Vdifs, tmp_path: Path) -> None:
    for index in range(257):
        backing = (f"{index - 1}.qcow2", "qcow2") if index else (None, None)
        write_blank(tmp_path / f"{index}.qcow2", *backing)
    described = info_json(vdifs, "--backing-chain", tmp_path / "255.qcow2")
    assert [each["filename"] for each in described] == [str(tmp_path / f"{n}.qcow2") for n in range(255, -1, -1)]
    assert vdifs("info", "--backing-chain", tmp_path / "256.qcow2") == (
        1,
        "",
        f"vdifs: {tmp_path / '0.qcow2'}: the chain above it has 256 images already: commit some\n",
    )
    assert len(info_json(vdifs, tmp_path / "256.qcow2")["warnings"]) == 0, "the image itself is described"


def test_a_file_that_is_no_image_is_refused(vdifs: Vdifs, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"no image")
    status, out, err = vdifs("info", tmp_path / "a.txt")
    assert (status, out) == (1, "")
    assert "not a qcow2, VHD, VHDX, VMDK or VDI image" in err


def test_an_encrypted_image_is_refused_by_its_name(vdifs: Vdifs, tmp_path: Path) -> None:
    image = tmp_path / "a.qcow2"
    make(image, 1 << 20)
    head = bytearray(image.read_bytes())
    head[35] = 2
    image.write_bytes(head)
    status, _, err = vdifs("info", image)
    assert status == 1
    assert "encrypted (LUKS)" in err


def test_a_name_cannot_move_the_cursor(vdifs: Vdifs, tmp_path: Path) -> None:
    make(tmp_path / "a\x1b[31m.qcow2", 1 << 20)
    assert vdifs("info", tmp_path / "a\x1b[31m.qcow2").out.startswith(f"image: {tmp_path}/a\\x1b[31m.qcow2\n")


def test_a_name_that_is_no_utf_8_is_shown_and_found(tmp_path: Path) -> None:
    name = os.fsdecode(b"a\xff.qcow2")
    make(tmp_path / name, 1 << 20)
    human = run_process("info", name, cwd=tmp_path)
    assert (human.returncode, human.stdout.splitlines()[0]) == (0, rb"image: a\udcff.qcow2")
    answer = json.loads(run_process("info", name, "--output", "json", cwd=tmp_path).stdout)
    assert (answer["filename"], answer["filename_hex"]) == ("a\ufffd.qcow2", "61ff2e71636f7732")


def test_a_field_that_an_image_names_itself_sends_a_terminal_nothing(vdifs: Vdifs, tmp_path: Path) -> None:
    evil = "\x1b[2J\u202e\r\n"
    Draft(parent=linked(UUID(int=1), "b.vhdx") | {evil: evil}).save(tmp_path / "a.avhdx")
    assert human_fields(vdifs, tmp_path / "a.avhdx")[r"parent \x1b[2J\u202e\r\n"] == r"\x1b[2J\u202e\r\n"


def test_the_disk_size_is_that_of_all_files_of_an_image(vdifs: Vdifs, tmp_path: Path) -> None:
    split, external, flat = tmp_path / "split.vmdk", tmp_path / "external.qcow2", tmp_path / "flat.vmdk"
    oracle.qemu_img("create", "-q", "-f", "vmdk", "-o", "subformat=twoGbMaxExtentSparse", split, "3G")
    oracle.qemu_io(split, ["write -P 1 0 1M", "write -P 2 2560M 2M"], format="vmdk")
    make(external, 1 << 20, data_file="external.data")
    oracle.qemu_io("external.qcow2", ["write -P 1 0 1M"], cwd=tmp_path)
    flat.write_bytes(vmdk.descriptor('RW 8 FLAT "a.bin" 0', 'RW 8 FLAT "a.bin" 8', "RW 1 ZERO"))
    (tmp_path / "a.bin").write_bytes(b"\1" * 8192)
    settle_blocks(tmp_path)
    for image, name in ((split, "vmdk"), (external, "qcow2")):
        told = json.loads(oracle.qemu_img("info", "--output=json", "-f", name, image))
        assert info_json(vdifs, image)["actual-size"] == told["actual-size"], image
    assert human_fields(vdifs, split)["disk size"].startswith("3")
    one, other = (flat.stat().st_blocks * 512, (tmp_path / "a.bin").stat().st_blocks * 512)
    assert info_json(vdifs, flat)["actual-size"] == one + other
    (tmp_path / "a.bin").unlink()
    assert info_json(vdifs, flat)["actual-size"] == one
    assert "its data file cannot be opened" in info_json(vdifs, flat)["warnings"][0]
