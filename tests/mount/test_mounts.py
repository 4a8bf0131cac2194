"""Reading /proc/self/mountinfo."""

import os

from vdifs.linux.mountinfo import Mount, _parse, mounts, topmost


def test_a_line_of_mountinfo() -> None:
    line = b"36 35 98:0 /mnt1 /mnt/a\\040b\\134c rw,noatime master:1 - fuse.vdifs /srv/im\\040ages rw,user_id=0"
    assert _parse(line) == Mount(36, os.makedev(98, 0), "/mnt/a b\\c", "fuse.vdifs", "/srv/im ages")


def test_a_line_without_tags_and_with_an_empty_source() -> None:
    line = b"36 35 0:5 / /x rw - tmpfs  rw"
    assert _parse(line) == Mount(36, os.makedev(0, 5), "/x", "tmpfs", "")


def test_what_is_mounted_is_on_top_where_it_is() -> None:
    assert topmost(mounts()[-1].mountpoint) == mounts()[-1]


def test_nothing_is_mounted_where_nothing_is() -> None:
    assert topmost("/nowhere/at/all") is None
