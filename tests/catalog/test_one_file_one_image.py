"""A file beneath SOURCE is one image, whatever link, folder or bind led to it (docs/specification.md 2.1)."""

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.catalog.test_catalog import scanned
from tests.conftest import require_mounting
from tests.support.builder import write_blank
from vdifs.chain.open_chain import Chain

Naming = Callable[[Path, ExitStack], tuple[Path, Path]]
"""Given SOURCE, returns a directory to trust, and the name of `golden/base.qcow2` beneath it that the overlay has."""


def a_link_to_it(source: Path, _: ExitStack) -> tuple[Path, Path]:
    link = source.with_name("pool")
    link.symlink_to(source)
    return link, link / "golden/base.qcow2"


def a_link_to_a_folder_above(source: Path, _: ExitStack) -> tuple[Path, Path]:
    link = source.with_name("pools")
    link.symlink_to(source.parent)
    return link, link / source.name / "golden/base.qcow2"


def a_link_to_a_folder_inside(source: Path, _: ExitStack) -> tuple[Path, Path]:
    link = source.with_name("golden")
    link.symlink_to(source / "golden")
    return link, link / "base.qcow2"


def the_folder_above(source: Path, _: ExitStack) -> tuple[Path, Path]:
    return source.parent, source / "golden/base.qcow2"


def a_folder_inside(source: Path, _: ExitStack) -> tuple[Path, Path]:
    return source / "golden", source / "golden/base.qcow2"


def itself(source: Path, _: ExitStack) -> tuple[Path, Path]:
    return source, source / "golden/base.qcow2"


def a_bind_mount_of_it(source: Path, stack: ExitStack) -> tuple[Path, Path]:
    there = stack.enter_context(bound(source, source.with_name("bound")))
    return there, there / "golden/base.qcow2"


def a_bind_mount_of_a_folder_above(source: Path, stack: ExitStack) -> tuple[Path, Path]:
    there = stack.enter_context(bound(source.parent, source.with_name("bound")))
    return there, there / source.name / "golden/base.qcow2"


def a_bind_mount_of_a_folder_inside(source: Path, stack: ExitStack) -> tuple[Path, Path]:
    there = stack.enter_context(bound(source / "golden", source.with_name("bound")))
    return there, there / "base.qcow2"


@contextmanager
def bound(folder: Path, there: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("only root may mount")
    there.mkdir()
    require_mounting()
    subprocess.run(["mount", "--bind", folder, there], check=True)
    try:
        yield there
    finally:
        subprocess.run(["umount", "-l", there], check=True)


NAMINGS: list[Naming] = [
    a_link_to_it,
    a_link_to_a_folder_above,
    a_link_to_a_folder_inside,
    the_folder_above,
    a_folder_inside,
    itself,
    a_bind_mount_of_it,
    a_bind_mount_of_a_folder_above,
    a_bind_mount_of_a_folder_inside,
]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    source = tmp_path.resolve() / "source"
    (source / "golden").mkdir(parents=True)
    write_blank(source / "golden/base.qcow2")
    return source


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


@pytest.mark.parametrize("naming", NAMINGS)
@pytest.mark.parametrize("backing_format", ["qcow2", "raw"])
def test_a_base_beneath_the_source_is_that_image(
    source: Path, stack: ExitStack, naming: Naming, backing_format: str
) -> None:
    trusted, name = naming(source, stack)
    write_blank(source / "vm.qcow2", str(name), backing_format)
    with scanned(source, trusted=(trusted,)) as catalog:
        for _ in range(2):
            assert sorted(catalog.entries) == ["golden/base.qcow2", "vm.qcow2"]
            assert [entry.path for entry in catalog.chain("vm.qcow2")] == ["vm.qcow2", "golden/base.qcow2"]
            with Chain.open(catalog.policy, "vm.qcow2") as chain:
                assert [member.path for member in chain.members] == ["vm.qcow2", "golden/base.qcow2"]
            assert not catalog.scan()
        assert catalog.overlays("golden/base.qcow2") == (("vm.qcow2",) if backing_format == "qcow2" else ())


def test_where_the_source_itself_is_the_link_its_real_name_leads_into_it(source: Path) -> None:
    link = source.with_name("pool")
    link.symlink_to(source)
    write_blank(source / "vm.qcow2", str(source / "golden/base.qcow2"), "qcow2")
    with scanned(link) as catalog:
        assert [entry.path for entry in catalog.chain("vm.qcow2")] == ["vm.qcow2", "golden/base.qcow2"]


def test_a_base_elsewhere_beneath_a_trusted_folder_is_not_taken_for_another(source: Path) -> None:
    outside = source.with_name("outside")
    (outside / "golden").mkdir(parents=True)
    for number in (1, 2):
        write_blank(outside / f"golden/base{number}.qcow2")
        write_blank(source / f"vm{number}.qcow2", str(outside / f"golden/base{number}.qcow2"), "qcow2")
    with scanned(source, trusted=(source.parent,)) as catalog:
        first, second = (f"@trust{outside}/golden/base{number}.qcow2" for number in (1, 2))
        assert sorted(catalog.entries) == [first, second, "golden/base.qcow2", "vm1.qcow2", "vm2.qcow2"]
        for path, base in (("vm1.qcow2", first), ("vm2.qcow2", second)):
            assert [entry.path for entry in catalog.chain(path)] == [path, base]
