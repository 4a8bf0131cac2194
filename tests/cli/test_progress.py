"""How far a long command is: SIGUSR1, JSON lines, the bar, and the line for what opens or checks very much."""

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.cli.conftest import COMMAND, run_process
from tests.cli.terminal import on_terminal
from tests.mount.conftest import require_fuse
from tests.mount.mounting import eventually, is_mounted, is_running
from tests.support.builder import make

MIB = 1 << 20
SLOW_EXPORT = """
import threading, time
import vdifs.output.export.transfer as transfer
transfer._REPORT_S = 0.02
reported, run, write = threading.Event(), transfer._Copy.run, transfer._Copy._write
def running(copy, progress):
    run(copy, lambda done, total: (progress(done, total), done and reported.set()))
def writing(copy, at, *what):
    time.sleep(0.02)
    if at >= 32 << 20:
        reported.wait(100)
    write(copy, at, *what)
transfer._Copy.run, transfer._Copy._write = running, writing
"""
"""The second half is not written before a report of the first, however the machine shares out its time."""
EAGER = """
import mmap, time
import vdifs.cli.render.waiting as w
w.PATIENCE_S, w._PERIOD_S = 0, 0.01
drawn, write_line = mmap.mmap(-1, 1), w._write  # shared with the process that is forked
def note(text):
    write_line(text)
    drawn[0] = 1
def until_drawn():
    for _ in range(2):  # a line that is being drawn may still be the one before
        drawn[0] = 0
        end = time.monotonic() + 100
        while not drawn[0] and time.monotonic() < end:
            time.sleep(0.005)
w._write = note
"""


@pytest.fixture
def image(tmp_path: Path) -> Path:
    make(tmp_path / "image.qcow2", 64 * MIB, "write -P 1 0 64M")
    return tmp_path / "image.qcow2"


@pytest.mark.parametrize("kind", ["none", "json"])
def test_sigusr1_prints_a_line_as_qemu_img_does(kind: str, image: Path) -> None:
    reading, writing = os.pipe()
    command = [*COMMAND, "export", str(image), "-", "--format", "raw", "--progress", kind]
    with subprocess.Popen(command, stdout=writing, stderr=subprocess.PIPE) as export:
        os.close(writing)
        left, asked = 64 * MIB, False
        while left:
            data = os.read(reading, min(left, MIB))
            assert data, "the export has ended early"
            left -= len(data)
            if left <= 32 * MIB and not asked:  # so that the line says about a half
                asked = True
                eventually(lambda: in_pipe(reading))  # the next piece: the one before has been reported
                export.send_signal(signal.SIGUSR1)  # comes before a second piece more
        os.close(reading)
        _, said = export.communicate(timeout=120)
    assert export.returncode == 0
    (line,) = [line for line in said.decode().splitlines() if "/100%" in line]
    match = re.fullmatch(r"    \(([0-9.]+)/100%\)", line)
    assert match is not None
    assert 50 <= float(match[1]) < 60


def in_pipe(fd: int) -> int:
    """Return how many bytes could be read from the pipe now."""
    return int.from_bytes(fcntl.ioctl(fd, termios.FIONREAD, bytes(4)), sys.byteorder)


def test_sigusr1_while_the_image_is_opened_does_not_end_the_export(image: Path) -> None:
    before = "import os, signal; from vdifs.output import library; real = library.open_named\n"
    before += "library.open_named = lambda *a, **k: (os.kill(os.getpid(), signal.SIGUSR1), real(*a, **k))[1]\n"
    command = [COMMAND[0], "-c", before + COMMAND[2], "export", str(image), str(image.with_name("out"))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "    (0.00/100%)\n")


