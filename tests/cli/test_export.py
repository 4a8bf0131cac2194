"""`vdifs export`: the right bytes in the right place, or nothing at all."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import COMMAND, Vdifs, run_process
from tests.support import oracle
from tests.support.builder import make


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder with `base.qcow2 <- monday.qcow2 <- tuesday.qcow2`."""
    folder = tmp_path / "images"
    folder.mkdir()
    make(folder / "base.qcow2", 8 << 20, cluster_size="64k")
    oracle.qemu_io("base.qcow2", ["write -P 1 0 3M"], cwd=folder)
    make(folder / "monday.qcow2", 8 << 20, backing=("base.qcow2", "qcow2"), cluster_size="1k")
    oracle.qemu_io("monday.qcow2", ["write -P 2 1M 100k", "write -z 2M 64k"], cwd=folder)
    make(folder / "tuesday.qcow2", 9 << 20, backing=("monday.qcow2", "qcow2"), cluster_size="2M")
    oracle.qemu_io("tuesday.qcow2", ["write -P 3 8M 1M"], cwd=folder)
    return folder


def names_in(folder: Path) -> set[str]:
    return set(os.listdir(folder))


def test_a_full_image_needs_no_other(images: Path, tmp_path: Path, vdifs: Vdifs) -> None:
    output = tmp_path / "output.qcow2"
    assert vdifs("export", images / "tuesday.qcow2", output) == (0, "", "")
    oracle.check(output)
    oracle.compare(output, images / "tuesday.qcow2")
    assert "backing-filename" not in oracle.info(output)


@pytest.mark.parametrize("base", ["base.qcow2", "monday.qcow2", "tuesday.qcow2"])
def test_a_delta_opens_beside_its_base(base: str, images: Path, vdifs: Vdifs) -> None:
    output = images / "output.qcow2"
    assert vdifs("export", images / "tuesday.qcow2", output, "--base", images / base) == (0, "", "")
    oracle.check(output)
    oracle.compare(output, images / "tuesday.qcow2")
    said = oracle.info(output)
    assert (said["backing-filename"], said["backing-filename-format"]) == (base, "qcow2")
    holds_data = any(extent.depth == 0 and extent.data for extent in oracle.map_of(output))
    assert holds_data == (base != "tuesday.qcow2")


