"""How users name images: FILE, or FILE@SNAPSHOT."""

import os
from pathlib import Path

import pytest

from vdifs.chain.naming import ImageName


@pytest.mark.parametrize(
    ("typed", "path", "snapshot"),
    [
        ("disk", "disk", None),
        ("disk@one", "disk", "one"),
        ("disk@one@two", "disk", "one@two"),
        ("mail@host", "mail@host", None),
        ("mail@host@one", "mail@host", "one"),
        ("disk@taken", "disk@taken", None),
        ("missing", "missing", None),
        ("missing@one", "missing@one", None),
        ("disk@", "disk", ""),
        ("folder@one/disk@two", "folder@one/disk", "two"),
        ("@one", "@one", None),
    ],
)
def test_an_existing_file_wins_then_the_first_at_sign_that_leaves_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, typed: str, path: str, snapshot: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder@one").mkdir()
    for name in ("disk", "disk@taken", "mail@host", "folder@one/disk"):
        (tmp_path / name).touch()
    assert ImageName.parse(typed) == (path, snapshot)


def test_a_link_to_nowhere_is_a_name_all_the_same(tmp_path: Path) -> None:
    link = os.fspath(tmp_path / "disk@one")
    os.symlink("nowhere", link)
    (tmp_path / "disk").touch()
    assert ImageName.parse(link) == (link, None)
