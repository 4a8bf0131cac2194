"""A source in trouble never looks like an empty one: SOURCE, a folder below it, or a trusted one is taken away.

Whatever mirrors the mount would else delete its copies.
"""

import json
import os
import subprocess
import time
from pathlib import Path

import pytest

from tests.conftest import require_tool
from tests.mount import images
from tests.mount.mounting import ROOT, Mounted, Mounts, as_user, eventually, interpreter
from tests.mount.taken_away import (
    NOT_FOR_ROOT,
    REMOVALS,
    WAYS,
    Behind,
    Way,
    behind_a_mount,
    behind_a_server,
    linked_to_another,
    out_of_reach,
    removed_and_made_anew,
    renamed_and_made_anew,
    unreadable,
)
from tests.mount.taken_away import renamed_and_filled_anew as filled_anew
from tests.support.builder import make
from vdifs.linux.mountinfo import topmost

LOOKS = 4
UNCONFINED = ("tests.mount.unconfined",)
AS_EVER = ("tests.mount.driver",)


class Place:
    """A mount of chains in `src`, `src/vms` and, trusted, `pool`, and copies of what it shows in `backup`."""

    def __init__(self, mounts: Mounts, user: int | None, *, landlock: bool) -> None:
        self.folder, self.user = mounts.scratch / "place", user
        self.source, self.below, self.pool = (self.folder / name for name in ("src", "src/vms", "pool"))
        images.week(self.below)
        make(self.source / "alone.qcow2", images.SIZE)
        self.pool.mkdir()
        make(self.pool / "golden.qcow2", images.SIZE)
        make(self.source / "vm.qcow2", images.SIZE, backing=(f"{self.pool}/golden.qcow2", "qcow2"))
        self.backup = mounts.scratch / "backup"
        self.backup.mkdir()
        if user is not None:
            os.chown(self.backup, user, user)
        self.landlock = landlock
        self._mounts = mounts

    def mount(self) -> Mounted:
        mounted = self.mount_unproven()
        assert self.mirror(mounted) == 0
        return mounted

    def mount_unproven(self) -> Mounted:
        """Mount what may be in trouble already."""
        module = AS_EVER if self.landlock else UNCONFINED
        mounted = self._mounts(self.source, user=self.user, module=module, trusted=[str(self.pool)])
        mounted.allow_log("place/(src|pool)")
        mounted.allow_log("(Landlock|the source)")
        return mounted

    def mirror(self, mounted: Mounted) -> int:
        """Do what deletes copies, and return how that ended."""
        command = ["rsync", "-rt", "--delete", "--chmod=u+w", f"{mounted / 'full'}/", f"{self.backup}/"]
        done = subprocess.run(command, capture_output=True, text=True, **as_user(self.user))
        return done.returncode

    def end(self) -> list[str]:
        return self._mounts.end_all()

    def copies(self) -> set[str]:
        return {str(path.relative_to(self.backup)) for path in self.backup.rglob("*") if path.is_file()}


def listing(mounted: Mounted, folder: str) -> list[str] | None:
    """Return the names in a folder, None where they cannot be had."""
    done = subprocess.run(["ls", mounted / folder], capture_output=True, text=True, **as_user(mounted.user))
    return None if done.returncode else done.stdout.split()


def status(mounted: Mounted) -> subprocess.CompletedProcess[str]:
    found = interpreter(mounted.user)
    assert found is not None
    command = [
        found[0],
        "-c",
        "import sys; from vdifs.cli.main import main; sys.exit(main())",
        "status",
        str(mounted.path),
    ]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, env=found[1], check=False, **as_user(mounted.user)
    )


def troubles(mounted: Mounted) -> list[str]:
    """Return what `.vdifs/status.json` says of places of which it cannot be told what they hold."""
    shown = subprocess.run(
        ["cat", mounted / ".vdifs/status.json"], capture_output=True, check=True, text=True, **as_user(mounted.user)
    )
    return [problem["message"] for problem in json.loads(shown.stdout)["problems"] if "place" in problem]