def test_json_lines_go_up_to_the_whole(image: Path) -> None:
    command = [COMMAND[0], "-c", SLOW_EXPORT + COMMAND[2], "export", str(image), str(image.with_name("out"))]
    done = subprocess.run([*command, "--progress", "json"], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "")
    said = [json.loads(line) for line in done.stderr.splitlines()]
    assert len(said) > 1
    assert [each["done"] for each in said] == sorted(each["done"] for each in said)
    assert said[-1] == {"done": image.with_name("out").stat().st_size, "total": said[0]["total"]}


@pytest.mark.parametrize("columns", [80, 200])
def test_a_bar_has_bytes_rate_and_time_left_and_goes_away(columns: int, image: Path) -> None:
    shown = on_terminal("export", image, image.with_name("out"), columns=columns, before=SLOW_EXPORT)
    assert shown.status == 0
    drawn = re.findall(r"([0-9.]+)/([0-9.]+) MiB ([0-9.]+) MiB/s (-?[0-9:-]+)", "\n".join(shown.lines))
    assert drawn, shown.raw
    assert {total for _, total, _, _ in drawn} == {"64.3"}
    assert re.search(r"\x1b\[2K\s*$", shown.raw)


def test_a_bar_is_one_line_however_narrow_the_terminal_is(image: Path) -> None:
    shown = on_terminal("export", image, image.with_name("out"), columns=20, before=SLOW_EXPORT)
    assert shown.status == 0
    *frames, _ = shown.raw.split("\r\x1b[2K")  # behind the last one the cursor goes on, and back
    assert len(frames) > 1
    assert not any("\n" in frame for frame in frames)


def test_a_terminal_that_cannot_draw_gets_no_bar(image: Path) -> None:
    shown = on_terminal("export", image, image.with_name("out"), before=SLOW_EXPORT, TERM="dumb")
    assert (shown.status, shown.raw) == (0, "")


def test_a_bar_and_sigusr1(image: Path) -> None:
    kick = "import itertools, os, signal\ncalls, slow = itertools.count(), transfer._Copy._write\n"
    kick += "kick = lambda: next(calls) == 5 and os.kill(os.getpid(), signal.SIGUSR1)\n"
    kick += "transfer._Copy._write = lambda *a: (kick(), slow(*a))\n"
    shown = on_terminal("export", image, image.with_name("out"), before=SLOW_EXPORT + kick)
    assert shown.status == 0
    assert any(re.search(r"    \([0-9.]+/100%\)", line) for line in shown.lines)


@pytest.mark.parametrize("command", ["map", "measure"])
def test_opening_that_takes_long_is_shown_on_a_terminal_and_taken_away(command: str, image: Path) -> None:
    slow = "import vdifs.chain.open_chain as c; real = c.Chain.open.__func__\n"
    slow += "c.Chain.open = classmethod(lambda *a, **k: (until_drawn(), real(*a, **k))[1])\n"
    shown = on_terminal(command, "image.qcow2", cwd=image.parent, before=f"{slow}{EAGER}")
    assert shown.status == 0
    assert re.search(r"opening image\.qcow2 \.\.\. \d+ s\r\x1b\[K", shown.raw)
    quick = on_terminal(command, "image.qcow2", cwd=image.parent)
    assert "opening" not in quick.raw
    assert shown.raw.rpartition("\x1b[K")[2].split() == quick.raw.split()


def test_checking_many_images_says_which_it_is_at(tmp_path: Path) -> None:
    long_name = "x" * 100 + ".qcow2"
    for name in ("a.qcow2", "b.qcow2", long_name):
        make(tmp_path / name, MIB)
    slow = "import vdifs.report.check as c; real = c.audit\n"
    slow += "c.audit = lambda *a, **k: (until_drawn(), real(*a, **k))[1]\n"
    shown = on_terminal("check", tmp_path, before=f"{slow}{EAGER}")
    assert shown.status == 0
    drawn = re.findall(r"checking image ([0-9]) of 3: ([^ ]*) \.\.\.", shown.raw)
    assert [number for number, _ in dict.fromkeys(drawn)] == ["1", "2", "3"]
    assert {"a.qcow2", "b.qcow2"} < {name for _, name in drawn}
    assert all(len(part) < 80 for part in shown.raw.split("\r\x1b[K"))  # a line that wraps is not taken away whole
    assert shown.raw.rpartition("\x1b[K")[2].split() == ["3", "images,", "0", "errors"]


