"""Opening beneath a directory: openat2 and the walk that replaces it agree, and neither ever gets out."""

import errno
import gc
import os
import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vdifs.linux import beneath
from vdifs.linux.beneath import open_beneath
from vdifs.linux.libc import system_call

FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
NAMES = ["file", "folder", "inner", "missing", "link-to-file", "link-to-folder", "link-out", "fifo", "..", ".", "", "/"]
paths = st.lists(st.sampled_from(NAMES), min_size=1, max_size=5).map("/".join)

Outcome = tuple[str, int]  # ("file", inode), ("other", 0): opened, but no regular file, or ("error", 0)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A directory with something of everything in it, and a secret beside it."""
    outside = tmp_path_factory.mktemp("outside")
    (outside / "file").write_text("secret")
    (outside / "missing").write_text("secret")
    inside = outside / "root"
    for folder in (inside, inside / "folder", inside / "folder" / "inner"):
        folder.mkdir()
        (folder / "file").write_text(str(folder))
        (folder / "link-to-file").symlink_to("file")
        (folder / "link-to-folder").symlink_to(inside / "folder")
        (folder / "link-out").symlink_to(outside)
        os.mkfifo(folder / "fifo")
    fd = os.open(inside, os.O_PATH | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def outcome(root: int, path: str) -> Outcome:
    try:
        fd = open_beneath(root, path, FLAGS)
    except OSError as error:
        assert error.errno in (errno.EXDEV, errno.ELOOP, errno.ENOENT, errno.ENOTDIR, errno.EISDIR), error
        return "error", 0
    try:
        found = os.fstat(fd)
        return ("file", found.st_ino) if stat.S_ISREG(found.st_mode) else ("other", 0)
    finally:
        os.close(fd)


def without_openat2() -> AbstractContextManager[object]:
    """The kernel answers as if it had no openat2."""
    return mock.patch.object(beneath, "_openat2", side_effect=OSError(errno.ENOSYS, "not there"))


def by_the_model(root: int, path: str) -> Outcome:
    """Follow `path` with lstat, component by component, as the rule says: no link, nothing above the root."""
    if path.startswith("/"):
        return "error", 0
    at = Path(f"/proc/self/fd/{root}").resolve()
    depth = 0
    if not path:
        return "error", 0
    for part in path.split("/"):
        if not at.is_dir():
            return "error", 0
        if part == "..":
            depth -= 1
            if depth < 0:
                return "error", 0
            at = at.parent
        elif part not in ("", "."):
            depth += 1
            at /= part
            if at.is_symlink() or not at.exists():
                return "error", 0
    return ("file", at.stat().st_ino) if at.is_file() else ("other", 0)


@given(paths)
@example("folder/../file")
@example("file/")
@example("missing/../file")
def test_a_path_beneath_opens_the_file_that_a_walk_without_links_finds(root: int, path: str) -> None:
    assert outcome(root, path) == by_the_model(root, path)


@given(paths)
@example("file/")
@example("file/.")
@example("file/..")
@example("folder/..")
def test_the_walk_opens_no_file_that_openat2_does_not_open(root: int, path: str) -> None:
    wanted = outcome(root, path)
    with without_openat2():
        found = outcome(root, path)
    if wanted[0] == "file" or found[0] == "file":
        assert found == wanted


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("../file", errno.EXDEV),
        ("folder/../../file", errno.EXDEV),
        ("/etc/passwd", errno.EXDEV),
        ("link-to-file", errno.ELOOP),
        ("folder/link-to-file", errno.ELOOP),
        ("link-to-folder/file", errno.ELOOP),
        ("link-out/file", errno.ELOOP),
        ("missing", errno.ENOENT),
        ("missing/file", errno.ENOENT),
        ("file/file", errno.ENOTDIR),
    ],
)
@pytest.mark.parametrize("fallback", [False, True], ids=["openat2", "walk"])
def test_each_way_out_has_its_errno(root: int, path: str, code: int, fallback: bool) -> None:
    with pytest.raises(OSError) as caught:
        if fallback:
            with without_openat2():
                open_beneath(root, path, FLAGS)
        else:
            open_beneath(root, path, FLAGS)
    assert errno.errorcode[caught.value.errno or 0] == errno.errorcode[code]


def test_a_fifo_does_not_make_the_opening_wait(root: int) -> None:
    for context in (without_openat2(), mock.patch.object(beneath, "_SYS_OPENAT2", beneath._SYS_OPENAT2)):
        with context:
            os.close(open_beneath(root, "folder/fifo", FLAGS))


def test_the_walk_leaves_no_descriptor_open(root: int) -> None:
    gc.collect()  # what another test has left closes its descriptors now, not between the counts
    before = len(os.listdir("/proc/self/fd"))
    with without_openat2():
        for path in ("folder/inner/file", "folder/inner/missing", "folder/inner/../../../x", "link-out/file"):
            outcome(root, path)
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("code", [errno.EAGAIN, errno.EINTR])
def test_a_folder_that_is_renamed_meanwhile_or_a_signal_makes_it_try_again(root: int, code: int) -> None:
    """The kernel says EAGAIN where it cannot be sure that `..` stays beneath the root."""
    left = [code] * 3

    def interrupted(*arguments: Any) -> int:
        if left:
            raise OSError(left.pop(), os.strerror(code))
        return system_call(*arguments)

    with mock.patch.object(beneath, "system_call", interrupted):
        assert outcome(root, "folder/../file") == by_the_model(root, "file")
    assert not left


def test_a_file_without_permission_is_refused_either_way_by_its_own_errno(root: int) -> None:
    """EPERM of a sandbox leads to the walk; EACCES of the file does not."""
    refusal = OSError(errno.EACCES, "denied")
    with mock.patch.object(beneath, "_openat2", side_effect=refusal), pytest.raises(PermissionError):
        open_beneath(root, "file", FLAGS)
    with mock.patch.object(beneath, "_openat2", side_effect=OSError(errno.EPERM, "sandbox")):
        os.close(open_beneath(root, "file", FLAGS))
