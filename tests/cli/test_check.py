"""`vdifs check`: each problem it knows, in an image of QEMU's; beside it, sound images of which it says nothing.

`qemu-img check` is asked about the same image. It looks at one file and at what writing to it needs, `vdifs check` at
a chain and at what reading it needs: where the verdicts differ, that is why.
"""

import errno
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Vdifs, run_process
from tests.cli.problems import (
    CASES,
    FOLDER,
    GONE,
    L2_TABLE,
    REFCOUNT_BLOCK,
    SOUND,
    Case,
    Line,
    anew,
    beside,
    error,
    image_in,
    put,
    set_refcounts,
    with_data_file,
    with_snapshot,
)
from tests.support import oracle
from tests.support.builder import CLUSTER, make, make_raw, rebase
from tests.support.image_file import Image
from tests.support.units import MIB
from vdifs.cli.render.text import kept_text
from vdifs.formats.qcow2.file_tables import FileTables


@pytest.fixture
def image(tmp_path: Path) -> Image:
    """The image that will have a problem; beside it `good.qcow2`, which has none."""
    folder = tmp_path / "images"
    folder.mkdir()
    image_in(folder, "good.qcow2")
    return image_in(folder)


def verdict(vdifs: Vdifs, source: str | Path, folder: Path) -> tuple[int, list[Line]]:
    """Return the exit status and the problems, the same for programs and people, who are told what to do too."""
    ended = vdifs("check", source, "--output", "json")
    answer: dict[str, Any] = json.loads(ended.out)
    problems = answer["problems"]
    assert (ended.err, list(answer)) == ("", ["images", "problems"])
    assert all(list(problem) == ["name", "severity", "kind", "message", "keeps"] for problem in problems)
    kept = [[each["name"] for each in problem["keeps"]] for problem in problems]
    assert all(bool(names) == (p["severity"] == "error") for names, p in zip(kept, problems, strict=True))
    assert all(names == sorted(set(names)) for names in kept)
    errors = sum(problem["severity"] == "error" for problem in problems)
    lines = [
        f"{p['severity']}: {p['message']}{kept_text(p['name'], names)}" for p, names in zip(problems, kept, strict=True)
    ]
    images = "1 image" if answer["images"] == 1 else f"{answer['images']} images"
    counted = f"{images}, {'1 error' if errors == 1 else f'{errors} errors'}"
    status, out, err = vdifs("check", source)
    told = out.splitlines()
    assert (status, len(told), told[-1], err) == (ended.status, len(lines) + 1, counted, "")
    assert told[:-1] == lines
    assert all(line.isprintable() for line in told)
    refused = [p["message"] for p in problems if p["severity"] == "error" and p["kind"] in ("damaged", "unsupported")]
    assert all(re.search("[:;] (restore|repair|name|convert) ", message) for message in refused), "each says what to do"
    remedy = ": (restore it from a copy, or|name a qcow2, VHD, VHDX, VMDK or VDI image,|convert it with) .*"
    said = [
        re.sub(remedy, "", f"{p['message']} ".replace(f"{folder}/", FOLDER).replace(f"{folder} ", FOLDER[:-1]).rstrip())
        for p in problems
    ]
    return ended.status, [(p["name"], p["severity"], p["kind"], text) for p, text in zip(problems, said, strict=True)]


def keeps(vdifs: Vdifs, folder: Path) -> dict[str, list[str]]:
    """Return which images each problem keeps from being served, by the one that has it."""
    problems = json.loads(vdifs("check", folder, "--output", "json").out)["problems"]
    return {problem["name"]: [each["name"] for each in problem["keeps"]] for problem in problems}


def by_qemu(image: Path) -> int:
    """Return the exit status of `qemu-img check`."""
    try:
        oracle.qemu_img("check", "-f", "qcow2", image)
    except oracle.OracleError as error:
        ended = re.match(r"exit status (\d+):", str(error))
        if ended is None:
            raise
        return int(ended[1])
    return 0


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_each_problem_is_told_and_nothing_of_the_images_beside_it(case: Case, image: Image, vdifs: Vdifs) -> None:
    folder = image.path.parent
    assert verdict(vdifs, folder, folder) == (0, [])
    assert by_qemu(image.path) == SOUND
    case.damage(image)
    status = 1 if any(severity == "error" for _, severity, _, _ in case.said) else 0
    assert verdict(vdifs, folder, folder) == (status, list(case.said))
    assert case.qemu is None or by_qemu(image.path) == case.qemu


