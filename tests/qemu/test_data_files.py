"""External data files: the tables in one file, the guest data in another, under the same policy as backing files."""

import json
import os
from pathlib import Path

import pytest

from tests.support import oracle
from tests.support.builder import make
from tests.support.command_line import answer, export, run_vdifs
from tests.support.proofs import Words, prove_delta, prove_full, prove_info, prove_map
from tests.support.units import KIB, MIB

SHAPES: list[dict[str, object]] = [
    {"cluster_size": 512},
    {"cluster_size": 64 * KIB, "lazy_refcounts": "on"},
    {"cluster_size": 128 * KIB, "extended_l2": "on"},
    {"cluster_size": 2 * MIB},
    {"cluster_size": 64 * KIB, "preallocation": "metadata"},
    {"cluster_size": 4 * KIB, "preallocation": "full"},
]
WRITES = [
    "write -P 1 0 100k", "write -P 2 1100k 3000", "write -z 40k 30k", "write -P 3 2M 1M", "write -z -u 2500k 200k",
    "discard 2100k 100k", "write -P 4 3145700 28",
]  # fmt: skip
SIZE = 3 * MIB + 512


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "source").mkdir()
    return tmp_path / "source"


@pytest.mark.parametrize("extended", ["off", "on"])
def test_a_preallocated_zero_at_offset_0_of_a_data_file_has_an_offset_with_subclusters_alone(
    extended: str, folder: Path
) -> None:
    """QEMU takes offset 0 for a place where it says what is data, and not where it says what is preallocated."""
    image = folder / "image.qcow2"
    make(image, MIB, "write -P 1 0 128k", "write -z 0 64k", data_file=folder / "image.data", extended_l2=extended)
    assert ("offset" in answer("map", image)[0]) is (extended == "on")
    prove_map(image, image)


def external(
    folder: Path, options: dict[str, object], *, raw: bool = False, backing: tuple[str, str] | None = None
) -> Path:
    """Create `image.qcow2` with its data in `image.data`, by an absolute name, and write to it."""
    image = folder / "image.qcow2"
    files = {"data_file": folder / "image.data", "data_file_raw": "on" if raw else "off"}
    make(image, SIZE, *WRITES, backing=backing, **(options | files))
    return image


@pytest.mark.parametrize("raw", [False, True], ids=["external", "raw external"])
@pytest.mark.parametrize("options", SHAPES, ids=str)
def test_an_image_with_a_data_file_is_what_qemu_says_it_is(
    options: dict[str, object], raw: bool, folder: Path, tmp_path: Path
) -> None:
    image = external(folder, options, raw=raw)
    prove_info(image)
    prove_map(image, image)
    full = prove_full(image, tmp_path / "full.qcow2", like=image)
    assert "data-file" not in oracle.info(full)["format-specific"]["data"]
    prove_delta(image, image, image, tmp_path / "on itself.qcow2", like=image)
    if raw:  # as long as its clusters
        said = oracle.qemu_img("compare", "-f", "qcow2", "-F", "raw", full, folder / "image.data")
        assert "Images are identical" in said


@pytest.mark.parametrize("options", [{"cluster_size": 4096}, {"cluster_size": 32 * KIB, "extended_l2": "on"}], ids=str)
def test_data_files_may_be_anywhere_in_a_chain(options: dict[str, object], folder: Path, tmp_path: Path) -> None:
    """Base and middle have one each, of their own; the top has none."""
    base, top = folder / "base.qcow2", folder / "top.qcow2"
    make(base, SIZE, "write -P 9 0 3M", data_file=folder / "base.data")
    image = external(folder, options, backing=("base.qcow2", "qcow2"))
    make(
        top,
        SIZE + 64 * KIB,
        "write -P 7 1M 1000",
        "write -z 0 20k",
        "write -P 8 3M 3k",
        backing=("image.qcow2", "qcow2"),
        cluster_size=512,
    )
    for above, bases in [(image, [base]), (top, [image, base])]:
        prove_map(above, above)
        prove_full(above, tmp_path / f"full-{above.name}", like=above)
        for below in bases:
            prove_delta(above, below, below, tmp_path / f"{above.stem}-on-{below.name}", like=above)


@pytest.mark.parametrize("name", ["../outside/image.data", "{absolute}"])
def test_a_data_file_outside_needs_trust(name: str, folder: Path, tmp_path: Path) -> None:
    image, outside = external(folder, {}), tmp_path / "outside"
    outside.mkdir()
    (folder / "image.data").rename(outside / "image.data")
    name_data_file(image, name.format(absolute=outside / "image.data"))
    for words in commands(image, tmp_path / "output.qcow2"):
        ended = run_vdifs(*words)
        assert (ended.status, ended.out) == (1, "")
        assert "not beneath a trusted directory" in ended.err or "above" in ended.err, ended.err
    problems = json.loads(run_vdifs("check", folder, "--output", "json").out)["problems"]
    assert [(each["severity"], each["kind"]) for each in problems] == [("error", "not-trusted")]
    assert not (tmp_path / "output.qcow2").exists()
    name_data_file(image, str(outside / "image.data"))
    full = export(image, tmp_path / "output.qcow2", "--trust", outside)
    oracle.compare(full, image)


def commands(image: Path, output: Path) -> list[Words]:
    """Return the commands that read the tables or the data of an image."""
    return [("map", image), ("measure", image), ("export", image, output), ("export", image, output, "--format", "raw")]


def name_data_file(image: Path, name: str) -> None:
    """State another data file, no longer than the name of before may be."""
    file = bytearray(image.read_bytes())
    at = file.index(b"DATA")
    length = int.from_bytes(file[at + 4 : at + 8], "big")
    tail = file[at + 8 + -(-length // 8) * 8 : 4096]
    packed = b"DATA" + len(name).to_bytes(4, "big") + name.encode() + bytes(-len(name) % 8) + tail
    file[at : at + len(packed)] = packed
    image.write_bytes(file)


@pytest.mark.parametrize("as_backing_file", [False, True])
def test_a_data_file_that_is_missing_is_said_to_be_missing(as_backing_file: bool, folder: Path, tmp_path: Path) -> None:
    image = external(folder, {})
    (folder / "image.data").unlink()
    if as_backing_file:
        oracle.qemu_img("create", "-q", "-u", "-f", "qcow2", "-b", image, "-F", "qcow2", folder / "top.qcow2", "3M")
        image = folder / "top.qcow2"
    for words in commands(image, tmp_path / "output.qcow2"):
        ended = run_vdifs(*words)
        assert (ended.status, ended.out) == (1, "")
        assert "image.qcow2: its data file cannot be opened: " in ended.err
        assert "image.data: No such file or directory" in ended.err
    assert answer("info", folder / "image.qcow2")["format-specific"]["data"]["data-file"].endswith("image.data")


def test_the_holes_of_a_data_file_are_zeros(folder: Path, tmp_path: Path) -> None:
    """A preallocated disk of 1 GiB of which 1 MiB is written: the full image holds that and no more."""
    image = folder / "image.qcow2"
    files = {"data_file": folder / "image.data", "data_file_raw": "on"}
    make(image, 1 << 30, "write -P 1 100M 1M", backing=None, preallocation="metadata", **files)
    os.truncate(folder / "image.data", 1 << 30)
    full = prove_full(image, tmp_path / "full.qcow2", like=image)
    assert full.stat().st_size < 2 * MIB
    prove_map(image, image)
