"""What one may not read is told by `list` and `check`: as an ordinary user, since root may read everything."""

import json
import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import COMMAND, Vdifs
from tests.conftest import cannot_be_tried
from tests.mount.mounting import NOBODY, ROOT, as_user, interpreter
from tests.support.builder import make
from tests.support.units import MIB

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that any user may enter."""
    with tempfile.TemporaryDirectory(prefix="vdifs-test-") as name:
        Path(name).chmod(0o755)
        yield Path(name)
        for each in Path(name).rglob("*"):
            each.chmod(0o755)


@pytest.fixture
def run() -> Run:
    """Run vdifs as an ordinary user."""
    user = NOBODY if os.geteuid() == 0 else None
    if (found := interpreter(user)) is None:
        cannot_be_tried("an ordinary user may not run Python from here")
    program, environment = found

    def run(*words: str | Path) -> "subprocess.CompletedProcess[str]":
        command = [program, *COMMAND[1:], *map(str, words)]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=120, env=environment, cwd=ROOT, **as_user(user)
        )

    return run


def test_a_folder_is_told(folder: Path, run: Run) -> None:
    """An image that lies in it cannot be looked at; which may be none at all, so that it is an error."""
    make(folder / "good.qcow2", MIB)
    for mode, name in ((0, "closed"), (0o311, "nameless"), (0o644, "names"), (0, "deep/in it")):
        (folder / name).mkdir(parents=True)
        make(folder / name / "inner.qcow2", MIB)
        (folder / name).chmod(mode)
    done = run("check", folder, "--output", "json")
    problems = [(p["name"], p["severity"], p["kind"]) for p in json.loads(done.stdout)["problems"]]
    assert problems == [(name, "error", "trouble") for name in ("closed", "deep/in it", "nameless", "names")]
    assert (done.returncode, done.stderr) == (1, "")
    listed = run("list", folder)
    assert (listed.returncode, len(listed.stdout.splitlines())) == (0, 1)
    told = listed.stderr.splitlines()
    assert len(told) == 4
    assert all(any(line.startswith(f"vdifs: {folder}/{name}: ") for line in told) for name, _, _ in problems)


def test_a_source_that_may_not_be_read_is_not_taken_for_an_empty_one(folder: Path, run: Run) -> None:
    (folder / "source").mkdir()
    make(folder / "source/inner.qcow2", MIB)
    (folder / "source").chmod(0o311)
    for command in ("check", "list"):
        done = run(command, folder / "source")
        assert (done.returncode, done.stdout) == (1, ""), command
        assert re.fullmatch(rf"vdifs: {folder}/source: .*Permission denied: .*\n", done.stderr)


def test_a_file_is_told(folder: Path, run: Run, vdifs: Vdifs) -> None:
    """One that is called an image is an error; of one by another name it is not known what it is."""
    for name in ("good.qcow2", "secret.qcow2", "vm1", "notes.txt"):
        make(folder / name, MIB)
    for name in ("secret.qcow2", "vm1", "notes.txt"):
        (folder / name).chmod(0)
    done = run("check", folder, "--output", "json")
    problems = [(p["name"], p["severity"], p["kind"]) for p in json.loads(done.stdout)["problems"]]
    assert problems == [("secret.qcow2", "error", "unreadable"), ("vm1", "warning", "unreadable")]
    assert done.returncode == 1
    listed = run("list", folder)
    assert (listed.returncode, listed.stdout.count("Permission denied")) == (0, 1)
    assert listed.stderr == f"vdifs: {folder}/vm1: Permission denied: make it readable for this user\n"
    if os.geteuid() == 0:
        assert vdifs("check", folder).status == 0
