"""Which file a name in an image means, and which names mean none."""

import gc
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vdifs.chain.policy import TRUST_PREFIX, Policy
from vdifs.errors import PolicyError, StorageError, VdifsError


@dataclass(frozen=True)
class Place:
    """A source with a folder in it, a trusted directory beside it, a secret beside both, no links anywhere."""

    top: Path
    policy: Policy

    @property
    def root(self) -> Path:
        return self.top / "source"

    @property
    def trusted(self) -> Path:
        return self.top / "trusted"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    top = tmp_path_factory.mktemp("place").resolve()
    for folder in ("source/vms/deeper", "source/vms", "source/templates", "trusted/golden", "source-too", "secret"):
        (top / folder).mkdir(parents=True, exist_ok=True)
        (top / folder / "base").write_text(folder)
    with Policy(os.fspath(top / "source"), [os.fspath(top / "trusted")]) as policy:
        yield Place(top, policy)


@pytest.mark.parametrize(
    ("overlay", "name", "path"),
    [
        ("top", "base", "base"),
        ("top", "./base", "base"),
        ("top", "vms//base", "vms/base"),
        ("vms/top", "base", "vms/base"),
        ("vms/top", "../base", "base"),
        ("vms/top", "../templates/base", "templates/base"),
        ("vms/top", "../../source/vms/base", "vms/base"),
        ("top", "vms/../templates/./base", "templates/base"),
        ("vms/top", "./a:b", "vms/a:b"),
        ("vms/top", "sub/a:b", "vms/sub/a:b"),
        ("vms/top", "größe %41 base", "vms/größe %41 base"),
        ("vms/top", "back\\slash", "vms/back\\slash"),
    ],
)
def test_a_relative_name_resolves_against_the_folder_of_the_overlay(
    place: Place, overlay: str, name: str, path: str
) -> None:
    assert place.policy.resolve(overlay, name) == path


def test_an_absolute_name_in_the_source_is_a_path_of_it(place: Place) -> None:
    assert place.policy.resolve("top", f"{place.root}/vms/base") == "vms/base"
    assert place.policy.resolve("top", f"/{place.root}//base") == "base"


def test_a_name_in_a_trusted_directory_is_a_trust_path(place: Place) -> None:
    wanted = f"@trust{place.trusted}/golden/base"
    assert place.policy.resolve("top", f"{place.trusted}/golden/base") == wanted
    assert place.policy.resolve("vms/top", "../../trusted/golden/base") == wanted
    assert place.policy.resolve(wanted, "base") == wanted
    assert place.policy.resolve(f"@trust{place.trusted}/top", "golden/base") == wanted
    assert place.policy.resolve(wanted, "../../source/vms/base") == "vms/base"


@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd",
        "../secret/base",
        "../source-too/base",
        "../source",
        "..",
        "../../../../../../etc/passwd",
        "//etc/passwd",
        "/proc/self/root/etc/passwd",
    ],
)
def test_a_name_outside_is_refused_with_the_option_that_would_allow_it(place: Place, name: str) -> None:
    with pytest.raises(PolicyError, match=r"not beneath a trusted directory: allow it with --trust /") as caught:
        place.policy.resolve("top", name)
    assert caught.value.errno == 13


@pytest.mark.parametrize("name", ["nbd:localhost:10809", "json:{}", "http://x/y", "fat:/etc", "file:base", "a:b", ":x"])
@pytest.mark.parametrize("overlay", ["top", "vms/top"])
def test_a_protocol_is_refused(place: Place, overlay: str, name: str) -> None:
    with pytest.raises(PolicyError, match="a protocol: only files are followed"):
        place.policy.resolve(overlay, name)


@pytest.mark.parametrize("char", [*map(chr, range(32)), "\x7f"])
def test_a_control_character_is_refused_and_not_printed(place: Place, char: str) -> None:
    with pytest.raises(PolicyError, match="control character") as caught:
        place.policy.resolve("top", f"ba{char}se")
    assert str(caught.value).isprintable()
    assert f"it names 'ba{ascii(char)[1:-1]}se', with" in str(caught.value), "escaped once"


