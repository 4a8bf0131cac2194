"""A folder made to attack, mounted: nothing hangs, the good images are served, the bad ones say why they are not."""

import os
import subprocess

import pytest

from tests.mount.mounting import Mounts, as_user
from tests.mount.test_mounted_broken import errno_of_open, looks_broken
from tests.support import hostile_folder as hostile
from vdifs.report.status import errno_name


@pytest.fixture
def folder(mounts: Mounts) -> hostile.Hostile:
    return hostile.make(mounts.scratch)


@pytest.mark.usefixtures("root_only")
def test_a_hostile_folder_is_served_as_far_as_it_is_good(mounts: Mounts, folder: hostile.Hostile) -> None:
    mounted = mounts(folder.root)
    mounted.allow_log("source/")
    for path, byte in folder.good.items():
        file = mounted / f"raw/{path}.raw"
        if len(os.fsencode(file.name)) > 255:
            with (mounted / f"full/{path}").open("rb") as full:
                assert full.read(4) == b"QFI\xfb"
        else:
            assert file.read_bytes()[0] == byte
    for path, code in folder.bad.items():
        full_name = f"{path}.qcow2" if path.endswith((".vhd", ".vhdx", ".vmdk")) else path
        for file in (mounted / f"full/{full_name}", mounted / f"raw/{path}.raw"):
            assert looks_broken(file), path
            assert errno_of_open(file) == errno_name(code), path
    reported = mounted.status()["problems"]
    assert {kept["name"] for each in reported for kept in each["keeps"]} >= set(folder.bad)
    assert all(each["message"].isprintable() for each in reported)
    assert "\x1b" not in mounted.log()


def test_tools_walk_over_a_hostile_folder(mounts: Mounts, folder: hostile.Hostile, user: int | None) -> None:
    """As root and as an ordinary user, in a time that none of the traps adds to."""
    mounted = mounts(folder.root, user=user)
    mounted.allow_log("source/")
    for command in (["ls", "-lR"], ["find", ".", "-type", "f"], ["du", "-a"]):
        in_mount = ["sh", "-c", 'cd "$0" && exec "$@"', str(mounted.path), *command]
        done = subprocess.run(in_mount, capture_output=True, timeout=60, **as_user(user))
        assert done.stderr == b"", done.stderr
        assert b"base.qcow2" in done.stdout
