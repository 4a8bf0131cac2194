"""What a confined process may still do, tried one by one in a process of its own."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import cannot_be_tried
from tests.mount.mounting import ROOT, as_user, interpreter, remove_scratch
from vdifs.linux.seccomp import instructions
from vdifs.linux.syscall_numbers import this_machine
from vdifs.mount.daemon.allowed_system_calls import allowed_system_calls
from vdifs.mount.daemon.confinement import possible_confinement
from vdifs.mount.view.confinement import Confinement

HARMLESS = {
    "read a source", "read a new source", "list the sources", "read a file of the interpreter", "import a module",
    "read the table of mounts", "append to the log", "write to an open socket", "signal itself", "look at a limit",
    "start a thread", "copy a descriptor", "look at a descriptor", "make a pipe larger",
    "ask about a lock", "probe with a lease", "be told of a lease by SIGURG", "watch a source",
    "say how memory is used",
}  # fmt: skip
WITHOUT_LANDLOCK = HARMLESS | {
    "read something else", "list something else", "read what this process was given",
}  # fmt: skip
WITHOUT_SECCOMP = HARMLESS | {
    "change a mode", "change a time", "set an attribute", "open a socket", "open a socket of the machine's own",
    "start a process", "start a process from an earlier thread", "signal another process", "change the root",
    "change the namespace", "become another", "change a limit", "write over the log",
    "write at an offset of the log", "truncate the log",
    "reserve space for the log", "keep a pipe from blocking",
    "make another inotify", "keep others from opening", "lock a source", "lock a source in the old way",
    "have a pipe signal a process", "have a pipe signal a thread", "have a pipe send SIGKILL",
    "have a pipe send signals", "have a socket send signals", "have a socket signal a process",
    "be told of changes by a signal", "queue a signal", "make a timer", "have its parent's end signalled",
}  # fmt: skip
PRIVILEGED = {"queue a signal", "change the root", "change the namespace", "signal another process"}


@pytest.fixture
def scratch(user: int | None) -> Iterator[Path]:
    if possible_confinement() != Confinement(True, possible_confinement().landlock or 0, True):
        cannot_be_tried("this kernel lacks Landlock or seccomp")
    place = Path(tempfile.mkdtemp(prefix="vdifs-test-")).resolve()
    for name in (".", "src", "logs", "secret"):
        (place / name).mkdir(exist_ok=True)
        (place / name).chmod(0o755)
    for name in ("src/image", "logs/log", "secret/secret"):
        (place / name).write_bytes(b"x")
    if user is not None:
        for path in (place, *place.rglob("*")):
            os.chown(path, user, user)
    yield place
    remove_scratch(place)


def outcome(scratch: Path, user: int | None, *without: str, log: str = "logs/log") -> dict[str, Any]:
    found = interpreter(user)
    if found is None:
        cannot_be_tried("an ordinary user may not run Python from here")
    program, environment = found
    paths = [str(scratch / name) for name in ("src", log, "secret/secret")]
    with subprocess.Popen(
        [program, "-m", "tests.mount.attempts", *paths, *without],
        env=environment,
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        **as_user(user),
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "confined\n"
        (scratch / "src/new").mkdir(mode=0o755)
        (scratch / "src/new/image").write_bytes(b"new")
        said, _ = process.communicate("\n", timeout=60)
    assert process.returncode == 0
    result: dict[str, Any] = json.loads(said)
    return result


def done(result: dict[str, Any]) -> set[str]:
    return {name for name, answer in result["answers"].items() if answer == "done"}


def test_only_what_serving_needs_is_possible(scratch: Path, user: int | None) -> None:
    result = outcome(scratch, user)
    assert result["in force"] == {
        "no_new_privs": True,
        "landlock": possible_confinement().landlock,
        "seccomp": True,
    }
    assert (scratch / "logs/log").read_bytes() == b"xline\n"
    assert os.listdir(scratch / "logs") == ["log"]
    assert done(result) == HARMLESS
    assert set(result["answers"].values()) == {"done", "EPERM", "EACCES"}


def test_a_log_beside_the_sources_opens_no_way_to_write_those(scratch: Path, user: int | None) -> None:
    (scratch / "log").write_bytes(b"")
    if user is not None:
        os.chown(scratch / "log", user, user)
    assert done(outcome(scratch, user, log="log")) == HARMLESS


@pytest.mark.parametrize(
    ("missing", "possible"), [("landlock", WITHOUT_LANDLOCK), ("seccomp", WITHOUT_SECCOMP)], ids=["landlock", "seccomp"]
)
def test_without_one_the_other_is_in_force(scratch: Path, user: int | None, missing: str, possible: set[str]) -> None:
    result = outcome(scratch, user, missing)
    assert result["in force"]["no_new_privs"] is True
    assert not result["in force"][missing]
    assert done(result) - PRIVILEGED == possible - PRIVILEGED


def test_a_landlock_that_does_not_know_of_truncation_is_helped_out(scratch: Path) -> None:
    result = outcome(scratch, None, "truncation")
    assert result["in force"]["landlock"] == 2
    assert done(result) == HARMLESS
    assert (scratch / "src/image").read_bytes() == b"x"


def test_without_any_the_process_carries_on(scratch: Path) -> None:
    code = (
        "from vdifs.mount.daemon import confinement as c; c.why_no_landlock = c.why_no_filter = lambda: 'planted'; "
        "c.forbid_new_privileges = lambda: (_ for _ in ()).throw(OSError(1, 'planted')); "
        f"print(c.confine([{str(scratch)!r}]))"
    )
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert shown.stdout == "nothing\n"


def test_the_filter_is_short_and_finds_the_calls_of_a_read_first() -> None:
    machine = this_machine()
    if machine is None:
        pytest.skip("no numbers for this machine")
    for landlock in (None, 1, 3):
        calls = allowed_system_calls(1, landlock)
        code = instructions(machine, calls)
        assert len(code) % 8 == 0
        assert len(code) // 8 < 320
        names = [*calls.always, *calls.by_arguments, *calls.absent]
        assert len(set(names)) == len(names)
        assert set(calls.always[:3]) == {"read", "preadv2", "fstat"}


def test_nothing_is_imported_once_all_is_loaded() -> None:
    code = """
import logging, sys, zlib
from vdifs.mount.daemon import serve
from vdifs.mount.daemon.confinement import preload
preload()
loaded = set(sys.modules)
from vdifs.formats.qcow2.header import CompressionType
from vdifs.formats.qcow2.inflate import Inflater
packer = zlib.compressobj(wbits=-12)
Inflater(65536, CompressionType.DEFLATE).inflate(packer.compress(bytes(65536)) + packer.flush())
import zstandard
Inflater(65536, CompressionType.ZSTD).inflate(zstandard.compress(bytes(65536)))
from concurrent.futures import ThreadPoolExecutor
ThreadPoolExecutor(2).submit(int).result()
try:
    int("x")
except ValueError:
    logging.getLogger().exception("x")
print(sorted(set(sys.modules) - loaded))
"""
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert shown.stdout == "[]\n"