components = st.sampled_from(["base", "vms", "templates", "golden", "source", "trusted", "secret", "..", ".", ""])
names = st.lists(components, min_size=1, max_size=6).map("/".join).filter(bool)


def leads_out(overlay: str, name: str) -> bool:
    """Tell whether a relative name goes above the source on its way."""
    depth = overlay.count("/")
    for part in name.split("/"):
        depth += {"..": -1, ".": 0, "": 0}.get(part, 1)
        if depth < 0:
            return True
    return False


@given(st.sampled_from(["top", "vms/top", "vms/deeper/top"]), names, st.booleans())
def test_a_name_means_the_file_that_the_kernel_would_open_or_none(
    place: Place, overlay: str, name: str, absolute: bool
) -> None:
    if absolute:
        name = f"{place.top}/{name.replace('..', '.')}"
    by_kernel = os.path.join(place.root, os.path.dirname(overlay), name)
    wanted = os.path.normpath(by_kernel)
    try:
        path = place.policy.resolve(overlay, name)
    except PolicyError:
        beneath = any(wanted.startswith(f"{root}/") for root in (place.root, place.trusted))
        assert not beneath or not os.path.exists(by_kernel) or leads_out(overlay, name)
        return
    assert os.path.normpath(place.policy.display(path)) == wanted
    assert not path.startswith(("/", "../"))


@pytest.mark.parametrize("name", ["vms/../base", "vms/deeper/../../base", "./vms/./../base", "vms//..//base"])
def test_dots_after_a_folder_that_is_no_link_lead_back(place: Place, name: str) -> None:
    assert place.policy.resolve("top", name) == "base"
    assert place.policy.resolve("vms/top", f"../{name}") == "base"
    assert place.policy.resolve("top", f"{place.root}/{name}") == "base"


@given(st.text(max_size=30), st.sampled_from(["top", "vms/top"]))
def test_any_name_gives_a_path_or_a_policy_error(place: Place, name: str, overlay: str) -> None:
    try:
        path = place.policy.resolve(overlay, name)
    except PolicyError as error:
        assert str(error).isprintable()
    else:
        assert not path.startswith("/")
        assert ".." not in path.split("/")


@given(names)
def test_what_is_opened_lies_beneath_the_roots(place: Place, name: str) -> None:
    try:
        file = place.policy.open(place.policy.resolve("vms/top", name))
    except VdifsError:
        return
    where = Path(os.readlink(f"/proc/self/fd/{file.fd}"))
    file.close()
    assert place.root in where.parents or place.trusted in where.parents


def test_the_source_and_trusted_directories_may_be_typed_as_links(tmp_path: Path) -> None:
    top = tmp_path.resolve()
    for folder in ("real", "golden"):
        (top / folder).mkdir()
        (top / folder / "base").touch()
        (top / f"link-to-{folder}").symlink_to(top / folder)
    with Policy(f"{top}/link-to-real", [f"{top}/link-to-golden"]) as policy:
        for name in (f"{top}/link-to-real/base", f"{top}/real/base"):
            assert policy.resolve("top", name) == "base"
        for name in (f"{top}/link-to-golden/base", f"{top}/golden/base", "../golden/base"):
            assert policy.resolve("top", name) == f"@trust{top}/link-to-golden/base"
            policy.open(policy.resolve("top", name)).close()


def test_a_link_is_followed_only_where_the_user_typed_it(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "base").write_text("base")
    (tmp_path / "link").symlink_to("real/base")
    policy, name = Policy.for_image(os.fspath(tmp_path / "link"))
    with policy:
        policy.open(name).close()
    with Policy(os.fspath(tmp_path)) as policy, pytest.raises(StorageError, match="symbolic links are not followed"):
        policy.open("link")


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo], ids=["a folder", "a fifo"])
def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path, make: object) -> None:
    assert callable(make)
    make(tmp_path / "thing")
    with Policy(os.fspath(tmp_path)) as policy, pytest.raises(StorageError, match="regular file"):
        policy.open("thing")


def test_a_device_is_refused(place: Place) -> None:
    with Policy("/dev") as policy, pytest.raises(StorageError, match="regular file"):
        policy.open("zero")


