"""`vdifs status` of real mounts: once, as JSON, and watching a cp."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

from tests.cli.terminal import Terminal, environment
from tests.conftest import cannot_be_tried
from tests.mount.mounting import PATIENCE_S, ROOT, Mounted, Mounts, as_user, eventually, interpreter

READAHEAD = 1 << 20
SOON = (
    "import sys, vdifs.cli.commands.status as s; s.PERIOD_S = 0.05; from vdifs.cli.main import main; sys.exit(main())"
)


def status(*words: str | Path, user: int | None = None) -> "subprocess.CompletedProcess[str]":
    if (found := interpreter(user)) is None:
        cannot_be_tried("an ordinary user may not run Python from here")
    command = [found[0], "-c", SOON, "status", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT, env=found[1], **as_user(user))


@contextmanager
def watching(*words: str | Path, stdout: int = subprocess.PIPE) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-c", SOON, "status", "--watch", *map(str, words)]
    with subprocess.Popen(
        command, stdout=stdout, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=environment()
    ) as one:
        try:
            yield one
        finally:
            one.kill()


@contextmanager
def copying(source: Path, fifo: Path) -> Iterator[int]:
    """Have cp copy a file into a pipe, and give the end from which as much can be read as it shall go on."""
    os.mkfifo(fifo)
    with subprocess.Popen(["cp", str(source), str(fifo)]) as cp:
        reading = os.open(fifo, os.O_RDONLY)
        try:
            yield reading
        finally:
            os.close(reading)
            cp.wait(PATIENCE_S)


def unmount(mounted: Mounted) -> None:
    """Unmount what is being watched: in between, when no report is being read."""
    eventually(lambda: mounted.umount().status == 0)


def test_a_mount_says_what_it_serves_and_what_not(mounts: Mounts, source: Path) -> None:
    (source / "broken.qcow2").write_bytes(b"QFI\xfb\0\0\0\x03")
    mounted = mounts(source)
    mounted.allow_log("broken")
    (mounted / "full/base.qcow2").read_bytes()
    eventually(lambda: "not opened yet" not in status(mounted.path).stdout)
    done = status(mounted.path)
    assert (done.returncode, done.stderr) == (0, "")
    said = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    assert (said["source"], said["mountpoint"]) == (str(source), str(mounted.path))
    assert f"process {mounted.pid}, " in said["mounted"]
    assert said["images"] == "3 served, 1 refused"
    assert "broken.qcow2" in said["problem"]
    assert json.loads(status(mounted.path, "--output", "json").stdout)["pid"] == mounted.pid


def test_a_cp_is_seen_to_advance(mounts: Mounts, source: Path) -> None:
    mounted = mounts(source)
    file = mounted / "raw/base.qcow2.raw"
    with copying(file, mounts.scratch / "fifo") as copied, watching(mounted.path, "--output", "json") as watch:
        assert watch.stdout is not None
        seen = list[int]()
        for line in watch.stdout:
            for each in json.loads(line)["open_files"]:
                assert (each["file"], each["size"]) == ("raw/base.qcow2.raw", file.stat().st_size)
                seen.append(each["position"])
            if len(set(seen)) == 4:
                break
            os.read(copied, 1 << 20)
        assert all(after >= before - 2 * READAHEAD for before, after in pairwise(seen))  # it answers as it comes
        assert seen[-1] >= seen[0]
        while os.read(copied, 1 << 20):
            pass


def test_on_a_terminal_each_open_file_has_a_bar(mounts: Mounts, source: Path) -> None:
    mounted = mounts(source)
    with Terminal(80) as terminal, watching(mounted.path, stdout=terminal.theirs) as watch:
        with open(mounted / "full/monday.qcow2", "rb", buffering=0) as file:
            eventually(lambda: "full/monday.qcow2" in terminal.text)
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
            os.pread(file.fileno(), 4096, os.fstat(file.fileno()).st_size // 2)
            eventually(lambda: re.search(r"\b5[0-9] %", terminal.text))
        before = len(terminal.text)
        eventually(lambda: "no file is open" in terminal.text[before:])
        unmount(mounted)
        assert watch.wait(PATIENCE_S) == 0


def test_in_a_pipe_each_open_file_has_a_line(mounts: Mounts, source: Path) -> None:
    mounted = mounts(source)
    with open(mounted / "full/base.qcow2", "rb") as file:
        file.read(1)
        with watching(mounted.path) as watch:
            assert watch.stdout is not None
            line = watch.stdout.readline()
    assert line.startswith("full/base.qcow2: ")
    assert " of " in line


def test_watching_ends_with_the_mount(mounts: Mounts, source: Path) -> None:
    mounted = mounts(source)
    with watching(mounted.path, "--output", "json") as watch:
        assert watch.stdout is not None
        watch.stdout.readline()
        unmount(mounted)
        watch.stdout.read()
        assert watch.wait(PATIENCE_S) == 0


def test_ctrl_c_is_how_one_stops_watching(mounts: Mounts, source: Path) -> None:
    mounted = mounts(source)
    with watching(mounted.path, "--output", "json") as watch:
        assert watch.stdout is not None
        assert watch.stderr is not None
        watch.stdout.readline()
        watch.send_signal(2)
        assert watch.wait(PATIENCE_S) == 0
        assert watch.stderr.read() == ""


def test_a_mount_of_another_user_says_how_to_ask(mounts: Mounts, source: Path, nobody: int) -> None:
    mounted = mounts(source)
    done = status(mounted.path, user=nobody)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "ask as the user who mounted it, or mount with --allow-other" in done.stderr
