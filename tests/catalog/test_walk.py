"""Finding files: regular ones only, nothing hidden, no link followed, wanted by the patterns."""

import errno
import fnmatch
import os
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path, PurePosixPath
from typing import NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vdifs.catalog.walk import Filter, Found, Seen, vdifs_mounts, walk
from vdifs.chain.access import Permission
from vdifs.chain.roots import Root
from vdifs.storage.fingerprint import Fingerprint

NAMES = ["a.qcow2", "b.qcow2", "a.raw", "vms", "old", ".hidden", "größe", "new\nline", "[x]", "link", "fifo"]
PATTERNS = ["*.qcow2", "*.raw", "vms", "vms/*", "old/a.qcow2", "a.*", "[[]x]", "*", "größe"]

Tree = dict[str, "Tree | None"]  # a folder's names; None is a file

trees: st.SearchStrategy[Tree] = st.recursive(
    st.dictionaries(st.sampled_from(NAMES), st.none(), max_size=4),
    lambda inner: st.dictionaries(st.sampled_from(NAMES), st.one_of(st.none(), inner), max_size=5),
    max_leaves=12,
)


def fail(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """Have every listing of a folder fail."""

    def failing(_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "scandir", failing)


def walked(folder: Path, wanted: Filter, skip: Collection[str] = (), *, seen: Seen | None = None) -> Iterator[Found]:
    """Walk the folder."""
    root = Root.open(os.fspath(folder))
    try:
        yield from walk(root, wanted, skip, Seen() if seen is None else seen)
    finally:
        root.close()


def plant(folder: Path, tree: Tree, outside: Path) -> None:
    folder.mkdir()
    for name, inner in tree.items():
        if name == "link":
            (folder / name).symlink_to(outside if inner else outside / "file")
        elif name == "fifo":
            os.mkfifo(folder / name)
        elif inner is None:
            (folder / name).touch()
        else:
            plant(folder / name, inner, outside)


def files_of(tree: Tree, above: str = "") -> list[str]:
    """Return the paths that a walk without patterns must find."""
    found: list[str] = []
    for name, inner in tree.items():
        if name.startswith(".") or name in ("link", "fifo"):
            continue
        found += [above + name] if inner is None else files_of(inner, f"{above}{name}/")
    return found


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("outside")
    (folder / "file").touch()
    return folder


@given(tree=trees)
def test_a_walk_finds_the_regular_files_that_are_not_hidden(
    tmp_path_factory: pytest.TempPathFactory, outside: Path, tree: Tree
) -> None:
    root = tmp_path_factory.mktemp("walk") / "root"
    plant(root, tree, outside)
    found = {f.path: f for f in walked(root, Filter())}
    assert sorted(found) == sorted(files_of(tree))
    for path, file in found.items():
        status = (root / path).stat()
        assert file.fingerprint == Fingerprint.of(status)
        assert (file.uid, file.gid) == (status.st_uid, status.st_gid)
        folders = [root / folder for folder in PurePosixPath(path).parents if folder != PurePosixPath()]
        assert file.permissions == tuple(Permission.of(str(p), p.stat()) for p in (root / path, *folders))


patterns = st.lists(st.sampled_from(PATTERNS), max_size=2)


@given(tree=trees, include=patterns, exclude=patterns)
def test_patterns_match_a_path_or_a_name_and_an_excluded_folder_is_not_entered(
    tmp_path_factory: pytest.TempPathFactory, outside: Path, tree: Tree, include: list[str], exclude: list[str]
) -> None:
    root = tmp_path_factory.mktemp("walk") / "root"
    plant(root, tree, outside)
    wanted = [path for path in files_of(tree) if is_wanted(path, include, exclude)]
    assert sorted(f.path for f in walked(root, Filter(include, exclude))) == sorted(wanted)


def is_wanted(path: str, include: list[str], exclude: list[str]) -> bool:
    def matches(part: PurePosixPath, among: list[str]) -> bool:
        return any(fnmatch.fnmatchcase(text, p) for p in among for text in (str(part), part.name))

    whole = PurePosixPath(path)
    if any(matches(part, exclude) for part in (whole, *whole.parents) if part.name):
        return False
    return not include or matches(whole, include)


def test_a_skipped_folder_is_not_entered(tmp_path: Path) -> None:
    for folder in ("kept", "skipped", "kept/skipped"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "file").touch()
    found = walked(tmp_path, Filter(), {os.fspath(tmp_path / "skipped")})
    assert sorted(f.path for f in found) == ["kept/file", "kept/skipped/file"]


def test_a_root_that_has_gone_is_told(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    root, seen = Root.open(os.fspath(tmp_path / "root")), Seen()
    (tmp_path / "root").rmdir()
    assert list(walk(root, Filter(), (), seen)) == []
    root.close()
    assert seen.lost[""].errno == errno.ENOENT


def test_a_folder_that_goes_while_it_is_walked_is_as_good_as_empty(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
    steps = walked(tmp_path, Filter())
    first = next(steps)
    for name in {"a", "b", "c"} - {first.path[0]}:
        (tmp_path / name / "file").unlink()
        (tmp_path / name).rmdir()
    assert list(steps) == []


def test_a_folder_that_becomes_a_link_while_it_is_walked_leads_nowhere(tmp_path: Path, outside: Path) -> None:
    root = tmp_path / "root"
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
        (root / name / "inside").touch()
    steps = walked(root, Filter())
    (other,) = {"a", "b"} - {next(steps).path[0]}
    (root / other).rename(tmp_path / "moved")
    (root / other).symlink_to(outside)
    assert list(steps) == []


def test_a_folder_of_which_nothing_can_be_told_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    fail(monkeypatch, errno.EIO)
    seen = Seen()
    assert list(walked(tmp_path, Filter(), seen=seen)) == []
    assert [(path, error.errno) for path, error in seen.lost.items()] == [("", errno.EIO)]


class Failing:
    """An entry of a folder, whose stat fails. is_dir: None where the folder does not tell what its entries are."""

    def __init__(self, name: str, is_dir: bool | None, code: int) -> None:
        self.name = name
        self._is_dir = is_dir
        self._code = code

    def is_dir(self, *, follow_symlinks: bool) -> bool:
        return self._fail() if self._is_dir is None else self._is_dir

    def is_file(self, *, follow_symlinks: bool) -> bool:
        return not self.is_dir(follow_symlinks=follow_symlinks)

    def stat(self, *, follow_symlinks: bool) -> os.stat_result:
        return self._fail()

    def _fail(self) -> NoReturn:
        raise OSError(self._code, os.strerror(self._code))


@pytest.mark.parametrize(
    ("is_dir", "code", "lost", "shut"),
    [
        (True, errno.ENOTCONN, ["x"], ["x"]),
        (True, errno.EACCES, ["x"], ["x"]),
        (True, errno.ENOENT, [], []),
        (False, errno.EIO, ["x"], []),
        (False, errno.EACCES, [""], [""]),
        (False, errno.ENOENT, [], []),
        (False, errno.ESTALE, [], []),
        (None, errno.EIO, ["x"], []),
        (None, errno.ENOENT, [], []),
    ],
    ids=[
        "a folder whose server has died", "a mount of one user alone", "a folder that has gone",
        "a file on a bad disk", "a folder that lets no user in", "a file that has gone", "a file that a server removed",
        "something on a bad disk", "something that has gone",
    ],
)  # fmt: skip
def test_what_a_name_stands_for_and_cannot_be_told_is_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_dir: bool | None, code: int, lost: list[str], shut: list[str]
) -> None:
    (tmp_path / "file").touch()
    scandir = os.scandir

    def with_failing(folder: int) -> AbstractContextManager[list[object]]:
        with scandir(folder) as listing:
            return nullcontext([Failing("x", is_dir, code), *listing])

    monkeypatch.setattr(os, "scandir", with_failing)
    seen = Seen()
    assert [found.path for found in walked(tmp_path, Filter(), seen=seen)] == ["file"]
    assert {path: error.errno for path, error in seen.lost.items()} == dict.fromkeys(lost, code)
    assert seen.shut == set(shut)


def test_names_that_are_no_text_are_found(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe.qcow2")).touch()
    assert [os.fsencode(f.path) for f in walked(tmp_path, Filter())] == [b"\xff\xfe.qcow2"]


def test_the_mounts_of_this_machine_can_be_listed() -> None:
    assert all(path.startswith("/") for path in vdifs_mounts())
