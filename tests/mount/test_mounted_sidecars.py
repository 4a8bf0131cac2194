"""Beside the images stands what there is to say about them: `.vdifs/info/PATH.json`, `.vdifs/map/PATH.json`."""

import errno
import json
import os
import stat
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.mount import images
from tests.mount.mounting import SOON_S, Mounted, Mounts, eventually
from tests.support import oracle
from tests.support.builder import Tables, write_stamped
from tests.support.qcow2 import COPIED
from vdifs.cli.main import main


def told(mounted: Mounted, kind: str, name: str) -> Any:
    """Return what a sidecar holds; its size is right, whichever request is first."""
    path = mounted / f".vdifs/{kind}/{name}.json"
    size, contents = path.stat().st_size, path.read_bytes()
    assert len(contents) == size > 0
    return json.loads(contents)


def said(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    assert main([*words, "--output", "json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("name", ["base.qcow2", "monday.qcow2", "tuesday.qcow2", "base.qcow2@old"])
@pytest.mark.parametrize("kind", ["info", "map"])
def test_they_say_what_the_commands_say(
    mounts: Mounts, source: Path, name: str, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    oracle.qemu_img("snapshot", "-c", "old", source / "base.qcow2")
    mounted = mounts(source)
    assert told(mounted, kind, name) == said(capsys, kind, str(source / name))


def test_every_image_has_them_where_its_path_says(mounts: Mounts, source: Path) -> None:
    (source / "vms").mkdir()
    (source / "base.qcow2").rename(source / "vms/alone.qcow2")
    (source / "disk.raw").write_bytes(bytes(4096))
    mounted = mounts(source)
    for kind in ("info", "map"):
        folder = mounted / ".vdifs" / kind
        found = {str(path.relative_to(folder)) for path in folder.rglob("*.json")}
        assert found == {f"{n}.json" for n in ("monday.qcow2", "tuesday.qcow2", "vms/alone.qcow2", "disk.raw")}
    assert told(mounted, "info", "disk.raw")["format"] == "raw"
    mounted.allow_log("monday.qcow2")


def test_listing_makes_none_of_them(mounts: Mounts, source: Path) -> None:
    mounted = mounts(source)
    with os.scandir(mounted / ".vdifs/map") as entries:
        assert {entry.name for entry in entries} == {f"{name}.qcow2.json" for name in ("base", "monday", "tuesday")}
    assert mounted.status()["images_open"] == 0


def test_a_change_shows(mounts: Mounts, source: Path) -> None:
    mounted = mounts(source)
    path = mounted / ".vdifs/map/tuesday.qcow2.json"
    before = path.read_bytes()
    write_stamped(source / "tuesday.qcow2", {15 << 20: 512}, 9)
    eventually(lambda: path.read_bytes() != before, within=SOON_S)
    assert json.loads(path.read_bytes())[-1]["length"] != json.loads(before)[-1]["length"]


def test_of_an_image_that_is_not_served_they_say_why(mounts: Mounts, source: Path) -> None:
    images.damage_header(source / "base.qcow2")
    mounted = mounts(source)
    mounted.allow_log("base.qcow2")
    for kind in ("info", "map"):
        path = mounted / f".vdifs/{kind}/base.qcow2.json"
        assert stat.S_IMODE(path.stat().st_mode) == 0
        with pytest.raises(OSError) as caught:
            path.read_bytes()
        assert caught.value.errno in (errno.EIO, errno.EACCES)


def test_they_cannot_be_written(mounts: Mounts, source: Path) -> None:
    mounted = mounts(source)
    with pytest.raises(OSError) as caught:
        (mounted / ".vdifs/info/base.qcow2.json").write_text("{}")
    assert caught.value.errno == errno.EROFS


def test_files_about_images_that_are_held_open_take_bounded_memory(mounts: Mounts, source: Path) -> None:
    """Each has about 3 MiB of JSON, and there are many who open it and stay."""
    for name in ("first", "second", "third"):
        empty = Tables(12, 20_000 << 12, dict.fromkeys(range(0, 20_000, 2), 0))
        replace(empty, entries=dict.fromkeys(empty.entries, empty.first_data | COPIED)).write(source / f"{name}.qcow2")
    mounted = mounts(source)
    mounted.allow_log("too many files of .vdifs are open at once")
    before = peak_of(mounted.pid)
    with ExitStack() as stack:
        codes: list[int | None] = []
        for _ in range(10):
            for name in ("first", "second", "third"):
                try:
                    stack.callback(os.close, os.open(mounted / f".vdifs/map/{name}.qcow2.json", os.O_RDONLY))
                except OSError as error:
                    codes.append(error.errno)
        assert peak_of(mounted.pid) - before < 64 << 20
        assert set(codes) == {errno.ENOMEM}
    assert json.loads((mounted / ".vdifs/map/first.qcow2.json").read_bytes()), "closed, they count no more"


def peak_of(pid: int) -> int:
    """Return the most memory that a process ever had, in bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) << 10