def test_listing_many_images_says_which_it_is_at(tmp_path: Path) -> None:
    make(tmp_path / "a.qcow2", MIB)
    slow = "import vdifs.report.list as c; real = c._data_held\n"
    slow += "c._data_held = lambda *a: (until_drawn(), real(*a))[1]\n"
    shown = on_terminal("list", tmp_path, before=f"{slow}{EAGER}")
    assert re.search(r"image 1 of 1: a\.qcow2 \.\.\. \d+ s", shown.raw)


def test_in_a_pipe_nothing_of_this_is_written(tmp_path: Path) -> None:
    make(tmp_path / "a.qcow2", MIB)
    command = [COMMAND[0], "-c", f"{EAGER}\n{COMMAND[2]}", "check", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, b"")


SLOW_SEARCH = """
import time, vdifs.catalog.catalog as c
search = c.Catalog.scan
c.Catalog.scan = lambda *a: (%s, search(*a))[1]
"""


@pytest.fixture
def mountpoint(tmp_path: Path) -> Iterator[Path]:
    require_fuse()
    (tmp_path / "mnt").mkdir()
    yield tmp_path / "mnt"
    if is_mounted(tmp_path / "mnt"):
        subprocess.run(["umount", "-l", tmp_path / "mnt"])


def test_a_mount_that_takes_long_says_so_on_a_terminal(image: Path, mountpoint: Path) -> None:
    words, folder = ("mount", ".", "mnt"), image.parent
    shown = on_terminal(*words, before=SLOW_SEARCH % "until_drawn()" + EAGER, cwd=folder)
    assert shown.status == 0
    assert re.search(r"searching \. \.\.\. \d+ s", shown.raw)
    assert shown.raw.endswith("\r\x1b[K")
    assert is_mounted(mountpoint)
    assert on_terminal("umount", mountpoint).status == 0
    assert on_terminal(*words, cwd=folder).raw == ""  # a quick one says nothing


def children(pid: int) -> list[int]:
    try:
        return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))
    except FileNotFoundError:
        return []


def test_ctrl_c_while_mounting_ends_the_daemon_too(image: Path, mountpoint: Path) -> None:
    command = [COMMAND[0], "-c", SLOW_SEARCH % "time.sleep(60)" + COMMAND[2], "mount"]
    command += [str(image.parent), str(mountpoint)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as mounting:
        eventually(lambda: [found for child in children(mounting.pid) for found in children(child)])
        daemon = next(child for child in children(mounting.pid) if children(child))  # it has its supervisor
        background = [daemon, *children(daemon)]
        time.sleep(0.5)
        out, said = interrupted(mounting)
    assert (mounting.returncode, out, said.strip()) == (130, "", "vdifs: interrupted")
    assert not is_running(daemon)
    eventually(lambda: not any(map(is_running, background)))  # no process is left that would mount later
    assert not is_mounted(mountpoint)


def interrupted(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Press Ctrl-C until the process ends, as what Python does after a fork swallows one; return what it said."""
    for _ in range(8):
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            return process.communicate(timeout=5)
    process.kill()
    raise AssertionError("it goes on")


def test_what_a_mount_puts_out_of_sight_is_told(image: Path, mountpoint: Path) -> None:
    (mountpoint / "precious").touch()
    done = run_process("mount", image.parent, mountpoint)
    assert done.returncode == 0
    assert done.stderr.decode() == (
        f"vdifs: {mountpoint}: was not empty: its files are out of sight until 'vdifs umount {mountpoint}'\n"
    )
    assert run_process("umount", mountpoint).returncode == 0
    assert [each.name for each in mountpoint.iterdir()] == ["precious"]
