"""Watches of open files: how long each is kept, and what there is where the kernel gives none."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.descriptors import opened
from vdifs.linux import inotify
from vdifs.linux.inotify import LINGER_S, Watch, Watches
from vdifs.linux.libc import call


@pytest.fixture
def made() -> Iterator[Watches]:
    made = Watches()
    yield made
    made.start_anew()


def watched(made: Watches) -> int:
    """Return how many inodes the kernel watches."""
    return Path(f"/proc/self/fdinfo/{made._fd}").read_text().count("inotify wd:")


def added(made: Watches, path: Path) -> Watch:
    """Watch a file; a descriptor is only needed for that moment."""
    path.touch()
    with opened(path) as fd:
        watch = made.add(fd)
    assert watch is not None
    return watch


def test_a_file_that_is_let_go_is_watched_for_a_moment_if_that_is_asked_for(
    made: Watches, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(inotify, "time", SimpleNamespace(monotonic=lambda: now))
    watch = added(made, tmp_path / "file")
    made.linger(watch)
    made.remove(watch)
    now += LINGER_S
    made.drain()
    assert watched(made) == 1
    assert added(made, tmp_path / "file") is watch, "whoever opens it again knows what has happened to it meanwhile"
    made.remove(watch)
    now += 0.001
    made.drain()
    assert watched(made) == 0
    assert added(made, tmp_path / "file") is not watch


def test_only_so_many_are_watched_for_a_moment_longer(
    made: Watches, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inotify, "time", SimpleNamespace(monotonic=lambda: 1000.0))
    monkeypatch.setattr(inotify, "_MOST_LINGERING", 2)
    watches = [added(made, tmp_path / name) for name in "abcd"]
    for watch in watches:
        made.linger(watch)
        made.remove(watch)
    assert watched(made) == 2
    for watch, name in zip(watches, "abcd", strict=True):
        assert (added(made, tmp_path / name) is watch) == (name in "cd")


@pytest.mark.parametrize(("name", "code"), [("inotify_init1", errno.EMFILE), ("inotify_add_watch", errno.ENOSPC)])
def test_where_a_limit_of_the_machine_is_reached_there_is_no_watch(
    made: Watches, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, code: int
) -> None:
    def failing(function: str, *arguments: Any) -> int:
        if function == name:
            raise OSError(code, os.strerror(code))
        return call(function, *arguments)

    (tmp_path / "file").touch()
    with opened(tmp_path / "file") as fd:
        with monkeypatch.context() as patch:
            patch.setattr(inotify, "call", failing)
            assert made.add(fd) is None
        assert made.add(fd) is not None, "the limit may be reached no more"


def test_a_process_just_forked_has_none_and_may_begin_anew(made: Watches, tmp_path: Path) -> None:
    made.start_anew()  # where there was none before
    watch = added(made, tmp_path / "file")
    made.linger(watch)
    parents = made._fd
    made.start_anew()
    assert watch.lost
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(parents)
    (tmp_path / "file").write_bytes(b"x")
    made.drain()
    assert watch.writes == 0
    again = added(made, tmp_path / "file")
    (tmp_path / "file").write_bytes(b"y")
    made.drain()
    assert (again is watch, again.writes > 0, watch.writes) == (False, True, 0)