def never_empty(mounted: Mounted, folder: str) -> None:
    """Look often, as long as a mount may take to see a change."""
    for _ in range(LOOKS):
        assert listing(mounted, folder) != []
        time.sleep(0.15)


@pytest.fixture(params=[True, False], ids=["Landlock", "no Landlock"])
def place(mounts: Mounts, user: int | None, request: pytest.FixtureRequest) -> Place:
    if request.param != (user is None) and not request.config.getoption("--long"):
        pytest.skip("the long form tries every user with and without Landlock")
    for tool in ("rsync", "qemu-img", "bindfs"):
        require_tool(tool)
    return Place(mounts, user, landlock=request.param)


def ways_for(user: int | None) -> list[Way]:
    return [way for way in WAYS if user is not None or way not in NOT_FOR_ROOT]


def try_each(place: Place, mounted: Mounted, target: Path, shown: str, ways: list[Way]) -> None:
    """Take `target`, of which `shown` tells in the mount, away in each way and give it back."""
    before = listing(mounted, shown)
    assert before
    assert status(mounted).returncode == 0
    for way in ways:
        copies = place.copies()
        with way(target):
            never_empty(mounted, shown)
            if place.mirror(mounted) == 0:
                assert way in (filled_anew, linked_to_another), way
                assert not place.landlock or target == place.below, way
            else:
                assert any(str(target) in message for message in troubles(mounted)), way
            assert place.copies() == copies, way
        if way is removed_and_made_anew and place.landlock and target != place.below:
            assert place.mirror(mounted) != 0
            continue
        eventually(lambda: listing(mounted, shown) == before)
        eventually(lambda: troubles(mounted) == [])
        eventually(lambda: place.mirror(mounted) == 0)
        assert place.copies() == copies, way


def test_a_source_that_is_taken_away_is_no_empty_one(place: Place) -> None:
    try_each(place, place.mount(), place.source, "full", ways_for(place.user))


def test_nor_is_a_folder_below_it(place: Place) -> None:
    ways = [way for way in ways_for(place.user) if way not in REMOVALS and way is not out_of_reach]
    try_each(place, place.mount(), place.below, "full/vms", ways)


def test_nor_is_a_trusted_one(place: Place) -> None:
    try_each(place, place.mount(), place.pool, f"full/@trust{place.pool}", ways_for(place.user))


@pytest.mark.parametrize("kind", [behind_a_mount, behind_a_server])
@pytest.mark.parametrize("target", ["source", "below", "pool"])
def test_nor_is_one_whose_file_system_has_gone(place: Place, kind: Behind, target: str) -> None:
    folder: Path = getattr(place, target)
    shown = {"source": "full", "below": "full/vms", "pool": f"full/@trust{place.pool}"}[target]
    with kind(folder, place.user) as take_away:
        mounted = place.mount()
        copies = place.copies()
        assert listing(mounted, shown)
        take_away()
        never_empty(mounted, shown)
        told = status(mounted)
        assert (told.returncode, str(folder) in told.stdout) == (1, True), told
        assert place.mirror(mounted) != 0
        assert place.copies() == copies
        assert place.end() == []


def test_a_folder_that_was_unreadable_from_the_beginning_is_no_missing_one(place: Place) -> None:
    """What was copied from an earlier mount must not be deleted: the folder is there, and cannot be listed."""
    if place.user is None:
        pytest.skip("root may read any folder")
    place.mount()
    place.end()
    copies = place.copies()
    place.below.chmod(0)
    mounted = place.mount_unproven()
    assert listing(mounted, "full") == ["@trust", "alone.qcow2", "vm.qcow2", "vms"]
    for folder in ("full/vms", "raw/vms", "delta/vms", "delta/alone.qcow2/vms", ".vdifs/info/vms"):
        assert listing(mounted, folder) is None, folder
    assert place.mirror(mounted) != 0
    assert place.copies() == copies
    assert status(mounted).returncode == 1
    place.below.chmod(0o755)
    eventually(lambda: place.mirror(mounted) == 0)
    assert place.copies() == copies


