"""The line of `mount` about what it does not serve."""

import pytest

from tests.mount.fakes import FakeCatalog, entry
from vdifs.catalog.left_out import LeftOut
from vdifs.errors import FormatError, InUseError, StorageError, VdifsError
from vdifs.formats.problems import Severity
from vdifs.mount.daemon.announcement import announcement

SEE = ": see 'vdifs status /m\\nnt'"


def left_out(kind: str) -> LeftOut:
    return LeftOut("x", Severity.WARNING, kind, VdifsError("x: left out"))


def test_nothing_is_said_where_all_is_served() -> None:
    assert announcement("/mnt", FakeCatalog(entry("a"), entry("b", "a")), ()) == ""
    assert announcement("/mnt", FakeCatalog(), ()) == ""


def test_refused_images_are_counted_with_what_stands_on_them() -> None:
    catalog = FakeCatalog(
        entry("a", problem=FormatError("a: damaged")), entry("b", "a"), entry("c", "gone"), entry("d"), entry("e")
    )
    said = announcement("/m\nnt", catalog, {"e", "a"})
    assert said == f"/m\\nnt: 4 of 5 images cannot be served{SEE}"


@pytest.mark.parametrize(("count", "are"), [(1, "is"), (2, "are")])
def test_images_in_use_are_counted_by_themselves(count: int, are: str) -> None:
    used = [entry(f"{number}", problem=InUseError("in use")) for number in range(count)]
    said = announcement("/m\nnt", FakeCatalog(entry("a"), *used), ())
    assert said == f"/m\\nnt: {count} of {count + 1} images {are} in use{SEE}"


def test_what_is_left_out_is_counted_by_its_kind() -> None:
    catalog = FakeCatalog(entry("a"))
    kinds = ["skipped-link", "no-image", "skipped-link", "include", "reserved-name", "too-many-snapshots"]
    catalog.left_out = tuple(map(left_out, kinds))
    catalog.troubles = {"folder": StorageError("folder: closed")}
    assert announcement("/m\nnt", catalog, ()) == (
        "/m\\nnt: 1 folder cannot be looked into, 2 links are not followed, 3 files are left out, "
        f"1 pattern of --include is like no image{SEE}"
    )
