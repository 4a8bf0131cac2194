"""What vdifs reports of an image and does not take along: bitmaps, extensions it does not know, marks; and encryption,
which it refuses by name.
"""

import json
import shutil
import struct
from pathlib import Path

import pytest

import vdifs
from tests.conftest import require_tool
from tests.support import oracle, qcow2
from tests.support.builder import make
from tests.support.command_line import answer, export, run_vdifs, said
from tests.support.image_file import Image
from tests.support.proofs import prove_full, prove_info
from tests.support.qcow2 import BACKING_FORMAT, FEATURE_NAMES, HIDDEN
from tests.support.units import KIB, MIB

HIDDEN_MARK = (HIDDEN, b"\0\0\0\1")


def extension_types(image: Path) -> list[int]:
    """Return the types of the header extensions of a version 3 image."""
    head = image.read_bytes()[:4096]
    return [kind for kind, _ in qcow2.extensions_in(head[qcow2.extensions_at(head) :])]


@pytest.fixture
def with_bitmaps(tmp_path: Path) -> Path:
    """An overlay with three dirty bitmaps: one that records, one that does not, one that a crash left behind."""
    folder = tmp_path / "source"
    folder.mkdir()
    make(folder / "base.qcow2", MIB, "write -P 9 0 1M")
    image = make(folder / "image.qcow2", MIB, backing=("base.qcow2", "qcow2")).path
    for name, options in [("recording", []), ("off", ["--disable", "-g", "128k"]), ("left behind", ["--disable"])]:
        oracle.qemu_img("bitmap", "--add", *options, image, name)
    oracle.qemu_io(image, ["write -P 1 100k 300k"])
    leave_in_use(image, b"left behind")
    return image


def leave_in_use(image: Path, name: bytes) -> None:
    """Set the flag `in use` in the directory entry of a bitmap, as if QEMU had died."""
    file = bytearray(image.read_bytes())
    entry = file.rindex(name) - 24
    assert struct.unpack_from(">H", file, entry + 18) == (len(name),)
    file[entry + 15] |= 1
    image.write_bytes(file)


def test_bitmaps_are_reported_as_by_qemu_and_not_copied(with_bitmaps: Path, tmp_path: Path) -> None:
    told = answer("info", with_bitmaps)["format-specific"]["data"]["bitmaps"]
    assert [(each["name"], sorted(each["flags"])) for each in told] == [
        ("recording", ["auto"]),
        ("off", []),
        ("left behind", ["in-use"]),
    ]
    prove_info(with_bitmaps)
    text = said("info", with_bitmaps)
    assert all(name in text for name in ("recording", "off", "left behind"))
    full = prove_full(with_bitmaps, tmp_path / "full.qcow2", like=with_bitmaps)
    delta = export(with_bitmaps, tmp_path / "delta.qcow2", "--base", with_bitmaps.with_name("base.qcow2"))
    for file in (full, delta):
        assert set(extension_types(file)) <= {BACKING_FORMAT, FEATURE_NAMES}
        assert Image(file).get("autoclear_features") == 0
        assert "bitmaps" not in answer("info", file)["format-specific"]["data"]


def test_bitmaps_that_are_no_longer_valid_are_not_reported(with_bitmaps: Path) -> None:
    """A program that does not know bitmaps wrote to the image, and cleared the autoclear bit."""
    Image(with_bitmaps).set(autoclear_features=0)
    assert "bitmaps" not in answer("info", with_bitmaps)["format-specific"]["data"]
    prove_info(with_bitmaps)


@pytest.mark.parametrize("compat", ["0.10", "1.1"])
def test_extensions_that_nobody_knows_are_reported_and_not_copied(compat: str, tmp_path: Path) -> None:
    image = make(tmp_path / "image.qcow2", MIB, "write -P 1 0 1M", compat=compat)
    image.extensions((0x12345678, b"what is this"), HIDDEN_MARK)
    told = answer("info", image.path)["header"]["extensions"]
    assert [(each["type"], each["meaning"], each["length"]) for each in told] == [
        (0x12345678, "unknown", 12),
        (HIDDEN, "hidden", 4),
    ]
    assert "0x12345678 (unknown), 12 bytes" in said("info", image.path)
    prove_info(image.path)
    full = prove_full(image.path, tmp_path / "full.qcow2", like=image.path)
    assert set(extension_types(full)) <= {FEATURE_NAMES}


