"""Names: one rule each, as docs/specification.md 2.1 has them."""

import posixpath

from hypothesis import given
from hypothesis import strategies as st

from vdifs.mount.view import names

name = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1).filter(
    lambda text: text not in (".", "..")
)
path = st.lists(name, min_size=1, max_size=4).map("/".join)


def test_a_qcow2_keeps_its_name_when_flattened() -> None:
    assert names.flattened("vms/a.qcow2", "qcow2") == "vms/a.qcow2"


def test_a_raw_image_gets_a_suffix_when_flattened() -> None:
    assert names.flattened("x.raw", "raw") == "x.raw.qcow2"


def test_the_guest_contents_get_a_suffix_whatever_the_name() -> None:
    assert names.guest_contents("vms/a.qcow2") == "vms/a.qcow2.raw"
    assert names.guest_contents("x.raw") == "x.raw.raw"


def test_the_base_against_itself_repeats_its_own_file_name() -> None:
    assert names.base_against_itself("templates/base.qcow2") == "templates/base.qcow2..base.qcow2"


def test_in_one_folder_the_backing_name_is_the_bases_name() -> None:
    assert names.delta_backing_name("monday.qcow2", "base.qcow2") == "base.qcow2"


def test_across_folders_the_backing_name_leads_there() -> None:
    assert names.delta_backing_name("vms/a.qcow2", "templates/base.qcow2") == "../templates/base.qcow2"
    assert names.delta_backing_name("a.qcow2", "templates/base.qcow2") == "templates/base.qcow2"
    assert names.delta_backing_name("vms/a.qcow2", "base.qcow2") == "../base.qcow2"
    assert names.delta_backing_name("a.qcow2", "@trust/srv/base.qcow2") == "@trust/srv/base.qcow2"


def test_qemu_is_not_led_to_see_a_protocol() -> None:
    assert names.delta_backing_name("a.qcow2", "nbd:x.qcow2") == "./nbd:x.qcow2"
    assert names.delta_backing_name("a.qcow2", "nbd:/x.qcow2") == "./nbd:/x.qcow2"
    assert names.delta_backing_name("v/a.qcow2", "nbd:x.qcow2") == "../nbd:x.qcow2"
    assert names.delta_backing_name("a.qcow2", "dir/nbd:x.qcow2") == "dir/nbd:x.qcow2"


@given(path, path)
def test_a_backing_name_leads_from_the_delta_to_the_base(image: str, base: str) -> None:
    backing = names.delta_backing_name(image, base)
    assert posixpath.normpath(posixpath.join("/", posixpath.dirname(image), backing)) == posixpath.normpath("/" + base)
    assert ":" not in backing.partition("/")[0]


def test_a_name_is_measured_in_bytes() -> None:
    assert names.name_fits("folder/" + "n" * 255)
    assert not names.name_fits("n" * 256)
    assert not names.name_fits("ü" * 128)
    assert names.name_fits("\udcff" * 255)


def test_folders_are_named_from_the_outermost_in() -> None:
    assert names.folders_of("a/b/c") == ["a", "a/b"]
    assert names.folders_of("c") == []
