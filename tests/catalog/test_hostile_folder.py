"""A folder made to attack: a search of it never blocks, opens nothing outside, as strace proves, and finds the good."""

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import require_tool
from tests.support import hostile_folder as hostile
from tests.support.survey import BEGIN, END, survey

ROOT = Path(__file__).parents[2]
PATIENCE_S = 120
OPENING = re.compile(r"^(?:open|openat|openat2|creat|name_to_handle_at|open_by_handle_at)\(")
RESULT = re.compile(r" = (\d+)<(.*?)(?:<(?:char|block) [0-9:]+>)?>$")
TRACED = "%file,%network,%process,open_by_handle_at"
TABLES = re.compile(r"^/proc/(?:\d+/mountinfo|locks)$")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> hostile.Hostile:
    return hostile.make(tmp_path_factory.mktemp("hostile").resolve())


@dataclass(frozen=True)
class Trace:
    """The system calls of a survey, what it found, and those between its marks."""

    whole: list[str]
    found: dict[str, list[int | None]]

    @property
    def marked(self) -> list[str]:
        (begin,) = [n for n, line in enumerate(self.whole) if BEGIN in line]
        (end,) = [n for n, line in enumerate(self.whole) if END in line]
        return self.whole[begin + 1 : end]


@pytest.fixture(scope="module")
def trace(folder: hostile.Hostile, tmp_path_factory: pytest.TempPathFactory) -> Trace:
    strace = require_tool("strace")
    output = tmp_path_factory.mktemp("trace") / "strace"
    command = [strace, "-f", "-qq", "-y", "-s", "4096", "-e", f"trace={TRACED}", "-e", "signal=none", "-o", str(output)]
    done = subprocess.run(
        [*command, sys.executable, "-m", "tests.support.survey", str(folder.root)],
        cwd=ROOT,
        capture_output=True,
        timeout=PATIENCE_S,
    )
    if b"Operation not permitted" in done.stderr and not output.read_text():
        pytest.skip("strace may not trace here")
    assert done.returncode == 0, done.stderr.decode()
    lines = [line.partition(" ")[2].lstrip() for line in output.read_text(errors="replace").splitlines()]
    return Trace(lines, json.loads(done.stdout))


def test_every_good_image_is_served_and_every_bad_one_has_its_errno(folder: hostile.Hostile) -> None:
    found = survey(str(folder.root))
    assert {path: found.get(path) for path in folder.good} == {path: (0, byte) for path, byte in folder.good.items()}
    assert {path: found.get(path) for path in folder.bad} == {path: (code, None) for path, code in folder.bad.items()}
    rest = set(found) - set(folder.good) - set(folder.bad)
    assert rest <= {"hard-link"}, "links, devices, FIFOs and sockets are no images"


def test_nothing_outside_the_source_is_opened(folder: hostile.Hostile, trace: Trace) -> None:
    opened = [match[2] for line in trace.marked if OPENING.match(line) and (match := RESULT.search(line))]
    assert len(opened) > 2 * len(folder.good), "the trace shows too little"
    inside = [path for path in opened if path == str(folder.root) or path.startswith(f"{folder.root}/")]
    assert len(inside) > 100
    assert {path for path in opened if path not in inside and not TABLES.match(path)} == set()


def test_what_is_opened_are_regular_files_or_folders(folder: hostile.Hostile, trace: Trace) -> None:
    """A FIFO, a socket or a device is opened only by the user who names it, and then does not block, nor act."""
    for line in trace.marked:
        if OPENING.match(line) and RESULT.search(line):
            special = re.search(r'"(?:\./)?(fifo|socket|zero|loop)(?:\.qcow2|\.raw)?"', line)
            assert special is None or "O_NONBLOCK" in line, line
            assert "O_WRONLY" not in line
            assert "O_RDWR" not in line


def test_names_that_lead_out_are_in_no_system_call(trace: Trace) -> None:
    """Not even a stat, but for openat2, which the kernel keeps beneath the source: there may be a server that hangs.

    That a link says so itself, when it is asked for its words alone, is no such call.
    """
    never = ["/etc/", "/dev/", "outside", "/proc/self/", "json:", "nbd:", "nbd+unix:", "http:", "fat:", "file:", "../x"]
    harmless = ("openat2(", "readlink(", "inotify_add_watch(")  # the last of /proc/self/fd: of what is open already
    marked = [line for line in trace.marked if "/proc/self/mountinfo" not in line and not line.startswith(harmless)]
    assert [line for line in marked if any(name in line for name in never)] == []


def test_no_process_and_no_connection_is_made(trace: Trace) -> None:
    for line in trace.marked:
        assert not re.match(r"(?:socket|connect|sendto|execve|fork|vfork|clone3?|kill)\(", line), line


def test_openat2_with_every_restriction_opens_what_images_name(folder: hostile.Hostile, trace: Trace) -> None:
    calls = [line for line in trace.marked if line.startswith("openat2(")]
    assert len(calls) > len(folder.bad)
    for line in calls:
        for word in ("RESOLVE_BENEATH", "RESOLVE_NO_SYMLINKS", "RESOLVE_NO_MAGICLINKS", "O_NOFOLLOW", "O_CLOEXEC"):
            assert word in line, line


def test_the_folder_is_as_bad_as_it_says(folder: hostile.Hostile) -> None:
    assert len(folder.bad) >= 120
    assert (folder.root / "fifo").is_fifo()
    assert (folder.root / "socket").is_socket()
    assert (folder.root / "link-to-secret").is_symlink()
    assert any(len(os.fsencode(os.path.basename(path))) == 255 for path in folder.good)