def test_every_kind_of_problem_has_a_case() -> None:
    """But for those that a still image which one may read on a sound disk cannot have; they are further down."""
    kinds = {kind for case in CASES for _, _, kind, _ in case.said}
    assert kinds == {
        "bitmaps", "broken-chain", "damaged", "dirty", "hidden", "name-taken", "no-image", "not-trusted", "overlap",
        "refcounts", "reserved-bits", "shorter", "shrunk", "skipped-link", "unstated-format", "unsupported",
    }  # fmt: skip


@pytest.fixture(params=["plain", "snapshots", "compressed", "zstd", "subclusters", "data file", "bitmap", "state"])
def sound(request: pytest.FixtureRequest, image: Image) -> Image:
    """An image with a feature that might be taken for a problem."""
    match request.param:
        case "snapshots":
            for number in range(3):
                oracle.qemu_img("snapshot", "-c", f"s{number}", image.path)
                image.io(f"write -P {number} {number * 64}k 128k", f"write -c -P 9 {512 + 64 * number}k 64k")
            oracle.qemu_img("snapshot", "-d", "s1", image.path)
        case "compressed":
            anew(image, MIB, *(f"write -c -P {n} {n * 64}k 64k" for n in range(1, 16)), cluster_size=512)
        case "zstd":
            anew(image, MIB, *(f"write -c -P {n} {n * 64}k 64k" for n in range(1, 16)), compression_type="zstd")
        case "subclusters":
            anew(image, MIB, "write -z 100k 10k", "write -c -P 1 512k 64k", extended_l2="on")
        case "data file":
            with_data_file(image)
        case "bitmap":
            oracle.qemu_img("bitmap", "--add", image.path, "b")
            image.io("write -P 2 256k 64k")
        case "state":
            image.io("write -b -P 7 0 128k")
            oracle.qemu_img("snapshot", "-c", "with state", image.path)
            image.io("write -P 3 0 192k")
    return image


def test_of_a_sound_image_nothing_is_told(sound: Image, vdifs: Vdifs) -> None:
    oracle.check(sound.path)
    folder = sound.path.parent
    assert verdict(vdifs, folder, folder) == (0, [])


def test_a_shrunk_image_with_nothing_longer_below_hides_nothing(image: Image, vdifs: Vdifs) -> None:
    folder = image.path.parent
    make(folder / "longer.qcow2", 2 * MIB, backing=("image.qcow2", "qcow2"))
    make(folder / "longest.qcow2", 3 * MIB, backing=("longer.qcow2", "qcow2"))
    _, said = verdict(vdifs, folder, folder)
    assert [line[:3] for line in said] == [
        ("image.qcow2", "note", "shorter"),
        ("longer.qcow2", "note", "shorter"),
    ]


def test_a_damaged_header_is_an_error_of_every_image_above_it(image: Image, vdifs: Vdifs) -> None:
    """None of them can be served; it is told once, as is a warning about a file that many stand on."""
    folder = image.path.parent
    beside(image, "base.qcow2").set(incompatible_features=1)
    _, said = verdict(vdifs, folder, folder)
    assert [line[:3] for line in said] == [("base.qcow2", "warning", "dirty")]
    beside(image, "base.qcow2").set(incompatible_features=2)
    status, said = verdict(vdifs, folder, folder)
    assert (status, [line[:3] for line in said]) == (1, [("base.qcow2", "error", "damaged")])
    assert keeps(vdifs, folder) == {"base.qcow2": ["base.qcow2", "good.qcow2", "image.qcow2"]}


def test_what_is_wrong_with_a_file_is_told_once_and_not_of_each_snapshot(image: Image, vdifs: Vdifs) -> None:
    with_snapshot(image)
    image.set(incompatible_features=1)
    set_refcounts(image, REFCOUNT_BLOCK | 1)
    _, said = verdict(vdifs, image.path.parent, image.path.parent)
    assert [line[:3] for line in said] == [
        ("image.qcow2", "warning", "dirty"),
        ("image.qcow2", "note", "reserved-bits"),
    ]