def broken(mounted: Mounted, path: str) -> bool:
    """Tell whether a file is listed as one that cannot be served."""
    shown = subprocess.run(["stat", "-c", "%a %s", mounted / path], capture_output=True, **as_user(mounted.user))
    return bytes(shown.stdout).split() == [b"0", b"0"]


@pytest.mark.parametrize("way", [renamed_and_made_anew, unreadable])
def test_what_is_missing_beneath_a_trusted_folder_from_the_beginning_is_listed(place: Place, way: Way) -> None:
    """As where the disk that belongs there was not mounted yet."""
    if place.user is None and way is unreadable:
        pytest.skip("root may read any folder")
    place.mount()
    place.end()
    copies, golden = place.copies(), f"@trust{place.pool}/golden.qcow2"
    assert golden in copies
    with way(place.pool):
        mounted = place.mount_unproven()
        assert broken(mounted, f"full/{golden}")
        assert broken(mounted, "full/vm.qcow2")
        assert listing(mounted, f"delta/{golden}") is None
        assert place.mirror(mounted) != 0
        assert place.copies() == copies
        assert status(mounted).returncode == 1
        assert any(golden[len("@trust") :] in message for message in troubles(mounted))
    if way is unreadable or not place.landlock:  # its rules are about the folder that was there
        eventually(lambda: place.mirror(mounted) == 0)
    assert place.copies() == copies


@pytest.mark.parametrize("name", ["monday.qcow2", "base.qcow2"])
def test_an_ancestor_of_a_single_image_that_is_removed_stays_listed(place: Place, name: str) -> None:
    """No search of its folder tells whether it was removed or is in trouble."""
    place.source = place.below / "tuesday.qcow2"
    mounted = place.mount()
    copies, away = place.copies(), place.below / ".away"
    assert copies == {"base.qcow2", "monday.qcow2", "tuesday.qcow2"}
    (place.below / name).rename(away)
    for _ in range(LOOKS):
        assert place.mirror(mounted) in (0, 23)
        time.sleep(0.15)
    assert broken(mounted, f"full/{name}")
    assert place.mirror(mounted) == 23
    assert place.copies() == copies
    place.end()
    mounted = place.mount_unproven()
    assert broken(mounted, f"full/{name}")
    assert place.mirror(mounted) == 23
    lower = {"base.qcow2"} if name == "monday.qcow2" else set[str]()
    assert place.copies() == copies - lower, "what a file that never was seen is on cannot be known"
    away.rename(place.below / name)
    eventually(lambda: place.mirror(mounted) == 0 and place.copies() == copies)


@pytest.mark.usefixtures("root_only")
def test_a_server_below_that_serves_another_user_alone_takes_no_image_with_it(place: Place, nobody: int) -> None:
    far, disk = place.below / "far", place.folder / "disk"
    owner = nobody if place.user is None else None
    for each in (far, disk):
        each.mkdir()
        os.chown(each, nobody, nobody)
    with subprocess.Popen(["bindfs", "-f", "--no-allow-other", disk, far], **as_user(owner)) as server:
        eventually(lambda: topmost(str(far)) is not None or server.poll() is not None)
        try:
            mounted = place.mount_unproven()
            assert listing(mounted, "full/vms") == ["base.qcow2", "far", "monday.qcow2", "tuesday.qcow2"]
            assert listing(mounted, "full/vms/far") is None
            assert [str(far) in message for message in troubles(mounted)] == [True]
            image = mounted / "full/vms/tuesday.qcow2"
            assert subprocess.run(["cat", image], stdout=subprocess.DEVNULL, **as_user(place.user)).returncode == 0
            assert place.end() == []
        finally:
            server.kill()
            subprocess.run(["umount", "-l", far], check=True)
