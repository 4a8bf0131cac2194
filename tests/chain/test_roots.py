"""A directory that is held, and another one that takes its name: gone over to, or gone back from."""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from vdifs.chain.roots import Root
from vdifs.linux.beneath import open_beneath


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path.resolve() / "folder"
    folder.mkdir()
    (folder / "first").touch()
    return folder


@pytest.fixture
def root(folder: Path) -> Iterator[Root]:
    before = descriptors()
    root = Root.open(os.fspath(folder))
    yield root
    root.close()
    assert descriptors() <= before


def descriptors() -> set[str]:
    """Return what this process has open."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # that of the listing itself
            found.add(os.readlink(f"/proc/self/fd/{name}"))
    return found


def replace(folder: Path) -> None:
    """Put another folder in its place, with another file in it."""
    folder.rename(folder.with_name("moved"))
    folder.mkdir()
    (folder / "second").touch()


def leads_to(root: Root) -> set[str]:
    """Return which of the two files are beneath it."""
    found = set()
    for name in ("first", "second"):
        try:
            os.close(open_beneath(root.fd, name, os.O_RDONLY))
        except FileNotFoundError:
            continue
        found.add(name)
    return found


def test_a_folder_that_is_as_it_was_stays(folder: Path, root: Root) -> None:
    for stay in (True, False):
        assert root.look_again() is None
        root.settle(stay=stay)
        assert leads_to(root) == {"first"}


@pytest.mark.parametrize("stay", [True, False])
def test_another_folder_that_has_its_name_is_gone_over_to_and_stayed_with_if_it_is_wanted(
    folder: Path, root: Root, stay: bool
) -> None:
    number = root.fd
    replace(folder)
    for _ in range(2):  # to the one that was not wanted, each time anew
        assert root.look_again() is None
        assert (root.fd, leads_to(root)) == (number, {"second"}), "the descriptor has one number for good"
        root.settle(stay=stay)
        assert (root.fd, leads_to(root)) == (number, {"second"} if stay else {"first"})
        assert not os.get_inheritable(root.fd)


def test_the_folder_that_was_left_is_not_held(folder: Path, root: Root) -> None:
    """Nothing that is unmounted from its place could else be unmounted at all."""
    replace(folder)
    root.look_again()
    assert os.fspath(folder.with_name("moved")) in descriptors()
    root.settle(stay=True)
    assert os.fspath(folder.with_name("moved")) not in descriptors()


def test_to_look_again_and_again_holds_no_more_than_two(folder: Path, root: Root) -> None:
    replace(folder)
    root.look_again()
    held = len(os.listdir("/proc/self/fd"))
    folder.rename(folder.with_name("moved too"))
    folder.mkdir()
    assert root.look_again() is None
    assert len(os.listdir("/proc/self/fd")) <= held
    assert leads_to(root) == set()
    root.settle(stay=False)
    assert leads_to(root) == {"second"}


@pytest.mark.parametrize("stay", [True, False])
def test_where_a_link_was_switched_names_beneath_its_new_end_are_beneath_the_folder(tmp_path: Path, stay: bool) -> None:
    one, two, link = (tmp_path.resolve() / name for name in ("one", "two", "link"))
    one.mkdir()
    two.mkdir()
    link.symlink_to(one)
    root = Root.open(os.fspath(link))
    assert [root.below(f"{place}/a") for place in (link, one, two)] == ["a", "a", None]
    link.unlink()
    link.symlink_to(two)
    assert root.look_again() is None
    assert [root.below(f"{place}/a") for place in (link, one, two)] == ["a", None, "a"]
    root.settle(stay=stay)
    assert [root.below(f"{place}/a") for place in (link, one, two)] == (["a", None, "a"] if stay else ["a", "a", None])
    root.close()


@pytest.mark.parametrize(
    ("instead", "message"),
    [
        (None, "No such file or directory: it was removed, renamed or unmounted: put it back"),
        (Path.touch, "Not a directory: put the directory back, or unmount and mount another one"),
    ],
    ids=["nothing", "a file"],
)
def test_a_folder_that_has_gone_is_told_and_the_held_one_stays(
    folder: Path, root: Root, instead: Callable[[Path], None] | None, message: str
) -> None:
    folder.rename(folder.with_name("moved"))
    if instead is not None:
        instead(folder)
    trouble = root.look_again()
    assert trouble is not None
    assert trouble.errno == errno.EIO
    assert str(trouble).startswith(f"{folder}: {message}")
    root.settle(stay=False)
    assert leads_to(root) == {"first"}
    folder.unlink(missing_ok=True)
    folder.with_name("moved").rename(folder)
    assert root.look_again() is None


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (errno.EACCES, "another folder has taken its place, which this mount may not read: unmount, then mount again"),
        (errno.ENOENT, "No such file or directory: it was removed, renamed or unmounted"),
        (errno.EIO, "Input/output error: check the disk or server below it"),
    ],
    ids=["the rules of Landlock", "it goes at this moment", "its disk fails"],
)
def test_another_folder_that_cannot_be_opened_is_told_and_the_held_one_stays(
    folder: Path, root: Root, monkeypatch: pytest.MonkeyPatch, code: int, message: str
) -> None:
    replace(folder)

    def failing(path: Any, flags: int, *rest: Any, **more: Any) -> int:
        if path == os.fspath(folder):
            raise OSError(code, os.strerror(code))
        return real(path, flags, *rest, **more)

    real = os.open
    monkeypatch.setattr(os, "open", failing)
    trouble = root.look_again()
    assert trouble is not None
    assert trouble.errno == errno.EIO
    assert str(trouble).startswith(f"{folder}: {message}")
    root.settle(stay=False)
    assert leads_to(root) == {"first"}