def test_an_image_that_xcp_ng_hides_is_marked_by_list_and_info(tmp_path: Path) -> None:
    folder = tmp_path / "source"
    folder.mkdir()
    make(folder / "base.qcow2", MIB, "write -P 1 0 1M").extensions(HIDDEN_MARK)
    make(folder / "top.qcow2", MIB, "write -P 2 0 64k", backing=("base.qcow2", "qcow2"))
    assert {each["name"]: each.get("hidden", False) for each in answer("list", folder)} == {
        "base.qcow2": True,
        "top.qcow2": False,
    }
    lines = said("list", folder).splitlines()
    assert [("hidden" in line) for line in lines] == [True, False]
    assert answer("info", folder / "base.qcow2")["hidden"] is True
    assert answer("info", folder / "top.qcow2")["hidden"] is False
    assert "hidden: yes" in said("info", folder / "base.qcow2")
    assert "hidden" not in said("info", folder / "top.qcow2")
    oracle.compare(export(folder / "top.qcow2", tmp_path / "full.qcow2"), folder / "top.qcow2")


@pytest.fixture(scope="module", params=["luks", "aes"])
def cipher_and_file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """An image that QEMU encrypted, which takes it seconds, and the name of how."""
    require_tool("qemu-img")
    image = tmp_path_factory.mktemp("encrypted") / "secret.qcow2"
    oracle.create_encrypted(image, request.param)
    return str(request.param).upper(), image


@pytest.fixture
def encrypted(cipher_and_file: tuple[str, Path], tmp_path: Path) -> tuple[str, Path]:
    """The same, in a folder of its own."""
    cipher, image = cipher_and_file
    (tmp_path / "source").mkdir()
    return cipher, Path(shutil.copy(image, tmp_path / "source"))


def test_an_encrypted_image_is_refused_by_the_name_of_its_cipher(encrypted: tuple[str, Path], tmp_path: Path) -> None:
    cipher, image = encrypted
    output = tmp_path / "output.qcow2"
    for words in [("map",), ("measure",), ("export", output), ("info",)]:
        ended = run_vdifs(words[0], image, *words[1:])
        assert (ended.status, ended.out) == (1, "")
        assert f"secret.qcow2: the image is encrypted ({cipher})" in ended.err
    assert not output.exists()
    with pytest.raises(vdifs.UnsupportedError, match=rf"encrypted \({cipher}\)"):
        vdifs.open(image)


def test_an_encrypted_backing_file_is_refused_by_the_name_of_its_cipher(
    encrypted: tuple[str, Path], tmp_path: Path
) -> None:
    """`qemu-img info` of the overlay needs no secret, and neither does ours."""
    cipher, image = encrypted
    top = image.with_name("top.qcow2")
    make(top, MIB, backing=(image.name, "qcow2"))
    ended = run_vdifs("export", top, tmp_path / "output.qcow2")
    assert (ended.status, ended.out) == (1, "")
    assert f"secret.qcow2: the image is encrypted ({cipher})" in ended.err
    prove_info(top)


def test_an_encrypted_image_is_listed_and_leaves_the_others_alone(encrypted: tuple[str, Path]) -> None:
    cipher, image = encrypted
    make(image.with_name("plain.qcow2"), MIB, "write -P 1 0 64k")
    told = {each["name"]: each for each in answer("list", image.parent)}
    assert f"encrypted ({cipher})" in told["secret.qcow2"]["problem"]
    assert told["plain.qcow2"]["own-data"] == 64 * KIB
    ended = run_vdifs("check", image.parent, "--output", "json")
    problems = json.loads(ended.out)["problems"]
    assert ended.status == 1
    assert [(each["name"], each["severity"], each["kind"]) for each in problems] == [
        ("secret.qcow2", "error", "unsupported")
    ]
