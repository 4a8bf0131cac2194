"""What a catalog tells of what it leaves out: links, special files, files called like images, useless patterns."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.builder import write_blank
from vdifs.catalog import walk
from vdifs.catalog.catalog import Catalog
from vdifs.catalog.image_names import may_be_image


def left_out(source: Path, include: Sequence[str] = (), exclude: Sequence[str] = ()) -> list[tuple[str, str, str]]:
    """Return path, severity and kind of all that is left out."""
    catalog = Catalog(os.fspath(source), include=include, exclude=exclude)
    try:
        catalog.scan()
        catalog.scan()
        assert all(str(each.error).startswith(os.fspath(source)) for each in catalog.left_out)
        assert all(": " in str(each.error).split(": ", 1)[1] for each in catalog.left_out), "each says what to do"
        return [(each.path, str(each.severity), each.kind) for each in catalog.left_out]
    finally:
        catalog.close()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder with an image, a text, and folders with one of each."""
    source = tmp_path / "source"
    for folder in ("images", "texts"):
        (source / folder).mkdir(parents=True)
    write_blank(source / "disk.qcow2")
    write_blank(source / "images/inner.qcow2")
    (source / "notes").touch()
    (source / "texts/more.txt").touch()
    return source


@pytest.mark.parametrize("name", ["link.qcow2", "link", "a.b/link"])
@pytest.mark.parametrize(
    "target",
    [
        "{outside}/disk.qcow2",
        "{outside}/pool",
        "{outside}/pool/",
        "{outside}",
        "../outside/vm1.snap7",
        "/dev/vg0/vm1",
        "gone.qcow2",
        ".hidden.qcow2",
        "link",
        "..",
    ],
)
def test_a_link_that_may_lead_to_images_is_told(source: Path, tmp_path: Path, name: str, target: str) -> None:
    """Whether or not there is anything where it leads, which is not looked at."""
    (source / name).parent.mkdir(exist_ok=True)
    (source / name).symlink_to(target.format(outside=tmp_path / "outside"))
    severity = "note" if (name, target) == ("a.b/link", "..") else "warning"  # which is the source itself
    assert left_out(source) == [(name, severity, "skipped-link")]


@pytest.mark.parametrize(
    "target", ["disk.qcow2", "./images/../disk.qcow2", "{source}/disk.qcow2", "images", ".", "{source}"]
)
def test_a_link_to_what_is_shown_anyway_is_a_note(source: Path, target: str) -> None:
    (source / "link").symlink_to(target.format(source=source))
    assert left_out(source) == [("link", "note", "skipped-link")]


@pytest.mark.parametrize("target", ["notes", "texts", "texts/more.txt", "/etc/hosts.conf", "/usr/share/doc/README.txt"])
def test_a_link_to_what_is_no_image_is_not_told(source: Path, target: str) -> None:
    (source / "link").symlink_to(target)
    assert left_out(source) == []


def test_a_link_by_another_name_of_the_source_leads_into_it(source: Path, tmp_path: Path) -> None:
    (tmp_path / "alias").symlink_to(source)
    (source / "link").symlink_to(source / "disk.qcow2")
    assert left_out(tmp_path / "alias") == [("link", "note", "skipped-link")]


def test_what_is_excluded_or_hidden_is_left_out_as_was_asked(source: Path) -> None:
    for name in ("old.qcow2", ".old.qcow2", "texts/old.qcow2"):
        (source / name).symlink_to("/elsewhere.qcow2")
    assert left_out(source, exclude=["old*"]) == []


def test_links_lead_nowhere_and_cost_nothing(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a link points at is neither opened nor asked for anything: a FIFO or a dead server would hang."""
    os.mkfifo(source.parent / "fifo.qcow2")
    (source / "link.qcow2").symlink_to(source.parent / "fifo.qcow2")
    asked: list[str] = []

    def watching(real: Callable[..., Any]) -> Callable[..., Any]:
        def watched(path: object, *rest: Any, **more: Any) -> Any:
            asked.append(os.path.basename(str(path)))
            return real(path, *rest, **more)

        return watched

    for name in ("stat", "open", "lstat"):
        monkeypatch.setattr(os, name, watching(getattr(os, name)))
    assert left_out(source) == [("link.qcow2", "warning", "skipped-link")]
    assert asked
    assert not {"fifo.qcow2", "link.qcow2"} & set(asked)


def test_thousands_of_links_are_counted_and_a_thousand_named(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walk, "_MOST_LINKS_READ", 30)
    monkeypatch.setattr(walk, "_MOST_KEPT", 10)
    for number in range(50):
        (source / f"{number}.qcow2").symlink_to("/elsewhere.qcow2")
    found = left_out(source)
    assert len(found) == 11
    assert found[-1] == ("", "warning", "skipped-link")


def test_a_link_that_is_gone_before_it_is_read_is_none(source: Path) -> None:
    passed = walk.Passed(os.fspath(source))
    (source / "there.qcow2").symlink_to("/elsewhere")
    for name in ("gone.qcow2", "disk.qcow2", "there.qcow2"):  # not there any more; a file by now; still a link
        passed.note(name, is_link=True, is_folder=False)
    assert (passed.kept, passed.more) == ([walk.Skipped("there.qcow2", "/elsewhere")], 0)


@pytest.mark.parametrize("name", ["d.qcow2", "d.QCOW2", "d.vmdk", "d.vhd", "d.vhdx", "d.vdi", "D.IMG", "D.RAW"])
def test_a_file_that_is_called_an_image_and_is_none_is_told(source: Path, name: str) -> None:
    (source / name).write_bytes(b"nothing")
    assert left_out(source) == [(name, "warning", "no-image")]


@pytest.mark.parametrize("name", ["fifo.qcow2", "fifo.raw"])
def test_what_is_no_regular_file_and_called_an_image_is_told(source: Path, name: str) -> None:
    os.mkfifo(source / name)
    os.mkfifo(source / "fifo")
    assert left_out(source) == [(name, "warning", "no-image")]


def test_a_folder_with_the_reserved_name_is_told(source: Path) -> None:
    (source / "@trust").mkdir()
    assert left_out(source) == [("@trust", "warning", "reserved-name")]


def test_a_pattern_that_is_like_no_image_is_told(source: Path) -> None:
    assert left_out(source, ["*.qcow2"]) == []
    assert left_out(source, ["disk.*", "images/*"]) == []
    assert left_out(source, ["*.qcow", "disk.qcow2", "notes"]) == [("", "warning", "include")] * 2


def test_what_a_name_tells() -> None:
    assert all(
        map(may_be_image, ["a.img", "pool", "pool/", "vm1.snap1", "x.0001", "..", ".", "pool.d", "txt", "A.VHD"])
    )
    assert not any(map(may_be_image, ["a.txt", "a/b.ISO", "b.iso/", "disk.img.sha256", "x.tar.gz"]))
