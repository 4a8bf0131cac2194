"""Remedies work when they are typed as the message has them, whatever the names are."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import require_tool
from tests.mount.mounting import PATIENCE_S, Mounts, as_user, driver, eventually, is_mounted, outcome
from vdifs.linux.mountinfo import topmost
from vdifs.mount.daemon.remedies import take_away, typed

COMMAND = [sys.executable, "-c", "import sys; from vdifs.cli.main import main; sys.exit(main())"]
NAMES = [
    "plain",
    "-f",
    "two words",
    "it's",
    "$(touch x)",
    "line\nfeed",
    "back\\slash",
    "ümlaut",
    "caf\udce9",
    "a;b",
    "*",
]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_name_that_is_typed_is_that_name(name: str) -> None:
    shown = subprocess.run(["bash", "-c", f"printf %s {typed(name)}"], capture_output=True, check=True)
    assert os.path.normpath(os.fsdecode(shown.stdout)) == name


def type_it(said: str, user: int | None = None) -> None:
    """Type the command that a message has between its last quotation marks."""
    match = re.search(r"'((?:vdifs|umount|fusermount3|mkdir|mount) .*)'\n?$", said)
    assert match is not None, said
    vdifs = (
        f"vdifs() {{ {sys.executable} -c 'import sys; from vdifs.cli.main import main; sys.exit(main())' \"$@\"; }}\n"
    )
    done = subprocess.run(["bash", "-c", vdifs + match[1]], capture_output=True, timeout=PATIENCE_S, **as_user(user))
    assert done.returncode == 0, done.stderr


@pytest.fixture(params=["foreign", "it's -- a 'foreign' one"], ids=["plain", "odd"])
def dead(request: pytest.FixtureRequest, mounts: Mounts, user: int | None) -> Iterator[Path]:
    """A mountpoint where another FUSE program has died."""
    folder = mounts.scratch / request.param
    other = mounts.scratch / "other"
    for each in (folder, other):
        each.mkdir()
        if user is not None:
            os.chown(each, user, user)
    process = subprocess.Popen([require_tool("bindfs"), "--no-allow-other", "-f", other, folder], **as_user(user))
    eventually(lambda: topmost(str(folder)) is not None)
    process.kill()
    process.wait(PATIENCE_S)
    yield folder
    if topmost(str(folder)) is not None:
        subprocess.run(["umount", "-l", folder], check=True)


def test_a_dead_mount_of_another_program(mounts: Mounts, source: Path, dead: Path, user: int | None) -> None:
    refused = mounts.attempt(source, dead, user=user)
    assert refused.status == 1
    assert "a mount whose daemon has gone" in refused.said
    command = refused.said.rpartition(": ")[2]
    assert ("'umount " if user is None and os.geteuid() == 0 else "'fusermount3 -u ") in command
    if user is None:  # another user may not run Python from here
        assert subprocess.run([*COMMAND, "status", dead], capture_output=True, text=True).stderr.endswith(
            refused.said.rpartition(": ")[2]
        )
    type_it(refused.said, user)
    assert topmost(str(dead)) is None
    mounted = mounts(source, dead, user=user)
    assert mounted.umount().status == 0


def test_a_dead_mount_of_another_program_is_unmounted_like_one_of_ours(dead: Path, user: int | None) -> None:
    done = outcome(driver("umount", str(dead), user))
    assert (done.status, done.said) == (0, "")
    assert topmost(str(dead)) is None


def test_a_living_mount_of_another_program_is_left_to_that(mounts: Mounts, user: int | None) -> None:
    folder, other = mounts.scratch / "two words", mounts.scratch / "other"
    for each in (folder, other):
        each.mkdir()
        if user is not None:
            os.chown(each, user, user)
    bindfs = require_tool("bindfs")
    with subprocess.Popen([bindfs, "--no-allow-other", "-f", other, folder], **as_user(user)) as process:
        eventually(lambda: topmost(str(folder)) is not None)
        refused = outcome(driver("umount", str(folder), user))
        assert refused.status == 1
        type_it(refused.said, user)
        assert process.wait(PATIENCE_S) == 0


def test_a_mountpoint_that_is_not_there(mounts: Mounts, source: Path) -> None:
    folder = mounts.scratch / "not there" / "it's"
    type_it(mounts.attempt(source, folder).said)
    assert mounts(source, folder).umount().status == 0


def test_a_mount_that_is_there_already(mounts: Mounts, source: Path) -> None:
    folder = mounts.scratch / "two words"
    folder.mkdir()
    mounts(source, folder)
    type_it(mounts.attempt(source, folder).said)
    assert not is_mounted(folder)


def test_a_dead_mount_of_another_user_is_for_that_user_to_take_away(
    mounts: Mounts, source: Path, nobody: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounted = mounts(source, user=nobody)
    monkeypatch.setattr(os, "geteuid", lambda: nobody)
    assert take_away(str(mounted.path)) == f"take it away with 'vdifs umount {mounted.path}'"
    monkeypatch.setattr(os, "geteuid", lambda: 1)
    assert take_away(str(mounted.path)) == f"have root, or the user who mounted it, run 'vdifs umount {mounted.path}'"
    mounted.kill(signal.SIGTERM)
    mounted.wait_until_gone()