def test_damage_hides_no_other_problem(image: Image, vdifs: Vdifs) -> None:
    """The first L2 table is damaged; what is said of the other one is said all the same."""
    anew(image, 1 << 30, "write -P 1 600M 64k", cluster_size="16k")
    image.set_l2(3, 0x12345600)
    far = (600 << 20) >> 14
    image.set_l2(far, image.l2_entry(far) | 1 << 57)
    image.set_l2(far + 7, image.l1_entry(0))
    folder = image.path.parent
    status, said = verdict(vdifs, image.path, folder)
    assert (status, [line[1:3] for line in said if line[0] == "image.qcow2"]) == (
        1,
        [("error", "damaged"), ("warning", "overlap"), ("note", "reserved-bits")],
    )


def test_a_raw_backing_file_is_an_image_whatever_its_name(image: Image, vdifs: Vdifs) -> None:
    """Where a qcow2 states it to be raw (docs/specification.md 2.4); `list` says so too, even where that is refused."""
    folder = image.path.parent
    make_raw(folder / "disk.bin", bytes(MIB))
    make(folder / "on raw.qcow2", MIB, backing=("disk.bin", "raw"))
    assert verdict(vdifs, folder, folder) == (0, [])
    Image(folder / "on raw.qcow2").set_l1(0, GONE)
    status, said = verdict(vdifs, folder, folder)
    assert (status, [line[0] for line in said]) == (1, ["on raw.qcow2"])
    listed = {each["name"]: each for each in json.loads(vdifs("list", folder, "--output", "json").out)}
    assert "problem" not in listed["disk.bin"]
    assert "problem" in listed["on raw.qcow2"]


@pytest.mark.parametrize("name", ["s", "1"])
def test_a_snapshot_is_looked_at_with_its_chain_and_without_the_rest_of_its_file(
    name: str, image: Image, vdifs: Vdifs
) -> None:
    put(with_snapshot(image), L2_TABLE + 8 * 9, 1 << 57)
    image.set_l2(3, 0x12345600)
    folder = image.path.parent
    beside(image, "base.qcow2").set(incompatible_features=1)
    status, said = verdict(vdifs, f"{image.path}@{name}", folder)
    assert (status, [line[:3] for line in said]) == (
        0,
        [("base.qcow2", "warning", "dirty"), ("image.qcow2@s", "note", "reserved-bits")],
    )
    assert vdifs("check", f"{image.path}@{name}").out.endswith("\n2 images, 0 errors\n")
    status, said = verdict(vdifs, image.path, folder)
    assert (status, [line[:3] for line in said]) == (
        1,
        [
            ("image.qcow2", "error", "damaged"),
            ("base.qcow2", "warning", "dirty"),
            ("image.qcow2@s", "note", "reserved-bits"),
        ],
    )


def test_a_snapshot_that_is_not_there_is_an_error(image: Image, vdifs: Vdifs) -> None:
    assert verdict(vdifs, f"{image.path}@gone", image.path.parent) == (
        1,
        list(
            error(
                "broken-chain",
                "it has no snapshot 'gone': choose one of its snapshots (none)",
                name="image.qcow2@gone",
            )
        ),
    )


@pytest.mark.parametrize("suffix", ["", "@s"])
def test_a_file_that_is_no_image_is_refused_and_not_found_sound(suffix: str, tmp_path: Path, vdifs: Vdifs) -> None:
    file = make_raw(tmp_path / "a.qcow2", b"QFI\xfa" + bytes(CLUSTER))
    assert vdifs("check", f"{file}{suffix}") == (
        1,
        "",
        f"vdifs: {file}: no image: name a qcow2, VHD, VHDX, VMDK, VDI or raw image, or a directory of them\n",
    )
    status, out, _ = vdifs("check", tmp_path)
    assert status == 0
    assert re.fullmatch(r"warning: .*/a\.qcow2: left out: .*\n0 images, 0 errors\n", out)


def test_trust_makes_a_problem_go_away(image: Image, tmp_path: Path, vdifs: Vdifs) -> None:
    (tmp_path / "outside").mkdir()
    outside = make(tmp_path / "outside" / "base.qcow2", MIB).path
    rebase(image, str(outside))
    folder = image.path.parent
    status, said = verdict(vdifs, folder, folder)
    assert (status, [line[2] for line in said]) == (1, ["not-trusted"])
    assert vdifs("check", folder, "--trust", outside.parent) == (0, "4 images, 0 errors\n", "")