def test_names_are_taken_from_the_working_directory(
    images: Path, vdifs: Vdifs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(images.parent)
    assert vdifs("export", "images/monday.qcow2", "output.qcow2", "--base", "images/base.qcow2").status == 0
    assert names_in(images.parent) == {"images", "output.qcow2"}


def test_raw_contents(images: Path, tmp_path: Path, vdifs: Vdifs) -> None:
    output = tmp_path / "output.raw"
    assert vdifs("export", images / "tuesday.qcow2", output, "--format", "raw") == (0, "", "")
    oracle.compare(output, images / "tuesday.qcow2", left_format="raw")


def test_standard_output_gets_the_same_bytes_and_nothing_else(images: Path, tmp_path: Path, vdifs: Vdifs) -> None:
    assert vdifs("export", images / "monday.qcow2", tmp_path / "output.qcow2").status == 0
    done = run_process("export", images / "monday.qcow2", "-", "--progress", "json")
    assert done.returncode == 0
    assert done.stdout == (tmp_path / "output.qcow2").read_bytes()


def test_cluster_size_and_backing_name_are_as_asked(images: Path, tmp_path: Path, vdifs: Vdifs) -> None:
    output = tmp_path / "output.qcow2"
    options = ["--base", images / "base.qcow2", "--backing-name", "images/base.qcow2", "--cluster-size", "128K"]
    assert vdifs("export", images / "tuesday.qcow2", output, *options) == (0, "", "")
    assert oracle.info(output)["backing-filename"] == "images/base.qcow2"
    assert oracle.info(output)["cluster-size"] == 128 << 10
    oracle.check(output)
    oracle.compare(output, images / "tuesday.qcow2")


def test_a_snapshot_is_named_after_an_at_sign(images: Path, tmp_path: Path, vdifs: Vdifs) -> None:
    oracle.qemu_img("snapshot", "-c", "before", images / "monday.qcow2")
    wanted = oracle.materialize(images / "monday.qcow2", tmp_path / "wanted.raw")
    oracle.qemu_io("monday.qcow2", ["write -P 9 0 64k"], cwd=images)
    assert vdifs("export", f"{images / 'monday.qcow2'}@before", tmp_path / "output.qcow2") == (0, "", "")
    oracle.compare(tmp_path / "output.qcow2", wanted, right_format="raw")


def test_an_existing_output_is_kept_unless_forced(images: Path, tmp_path: Path, vdifs: Vdifs) -> None:
    output = tmp_path / "output.qcow2"
    output.write_bytes(b"precious")
    status, _, err = vdifs("export", images / "base.qcow2", output)
    assert (status, output.read_bytes()) == (2, b"precious")
    assert "--force" in err
    assert vdifs("export", images / "base.qcow2", output, "--force").status == 0
    oracle.compare(output, images / "base.qcow2")


@pytest.mark.parametrize("member", ["base.qcow2", "monday.qcow2", "hard-link.qcow2", "link.qcow2"])
def test_a_member_of_the_chain_is_never_overwritten(member: str, images: Path, vdifs: Vdifs) -> None:
    (images / "hard-link.qcow2").hardlink_to(images / "base.qcow2")
    (images / "link.qcow2").symlink_to("base.qcow2")
    before = {name: (images / name).read_bytes() for name in names_in(images)}
    status, _, _ = vdifs("export", images / "monday.qcow2", images / member, "--force")
    assert status == 2
    assert {name: (images / name).read_bytes() for name in names_in(images)} == before


@pytest.mark.parametrize(
    ("output", "options"),
    [
        ("base.qcow2", []),
        ("base.qcow2", ["--base", "alias.qcow2"]),
        ("output.qcow2", ["--backing-name", "output.qcow2"]),
        ("output.qcow2", ["--backing-name", "./sub/../output.qcow2"]),
        ("link/output.qcow2", ["--backing-name", "output.qcow2"]),
        ("output.qcow2", ["--backing-name", "link/output.qcow2"]),
        ("output.qcow2", ["--backing-name", "leads-to-output.qcow2"]),
    ],
)
def test_an_output_that_its_backing_name_leads_to_is_never_written(
    output: str, options: list[str], images: Path, tmp_path: Path, vdifs: Vdifs, monkeypatch: pytest.MonkeyPatch
) -> None:
    (images / "alias.qcow2").symlink_to("base.qcow2")
    folder = tmp_path / "out"
    (folder / "sub").mkdir(parents=True)
    (folder / "link").symlink_to(".")
    (folder / "leads-to-output.qcow2").symlink_to("output.qcow2")
    before = names_in(folder)
    command = ["export", "monday.qcow2", folder / output, "--base", "base.qcow2", "--force", *options]
    monkeypatch.chdir(images)
    status, _, err = vdifs(*command)
    assert status == 2
    assert "lead back to it" in err
    assert names_in(folder) == before


@pytest.mark.parametrize(
    "options",
    [
        ["--format", "raw", "--base", "base.qcow2"],
        ["--format", "raw", "--cluster-size", "64k"],
        ["--format", "raw", "--extended-l2"],
        ["--format", "vhd", "--base", "base.qcow2"],
        ["--format", "vhd-fixed", "--cluster-size", "64k"],
        ["--format", "vhdx"],
        ["--format", "vmdk", "--base", "base.qcow2"],
        ["--backing-name", "base.qcow2"],
        ["--cluster-size", "100"],
        ["--cluster-size", "65537"],
        ["--cluster-size", "4M"],
        ["--cluster-size", "big"],
    ],
    ids=" ".join,
)
def test_what_cannot_be_asked_for_is_wrong_usage(
    options: list[str], images: Path, tmp_path: Path, vdifs: Vdifs
) -> None:
    status, out, err = vdifs("export", images / "monday.qcow2", tmp_path / "output.qcow2", *options)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert names_in(tmp_path) == {"images"}


def test_a_base_that_shares_nothing_is_refused(images: Path, tmp_path: Path, vdifs: Vdifs) -> None:
    make(images / "stranger.qcow2", 8 << 20)
    command = ["export", images / "monday.qcow2", tmp_path / "output.qcow2", "--base", images / "stranger.qcow2"]
    status, _, err = vdifs(*command)
    assert status == 1
    assert "stranger.qcow2 is not in its chain" in err
    assert names_in(tmp_path) == {"images"}


def test_a_backing_file_outside_needs_trust(images: Path, tmp_path: Path, vdifs: Vdifs) -> None:
    (tmp_path / "elsewhere").mkdir()
    image = tmp_path / "elsewhere" / "a.qcow2"
    make(image, 8 << 20, backing=(str(images / "base.qcow2"), "qcow2"))
    status, _, err = vdifs("export", image, tmp_path / "output.qcow2")
    assert status == 1
    assert f"--trust {images}" in err
    assert vdifs("export", image, tmp_path / "output.qcow2", "--trust", images).status == 0
    oracle.compare(tmp_path / "output.qcow2", image)


def test_damage_that_shows_on_the_way_leaves_no_file(images: Path, tmp_path: Path, vdifs: Vdifs) -> None:
    image = images / "base.qcow2"
    os.truncate(image, image.stat().st_size - (1 << 20))
    (tmp_path / "out").mkdir()
    status, _, err = vdifs("export", image, tmp_path / "out" / "output.qcow2")
    assert (status, err.count("\n")) == (1, 1)
    assert str(image) in err
    assert names_in(tmp_path / "out") == set()


ENDLESS_EXPORT = """
import vdifs.output.export.transfer as transfer
write = transfer._Copy._write
transfer._Copy._write = lambda copy, at, *what: copy._stopped.wait(100) if at >= 8 << 20 else write(copy, at, *what)
"""
"""The first 8 MiB are written, and then no more until the export is to stop."""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_export_leaves_no_file(number: signal.Signals, tmp_path: Path) -> None:
    make(tmp_path / "image.qcow2", 16 << 20)
    oracle.qemu_io("image.qcow2", ["write -P 1 0 16M"], cwd=tmp_path)
    command = [COMMAND[0], "-c", ENDLESS_EXPORT + COMMAND[2]]
    command += ["export", "image.qcow2", "output.qcow2", "--progress", "json"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        while not json.loads(process.stderr.readline())["done"]:
            pass
        assert len(names_in(tmp_path)) == 2, "a part of the output is there"
        process.send_signal(number)
        rest = process.stderr.read()
    assert (process.returncode, rest.splitlines()[-1]) == (128 + number, b"vdifs: interrupted")
    assert names_in(tmp_path) == {"image.qcow2"}


def test_an_export_under_nohup_survives_the_end_of_its_terminal(images: Path) -> None:
    reading, writing = os.pipe()
    with subprocess.Popen(
        ["nohup", *COMMAND, "export", images / "tuesday.qcow2", "-"], stdout=writing, stderr=subprocess.PIPE
    ) as process:
        os.close(writing)
        with open(reading, "rb") as pipe:
            assert pipe.read(4) == b"QFI\xfb"
            process.send_signal(signal.SIGHUP)
            pipe.read()
    assert process.returncode == 0


def test_a_reader_of_the_pipe_that_has_enough_is_no_news(images: Path) -> None:
    with subprocess.Popen(
        [*COMMAND, "export", images / "tuesday.qcow2", "-"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(4) == b"QFI\xfb"
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


def test_a_full_disk_is_one_line(images: Path) -> None:
    with open("/dev/full", "wb") as full:
        done = run_process("export", images / "base.qcow2", "-", stdout=full)
    assert (done.returncode, done.stderr) == (
        1,
        b"vdifs: standard output: No space left on device: make room, or write elsewhere\n",
    )


def test_progress_in_json_ends_with_the_size(images: Path, tmp_path: Path, vdifs: Vdifs) -> None:
    output = tmp_path / "output.qcow2"
    status, out, err = vdifs("export", images / "tuesday.qcow2", output, "--progress", "json")
    assert (status, out) == (0, "")
    reports = [json.loads(line) for line in err.splitlines()]
    assert reports[-1] == {"done": output.stat().st_size, "total": output.stat().st_size}
    assert [report["done"] for report in reports] == sorted(report["done"] for report in reports)


def test_a_bar_is_drawn_where_it_is_asked_for(images: Path, tmp_path: Path, vdifs: Vdifs) -> None:
    assert vdifs("export", images / "base.qcow2", tmp_path / "output.qcow2", "--progress", "bar")[:2] == (0, "")
