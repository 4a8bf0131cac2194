"""Where the parent of a child may be, in the order in which it is looked for: never an absolute name."""

import pytest

from vdifs.formats.vhdx.locator import parent_names

CASES: list[tuple[dict[str, str], tuple[str, ...]]] = [
    ({}, ()),
    ({"relative_path": ".\\b.vhdx"}, ("b.vhdx",)),
    ({"relative_path": "b.vhdx"}, ("b.vhdx",)),
    ({"relative_path": "././b.vhdx"}, ("b.vhdx",)),
    ({"relative_path": ".\\\\b.vhdx"}, ("b.vhdx",)),
    ({"relative_path": "..\\x\\b.vhdx"}, ("../x/b.vhdx", "b.vhdx")),
    ({"relative_path": "x/y\\b.vhdx"}, ("x/y/b.vhdx", "b.vhdx")),
    ({"relative_path": "\\\\server\\share\\b.vhdx"}, ("b.vhdx",)),
    ({"relative_path": "C:\\vms\\b.vhdx"}, ("b.vhdx",)),
    ({"relative_path": "c:/etc/passwd"}, ("passwd",)),
    ({"relative_path": "/etc/passwd"}, ("passwd",)),
    ({"relative_path": "\\\\?\\C:\\b.vhdx"}, ("b.vhdx",)),
    ({"relative_path": "file:///etc/passwd"}, ("passwd",)),
    ({"relative_path": "FILE://host/etc/passwd"}, ("passwd",)),
    ({"relative_path": ".\\/etc/passwd"}, ("etc/passwd", "passwd")),
    ({"relative_path": "x\\.."}, ()),
    ({"relative_path": "x\\."}, ()),
    ({"relative_path": "x\\"}, ()),
    ({"relative_path": "."}, ()),
    ({"relative_path": "b\n.vhdx"}, ()),
    ({"relative_path": "x\x1b\\b.vhdx"}, ("b.vhdx",)),
    ({"relative_path": "b\x7f.vhdx"}, ()),
    ({"relative_path": "b\x85.vhdx"}, ()),
    ({"relative_path": "C:b.vhdx"}, ("b.vhdx",)),
    (
        {
            "absolute_win32_path": "C:\\a\\w.vhdx",
            "volume_path": "\\\\?\\Volume{1}\\a\\v.vhdx",
            "relative_path": ".\\r\\x.vhdx",
        },
        ("r/x.vhdx", "v.vhdx", "w.vhdx", "x.vhdx"),
    ),
    ({"absolute_win32_path": "C:\\a\\b.vhdx", "relative_path": "b.vhdx"}, ("b.vhdx",)),
    ({"Relative_path": "b.vhdx"}, ()),
]  # fmt: skip


@pytest.mark.parametrize(("values", "names"), CASES)
def test_candidates(values: dict[str, str], names: tuple[str, ...]) -> None:
    assert parent_names(values) == names
