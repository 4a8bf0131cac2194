"""The boundary: whatever happens, one line on standard error and a status of 0, 1 or 2."""

import os
import re
from pathlib import Path

import pytest

from tests.cli.conftest import Vdifs, run_process
from tests.support import oracle
from tests.support.builder import make
from vdifs import __version__
from vdifs.report import info as vdifs_info


def raising(error: BaseException, *_: object) -> None:
    raise error


def test_version_goes_to_standard_output(vdifs: Vdifs) -> None:
    assert vdifs("--version") == (0, f"vdifs {__version__}\n", "")


def test_no_command_shows_the_help_and_is_wrong_usage(vdifs: Vdifs) -> None:
    ended = vdifs()
    assert (ended.status, ended.out) == (2, "")
    assert "export" in ended.err


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["frobnicate"], "vdifs: no such command 'frobnicate': see 'vdifs --help'\n"),
        (["info"], "vdifs: info: missing argument 'IMAGE': see 'vdifs info --help'\n"),
        (["info", "--frob", "x"], "vdifs: info: no such option '--frob': see 'vdifs info --help'\n"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(vdifs: Vdifs, words: list[str], line: str) -> None:
    status, out, err = vdifs(*words)
    assert (status, out) == (2, "")
    assert err.lower() == line.lower()


def test_a_failure_is_one_line_and_status_1(vdifs: Vdifs, tmp_path: Path) -> None:
    missing = tmp_path / "missing.qcow2"
    assert vdifs("info", missing) == (
        1,
        "",
        f"vdifs: {missing}: No such file or directory: restore it, or correct the name\n",
    )


def test_a_name_cannot_forge_a_second_line(vdifs: Vdifs, tmp_path: Path) -> None:
    status, _, err = vdifs("info", tmp_path / "x\nvdifs: all is well\x1b[2J")
    assert status == 1
    assert err.count("\n") == 1
    assert "\x1b" not in err


@pytest.mark.parametrize("words", [["--debug", "info", "missing"], ["info", "missing", "--debug"]])
def test_debug_shows_where_it_failed(words: list[str], tmp_path: Path) -> None:
    done = run_process(*words, cwd=tmp_path)
    assert done.returncode == 1
    assert b"Traceback" in done.stderr


def test_a_bug_is_one_line_too(vdifs: Vdifs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "a.qcow2", 1 << 20)
    monkeypatch.setattr(vdifs_info, "read_as", lambda *_, **__: raising(ValueError("a\nb")))
    status, out, err = vdifs("info", tmp_path / "a.qcow2")
    assert (status, out) == (1, "")
    assert err.startswith("vdifs: internal error: ValueError: a b: ")
    assert err.count("\n") == 1


def test_ctrl_c_has_a_status_of_its_own_and_no_traceback(
    vdifs: Vdifs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path / "a.qcow2", 1 << 20)
    monkeypatch.setattr(vdifs_info, "read_as", lambda *_, **__: raising(KeyboardInterrupt()))
    status, out, err = vdifs("info", tmp_path / "a.qcow2")
    assert (status, out) == (130, "")
    assert err.strip() == "vdifs: interrupted"


def test_a_full_disk_behind_standard_output_is_told(tmp_path: Path) -> None:
    make(tmp_path / "a.qcow2", 1 << 20)
    with open("/dev/full", "wb") as full:
        done = run_process("info", "a.qcow2", cwd=tmp_path, stdout=full)
    assert (done.returncode, done.stderr) == (
        1,
        b"vdifs: standard output: No space left on device: make room, or write elsewhere\n",
    )


@pytest.mark.parametrize("command", ["info a.qcow2", "list .", "map a.qcow2", "export a.qcow2 -", "help", "--version"])
def test_a_closed_standard_output_is_told(tmp_path: Path, command: str) -> None:
    make(tmp_path / "a.qcow2", 1 << 20)
    done = run_process(*command.split(), cwd=tmp_path, preexec_fn=lambda: os.close(1))
    assert done.returncode == 1
    assert re.fullmatch(rb"vdifs: standard output: (Bad file descriptor|it is closed): .+\n", done.stderr)


@pytest.mark.parametrize("closed", [(0,), (2,), (0, 2)], ids=str)
def test_other_streams_that_are_closed_are_in_nobodys_way(tmp_path: Path, closed: tuple[int, ...]) -> None:
    make(tmp_path / "a.qcow2", 1 << 20)

    def close() -> None:
        for number in closed:
            os.close(number)

    for command in (["measure", "a.qcow2"], ["export", "--force", "a.qcow2", "b.qcow2"], ["info", "missing"]):
        done = run_process(*command, cwd=tmp_path, preexec_fn=close)
        assert done.returncode == int("missing" in command)
    oracle.compare(tmp_path / "b.qcow2", tmp_path / "a.qcow2")


def test_a_reader_that_goes_away_is_no_news(tmp_path: Path) -> None:
    make(tmp_path / "a.qcow2", 1 << 20)
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "wb") as pipe:
        done = run_process("info", "a.qcow2", cwd=tmp_path, stdout=pipe)
    assert (done.returncode, done.stderr) == (1, b"")