def test_a_disk_that_fails_makes_an_image_unreadable(
    image: Image, vdifs: Vdifs, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, pread = image.path.parent, os.pread

    def failing(fd: int, length: int, offset: int) -> bytes:
        if offset == 0x40000 and os.fstat(fd).st_ino == image.path.stat().st_ino:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return pread(fd, length, offset)

    monkeypatch.setattr(os, "pread", failing)
    wanted = error("unreadable", "reading at 0x40000 failed: Input/output error: check the disk below")
    assert verdict(vdifs, folder, folder) == (1, list(wanted))


def test_an_image_that_is_written_meanwhile_is_told_to_be_changing(
    image: Image, vdifs: Vdifs, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = FileTables.of

    def of_and_then(file: Any, header: Any) -> FileTables:
        tables = of(file, header)
        if file.path.endswith("image.qcow2"):
            with image.path.open("r+b") as written:
                written.write(b"Q")
        return tables

    monkeypatch.setattr(FileTables, "of", of_and_then)
    wanted = error("changing", "changed since it was opened: open it again for its new contents")
    folder = image.path.parent
    assert verdict(vdifs, folder, folder) == (1, list(wanted))


def test_a_name_that_is_no_utf_8_is_told_in_hex_too(tmp_path: Path) -> None:
    name = os.fsdecode(b"a\xff.qcow2")
    make(tmp_path / name, MIB).set(incompatible_features=1)
    done = run_process("check", tmp_path, "--output", "json")
    (problem,) = json.loads(done.stdout)["problems"]
    assert (done.returncode, problem["name"], problem["name_hex"]) == (0, "a\ufffd.qcow2", "61ff2e71636f7732")
    assert run_process("check", tmp_path).stdout.startswith(rb"warning: %b/a\udcff.qcow2: " % os.fsencode(tmp_path))


@pytest.mark.parametrize("command", ["check", "list"])
def test_people_are_told_what_to_do_about_damage(command: str, image: Image, vdifs: Vdifs) -> None:
    os.truncate(image.path, 80)
    assert (
        "the header ends after 80 bytes, expected at least 104: restore it from a copy"
        in vdifs(command, image.path.parent).out
    )


def test_a_missing_base_is_one_problem_and_names_all_that_stand_on_it(tmp_path: Path, vdifs: Vdifs) -> None:
    base = make(tmp_path / "base.qcow2", MIB).path
    for number in range(30):
        make(tmp_path / f"o{number:02}.qcow2", MIB, backing=("base.qcow2", "qcow2"))
    make(tmp_path / "above.qcow2", MIB, backing=("o07.qcow2", "qcow2"))
    base.unlink()
    assert keeps(vdifs, tmp_path) == {"o00.qcow2": ["above.qcow2", *(f"o{number:02}.qcow2" for number in range(30))]}
    status, out, _ = vdifs("check", tmp_path)
    problem, counted = out.splitlines()
    assert (status, counted) == (1, "31 images, 1 error")
    assert f"{base}: No such file or directory" in problem
    named = "above.qcow2, o00.qcow2, o01.qcow2, o02.qcow2, o03.qcow2 and 26 more"
    assert problem.endswith(f" (keeps 31 images from being served: {named})")


@pytest.mark.parametrize("how", ["untrusted", "loop", "damaged table"])
def test_each_problem_is_told_once(how: str, image: Image, vdifs: Vdifs) -> None:
    """Wherever it is met first, and whatever the images name it from."""
    folder = image.path.parent
    beside(image, "good.qcow2").path.unlink()
    for number in range(3):
        make(folder / f"o{number}.qcow2", MIB, backing=("image.qcow2", "qcow2"))
    match how:
        case "untrusted":
            (outside := folder.parent / "outside").mkdir()
            (folder / "base.qcow2").rename(outside / "base.qcow2")
            for name in ("image", "o2"):
                rebase(beside(image, f"{name}.qcow2"), str(outside / "base.qcow2"))
        case "loop":
            rebase(beside(image, "base.qcow2"), "image.qcow2")
        case "damaged table":
            image.set_l2(3, 0x12345600)
    (kept,) = keeps(vdifs, folder).values()
    assert {"image.qcow2", "o0.qcow2", "o1.qcow2", "o2.qcow2"} == set(kept) - {"base.qcow2"}