def test_a_trust_path_outside_the_trusted_directories_is_refused(place: Place) -> None:
    with pytest.raises(PolicyError, match="not beneath a trusted directory"):
        place.policy.open(f"{TRUST_PREFIX}etc/passwd")


@pytest.mark.parametrize("path", ["folder/", ".", "..", "folder/.", ""])
def test_a_folder_is_no_image(path: str) -> None:
    with pytest.raises(StorageError, match="is a directory: name an image in it"):
        Policy.for_image(path)


def test_dots_in_an_overlay_beneath_a_trusted_directory_follow_no_folder(place: Place) -> None:
    """Only folders beneath the source are looked at: whether one in a trusted directory is a link is not asked."""
    with pytest.raises(PolicyError, match=r"its '\.\.' follows what is no folder beneath the source"):
        place.policy.resolve(f"@trust{place.trusted}/top", "golden/../golden/base")
    with pytest.raises(PolicyError, match=r"its '\.\.' follows what is no folder beneath the source"):
        place.policy.resolve("top", f"{place.trusted}/golden/../golden/base")


def test_a_directory_that_is_missing_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="missing: No such file or directory"):
        Policy(os.fspath(tmp_path / "missing"))
    with pytest.raises(StorageError, match="missing: No such file or directory"):
        Policy(os.fspath(tmp_path), [os.fspath(tmp_path / "missing")])


def test_a_policy_that_cannot_be_made_leaves_no_descriptor_open(tmp_path: Path) -> None:
    gc.collect()  # what another test has left closes its descriptors now, not between the counts
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(StorageError):
        Policy(os.fspath(tmp_path), [os.fspath(tmp_path / "missing")])
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_file_below_a_folder_called_like_the_trust_prefix_is_not_another_file(tmp_path: Path) -> None:
    """The PATH `@trust/DIR/base` must not mean /DIR/base when the source itself has a folder `@trust`."""
    source, trusted = tmp_path / "source", tmp_path / "trusted"
    beside = Path(f"{source}/{TRUST_PREFIX}{trusted}")
    for folder in (trusted, beside):
        folder.mkdir(parents=True)
        (folder / "base").write_text(os.fspath(folder))
    with Policy(os.fspath(source), [os.fspath(trusted)]) as policy:
        assert_opens_or_refuses(policy, "top", f"{TRUST_PREFIX}{trusted}/base"[:], beside / "base")


def test_dots_after_a_link_do_not_lead_to_another_file(tmp_path: Path) -> None:
    """QEMU opens `link/../base` through the link; taking the dots for text would find the base beside the overlay."""
    source, elsewhere = tmp_path / "source", tmp_path / "elsewhere"
    for folder in (source, elsewhere / "inner"):
        folder.mkdir(parents=True)
    (source / "base").write_text("the wrong one")
    (elsewhere / "base").write_text("what QEMU reads")
    (source / "link").symlink_to(elsewhere / "inner")
    with Policy(os.fspath(source), [os.fspath(elsewhere)]) as policy:
        assert_opens_or_refuses(policy, "top", "link/../base", elsewhere / "base")


def test_dots_after_a_link_in_what_the_user_types_do_not_lead_to_another_file(tmp_path: Path) -> None:
    (tmp_path / "elsewhere" / "inner").mkdir(parents=True)
    (tmp_path / "base").write_text("the wrong one")
    (tmp_path / "elsewhere" / "base").write_text("what open(2) opens")
    (tmp_path / "link").symlink_to("elsewhere/inner")
    policy, name = Policy.for_image(os.fspath(tmp_path / "link" / ".." / "base"))
    with policy:
        file = policy.open(name)
    assert file.read_at(0, file.size) == b"what open(2) opens"
    file.close()


def assert_opens_or_refuses(policy: Policy, overlay: str, name: str, wanted: Path) -> None:
    """Assert that `name` opens the file `wanted`, or none at all."""
    try:
        file = policy.open(policy.resolve(overlay, name))
    except VdifsError:
        return
    found = file.read_at(0, file.size).decode()
    file.close()
    assert found == wanted.read_text()
