"""Which folder in trouble a PATH lies in."""

import pytest

from vdifs.catalog.troubles import is_within


@pytest.mark.parametrize(
    ("path", "folders", "found"),
    [
        ("a/b/c", [], None),
        ("a/b/c", ["a/b/c"], "a/b/c"),
        ("a/b/c", ["a", "a/b"], "a/b"),
        ("a/b/c", ["a/bb", "b", "c"], None),
        ("a/b/c", [""], ""),
        ("a", ["", "a"], "a"),
        ("", [""], ""),
        ("@trust/a/b", ["@trust/a"], "@trust/a"),
        ("@trust/a/b", [""], None),
    ],
    ids=[
        "no trouble", "itself", "the innermost", "names that are alike", "the source root", "the innermost again",
        "the root itself", "a trusted folder", "a trusted folder does not lie in the source root",
    ],
)  # fmt: skip
def test_a_path_lies_in_itself_and_in_each_folder_above_it(path: str, folders: list[str], found: str | None) -> None:
    assert is_within(path, folders) == found
