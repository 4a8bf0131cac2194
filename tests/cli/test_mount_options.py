"""`-o name=value`: what mount(8) writes becomes the same options that a user gives one by one."""

import dataclasses
from pathlib import Path

import pytest

from tests.cli.conftest import Vdifs
from vdifs.cli.commands import mount as mount_command
from vdifs.mount.view.options import MountOptions

ALL_OF_MOUNT_8 = (
    "rw,ro,dev,nodev,suid,nosuid,exec,noexec,auto,noauto,user,nouser,users,atime,noatime,relatime,strictatime,"
    "defaults,_netdev,nofail,x-systemd.automount,x-gvfs-show=yes,,"
)


@pytest.fixture
def mounted(monkeypatch: pytest.MonkeyPatch) -> list[MountOptions]:
    """What would have been mounted."""
    asked: list[MountOptions] = []

    def mount(options: MountOptions, *_: object) -> str:
        asked.append(options)
        return ""

    monkeypatch.setattr(mount_command, "run_mount", mount)
    return asked


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("allow_other", {"allow_other": True}),
        ("allow-other,threads=4", {"allow_other": True, "threads": 4}),
        ("cluster_size=64k", {"cluster_size": 65536}),
        ("trust=/a,trust=/b", {"trusted": ("/a", "/b")}),
        (r"trust=/a\,b", {"trusted": ("/a,b",)}),
        ("log_file=/x=y.log,pid-file=/z", {"log_file": "/x=y.log", "pid_file": "/z"}),
        ("uid=12,gid=34", {"uid": 12, "gid": 34}),
        ("uid=root,gid=root", {"uid": 0, "gid": 0}),
        ("umask=0027", {"umask": 0o27}),
        ("live=allow", {"live": "allow"}),
        ("refused=hide", {"refused": "hide"}),
        ("views=full", {"views": ("full",)}),
        ("views=full:raw:vhd-fixed,ro", {"views": ("full", "raw", "vhd-fixed")}),
        (r"views=vhd\,delta\,vhd", {"views": ("vhd", "delta")}),
        ("deadline=2.5", {"deadline": 2.5}),
        ("readahead=4M", {"readahead": 4 << 20}),
        ("include=a*,include=b*,exclude=c*", {"include": ("a*", "b*"), "exclude": ("c*",)}),
        (ALL_OF_MOUNT_8, {}),
    ],
)
def test_an_option_means_the_same_after_o(
    text: str, options: dict[str, object], vdifs: Vdifs, mounted: list[MountOptions]
) -> None:
    assert vdifs("mount", "source", "point", "-o", text) == (0, "", "")
    assert mounted == [MountOptions(source="source", mountpoint="point", **options)]  # type: ignore[arg-type]


def test_every_option_of_a_mount_can_be_given(vdifs: Vdifs) -> None:
    """Except for what the command line has other words for."""
    of_a_mount = {field.name for field in dataclasses.fields(MountOptions)}
    given = {param.name for param in mount_command.mount.params} - {"o", "debug"}
    assert given == of_a_mount
    after_o = set(mount_command.mount_flags(mount_command.mount))
    assert after_o == {name.replace("_", "-") for name in of_a_mount - {"source", "mountpoint", "foreground"}} - {
        "trusted"
    } | {"trust"}


def test_options_of_both_kinds_go_together(vdifs: Vdifs, mounted: list[MountOptions]) -> None:
    words = ["-f", "-oro,trust=/a", "source", "--trust", "/b", "-o", "threads=2", "point", "--threads", "8"]
    assert vdifs("mount", *words).status == 0
    assert mounted == [
        MountOptions(source="source", mountpoint="point", foreground=True, trusted=("/a", "/b"), threads=8)
    ]


def test_views_are_words_with_commas_between(vdifs: Vdifs, mounted: list[MountOptions]) -> None:
    assert vdifs("mount", "source", "point", "--views", "raw,vhd,full").status == 0
    assert vdifs("mount", "source", "point").status == 0
    assert [each.views for each in mounted] == [("raw", "vhd", "full"), ("full", "delta", "raw")]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("frobnicate", "-o frobnicate: no such mount option"),
        ("help", "-o help: no such mount option"),
        ("ro,xyz=1", "-o xyz: no such mount option"),
        ("o=ro", "-o o: no such mount option"),
        ("cluster_size", "-o cluster_size: needs a value"),
        ("cluster_size=big", "'big' is no size"),
        ("threads=0", "'--threads'"),
        ("allow_other=1", "-o allow_other: takes no value"),
        ("foreground", "-o foreground: no such mount option"),
        ("debug", "-o debug: no such mount option"),
        ("uid=nobody-of-that-name", "'nobody-of-that-name' is no user here"),
        ("gid=-1", "'-1' is no group here"),
        ("uid=4294967295", "4294967295 is more than"),
        ("umask=8", "'8' is no octal number"),
        ("deadline=soon", "'soon' is not a valid float"),
        ("readahead=1X", "'1X' is no size"),
        ("views=full:part", "'part' is none of full, delta, raw, vhd, vhd-fixed"),
        ("views=", "'' is none of full,"),
        ("views=full,raw", "-o raw: no such mount option"),
    ],
)
def test_what_is_wrong_is_named(text: str, said: str, vdifs: Vdifs, mounted: list[MountOptions]) -> None:
    status, out, err = vdifs("mount", "source", "point", "-o", text)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert said in err
    assert mounted == []


def test_umount_of_what_is_not_mounted_is_a_failure(vdifs: Vdifs, tmp_path: Path) -> None:
    status, out, err = vdifs("umount", tmp_path)
    assert (status, out, err) == (1, "", f"vdifs: {tmp_path}: not mounted: name the mountpoint of a 'vdifs mount'\n")
