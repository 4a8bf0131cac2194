"""`vdifs export --compress`: what it says and refuses, and how it is interrupted."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import COMMAND, Vdifs
from tests.support import oracle
from tests.support.builder import make
from tests.support.compressing import mixed

MIB = 1 << 20


@pytest.fixture
def image(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    make(folder / "image.qcow2", 8 * MIB)
    (tmp_path / "data").write_bytes(mixed(40, 1 << 16, 3))
    oracle.qemu_io(folder / "image.qcow2", [f"write -s {tmp_path / 'data'} 0 2560k"])
    (tmp_path / "data").unlink()
    return folder / "image.qcow2"


@pytest.mark.parametrize("words", [["deflate"], ["zstd", "--level", "19"]], ids=" ".join)
def test_it_says_nothing_and_the_file_is_there(words: list[str], image: Path, tmp_path: Path, vdifs: Vdifs) -> None:
    output = tmp_path / "output.qcow2"
    assert vdifs("export", image, output, "--compress", *words) == (0, "", "")
    oracle.check(output)
    oracle.compare(output, image)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--compress", "lzma"], "'lzma' is not one of 'deflate', 'zstd'"),
        (["--level", "3"], "--level needs --compress"),
        (["--compress", "zstd", "--level", "20"], "zstd has no level 20: give one from 1 to 19"),
        (["--compress", "deflate", "--level", "0"], "deflate has no level 0: give one from 1 to 9"),
        (["--compress", "deflate", "--level", "best"], "'best' is not a valid integer"),
        (["--compress", "zstd", "--format", "raw"], "it does not go with --format raw"),
        (["--compress", "zstd", "--format", "vhd"], "it does not go with --format vhd"),
    ],
)
def test_what_cannot_be_asked_for_is_wrong_usage(
    words: list[str], said: str, image: Path, tmp_path: Path, vdifs: Vdifs
) -> None:
    status, out, err = vdifs("export", image, tmp_path / "output.qcow2", *words)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert said in err
    assert os.listdir(tmp_path) == ["images"]


def test_a_pipe_is_refused(image: Path, tmp_path: Path, vdifs: Vdifs) -> None:
    os.mkfifo(tmp_path / "pipe")
    for output, shown in (("-", "standard output"), (tmp_path / "pipe", tmp_path / "pipe"), ("/dev/null", "/dev/null")):
        status, out, err = vdifs("export", image, output, "--compress", "zstd")
        assert (status, out) == (2, "")
        assert err == (
            f"vdifs: {shown}: packed clusters go into a regular file only: where they lie is known when all are "
            "packed: name a file, or leave out --compress\n"
        )


def test_an_existing_output_is_kept_unless_forced(image: Path, tmp_path: Path, vdifs: Vdifs) -> None:
    output = tmp_path / "output.qcow2"
    output.write_bytes(b"precious")
    assert vdifs("export", image, output, "--compress", "zstd").status == 2
    assert output.read_bytes() == b"precious"
    assert vdifs("export", image, output, "--compress", "zstd", "--force") == (0, "", "")
    oracle.compare(output, image)


def test_a_member_of_the_chain_is_never_overwritten(image: Path, vdifs: Vdifs) -> None:
    before = image.read_bytes()
    assert vdifs("export", image, image, "--compress", "zstd", "--force").status == 2
    assert image.read_bytes() == before


def test_progress_in_json_ends_with_the_data(image: Path, tmp_path: Path, vdifs: Vdifs) -> None:
    status, out, err = vdifs("export", image, tmp_path / "output", "--compress", "zstd", "--progress", "json")
    assert (status, out) == (0, "")
    reports = [json.loads(line) for line in err.splitlines()]
    assert reports[-1] == {"done": 2560 << 10, "total": 2560 << 10}


def test_the_help_tells_the_levels(vdifs: Vdifs) -> None:
    said = " ".join(vdifs("export", "--help").out.split())
    assert "deflate 1 to 9 (default 5), zstd 1 to 19 (default 2)" in said


def test_an_interrupted_export_leaves_no_file(tmp_path: Path) -> None:
    """In clusters of 2 MiB at the highest level, each of which takes a second or so."""
    make(tmp_path / "image.qcow2", 64 * MIB, cluster_size=2 * MIB)
    (tmp_path / "data").write_bytes(mixed(128, 1 << 16, 3))
    oracle.qemu_io("image.qcow2", [f"write -s {tmp_path / 'data'} {at}M 8M" for at in range(0, 64, 8)], cwd=tmp_path)
    (tmp_path / "data").unlink()
    command = [*COMMAND, "export", "image.qcow2", "output.qcow2", "--compress", "zstd", "--level", "19"]
    with subprocess.Popen([*command, "--progress", "json"], cwd=tmp_path, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        while not json.loads(process.stderr.readline())["done"]:
            pass
        assert len(os.listdir(tmp_path)) == 2, "a part of the output is there"
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
    assert (process.returncode, rest.splitlines()[-1]) == (130, b"vdifs: interrupted")
    assert os.listdir(tmp_path) == ["image.qcow2"]
