"""Programs that never heard of vdifs accept its files: QEMU's, an independent library, an OpenStack service's guard.

libqcow and oslo.utils are optional: their tests are skipped where they are not installed, and fail there in CI.
"""

import importlib
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any

import pytest

import vdifs
from tests.conftest import require_tool
from tests.support import oracle
from tests.support.builder import CLUSTER
from tests.support.builder import make as make_image
from tests.support.combinations import Combination, Images, all_combinations, make
from tests.support.command_line import export
from tests.support.drafts import log_uniform
from tests.support.packing import pack, put
from tests.support.stamps import stamped
from tests.support.units import MIB

CHOSEN = [
    combination
    for combination in all_combinations()
    if str(combination)
    in {
        "512-v2-plain-odd-on-odd",
        "4096-v3-zeros-odd-on-longer",
        "65536-v2-deflate-exact-on-qcow2",
        "65536-v3-zstd-odd-on-raw",
        "65536-v3-extended_l2-exact-on-shorter",
        "131072-v3-preallocated-odd-on-qcow2",
        "2097152-v3-zeros-exact-on-raw",
        "65536-v3-plain-none-on-none",
        "65536-v3-plain-huge-on-qcow2",
    }
]
SMALL = [combination for combination in CHOSEN if combination.size not in ("huge", "none")]
"""What libqcow can be asked for: it takes no empty disk, of QEMU neither, as its L1 table has no entries."""


def require_module(name: str) -> ModuleType:
    """Import an optional module. Where it is missing the test is skipped, or fails if CI is set."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if os.environ.get("CI"):
            pytest.fail(f"{error.name} is not installed, and CI must have it", pytrace=False)
        pytest.skip(f"{error.name} is not installed")


@pytest.fixture
def images(combination: Combination, tmp_path: Path) -> Images:
    return make(combination, tmp_path / "source")


@pytest.mark.parametrize("combination", CHOSEN, ids=str)
def test_qemu_img_sees_a_plain_qcow2_where_it_is_not_told_what_it_is(images: Images, tmp_path: Path) -> None:
    full = export(images.image, tmp_path / "full")
    assert '"format": "qcow2"' in oracle.qemu_img("info", "--output=json", full)
    assert "Images are identical" in oracle.qemu_img("compare", full, images.image)


@pytest.mark.parametrize("combination", CHOSEN, ids=str)
def test_qemu_nbd_serves_a_full_image_and_a_delta_like_their_source(images: Images, tmp_path: Path) -> None:
    full = export(images.image, tmp_path / "full.qcow2")
    name = os.path.relpath(images.image, tmp_path)
    delta = export(images.top, tmp_path / "delta.qcow2", "--base", images.image, "--backing-name", name)
    for served, source in ((full, images.image), (delta, images.top)):
        with nbd_server(served) as uri:
            said = oracle.qemu_img("compare", "-f", "raw", "-F", "qcow2", uri, source)
            assert said.splitlines() == ["Images are identical."]  # of another size there would be a warning


def test_libqcow_and_7zip_read_clusters_that_stay_packed(tmp_path: Path) -> None:
    """Of what zlib makes libqcow inflates a part, and shows zeros for the rest: it reads what it does of the source."""
    size = 2 * MIB + 512
    (tmp_path / "data").write_bytes(stamped(0, size, 1))
    source = make_image(tmp_path / "source.qcow2", size).io(f"write -c -s {tmp_path / 'data'} 0 {size}")
    for cluster in range(16):
        put(source, pack("zlib", bytes([cluster + 1]) * CLUSTER), cluster=cluster)
    full = export(source.path, tmp_path / "full.qcow2")
    wanted = oracle.materialize(source.path, tmp_path / "wanted.raw").read_bytes()
    with opened_by_libqcow(full) as file, opened_by_libqcow(source.path) as like:
        read = file.read_buffer_at_offset(size, 0)
        assert read == like.read_buffer_at_offset(size, 0)
        assert read[:MIB] == wanted[:MIB]
    done = subprocess.run([require_tool("7z"), "e", "-so", "-tqcow", full], stdout=subprocess.PIPE, check=True)
    assert done.stdout == wanted


@contextmanager
def nbd_server(image: Path) -> Iterator[str]:
    """Serve an image by qemu-nbd until the end of the block; yield the URI of it."""
    with tempfile.TemporaryDirectory() as folder:  # the name of a socket must be short
        path = Path(folder) / "socket"
        words = ["--read-only", "--persistent", "--format=qcow2", f"--socket={path}", os.fspath(image)]
        with subprocess.Popen([require_tool("qemu-nbd"), *words], stderr=subprocess.DEVNULL) as server:
            try:
                wait_for(path, server)
                yield f"nbd+unix:///?socket={path}"
            finally:
                server.terminate()


def wait_for(path: Path, server: "subprocess.Popen[bytes]") -> None:
    """Wait until the server answers."""
    deadline = time.monotonic() + 100
    while True:
        with suppress(OSError), socket.socket(socket.AF_UNIX) as client:
            client.connect(os.fspath(path))
            return
        assert server.poll() is None, "qemu-nbd ended at once"
        assert time.monotonic() < deadline, "qemu-nbd does not serve"
        time.sleep(0.01)


@pytest.fixture
def as_libqcow_needs_it(combination: Combination) -> tuple[str, ...]:
    """It opens no file with zstd's clusters."""
    return ("--packed", "expand") if "zstd" in str(combination) else ()


@pytest.mark.parametrize("combination", SMALL, ids=str)
def test_libqcow_reads_a_full_image_like_its_source(
    images: Images, as_libqcow_needs_it: tuple[str, ...], tmp_path: Path
) -> None:
    contents = oracle.materialize(images.image, tmp_path / "contents.raw")
    with opened_by_libqcow(export(images.image, tmp_path / "full.qcow2", *as_libqcow_needs_it)) as file:
        assert file.get_media_size() == contents.stat().st_size
        assert file.get_backing_filename() is None
        prove_reads(file, contents)


@pytest.mark.parametrize("combination", SMALL, ids=str)
def test_libqcow_reads_a_delta_on_its_base_like_the_source(
    images: Images, as_libqcow_needs_it: tuple[str, ...], tmp_path: Path
) -> None:
    """The library is given the backing file, which it does not look for itself."""
    contents = oracle.materialize(images.image, tmp_path / "contents.raw")
    full = export(images.image, tmp_path / "image.qcow2", *as_libqcow_needs_it)
    delta = export(images.image, tmp_path / "image..image.qcow2", "--base", images.image, *as_libqcow_needs_it)
    with opened_by_libqcow(full) as below, opened_by_libqcow(delta) as file:
        file.set_parent(below)
        assert file.get_backing_filename() == "image.qcow2"
        prove_reads(file, contents)


@contextmanager
def opened_by_libqcow(image: Path) -> Iterator[Any]:
    file = require_module("pyqcow").file()
    file.open(os.fspath(image))
    try:
        yield file
    finally:
        file.close()


def prove_reads(file: Any, contents: Path) -> None:
    """Prove that libqcow reads what is in a file: in order, then here and there."""
    wanted = contents.read_bytes()
    for offset in range(0, len(wanted), MIB):
        assert file.read_buffer_at_offset(min(MIB, len(wanted) - offset), offset) == wanted[offset : offset + MIB]
    rng = Random(0)
    for _ in range(100 if wanted else 0):
        offset = rng.randrange(len(wanted))
        length = min(log_uniform(rng, 1, MIB), len(wanted) - offset)
        assert file.read_buffer_at_offset(length, offset) == wanted[offset : offset + length]


@pytest.mark.parametrize("combination", CHOSEN, ids=str)
def test_the_guard_of_openstack_finds_nothing_unsafe_in_a_full_image(images: Images, tmp_path: Path) -> None:
    inspected = inspect(export(images.image, tmp_path / "full.qcow2"))
    inspected.safety_check()
    assert (str(inspected), inspected.virtual_size) == ("qcow2", oracle.virtual_size(images.image))


def test_the_guard_of_openstack_finds_the_backing_file_of_a_delta(tmp_path: Path) -> None:
    """It would not let a tenant upload one, and says why."""
    inspector = require_module("oslo_utils.imageutils.format_inspector")
    images = make(SMALL[0], tmp_path / "source")
    inspected = inspect(export(images.top, tmp_path / "delta.qcow2", "--base", images.image))
    with pytest.raises(inspector.SafetyCheckFailed) as caught:
        inspected.safety_check()
    assert list(caught.value.failures) == ["backing_file"]


def inspect(image: Path) -> Any:
    inspector = require_module("oslo_utils.imageutils.format_inspector")
    return inspector.detect_file_format(os.fspath(image))


def test_the_guard_of_openstack_takes_guest_contents_for_what_the_guest_put_there(tmp_path: Path) -> None:
    """A raw view is raw: what a reader detects in it, the guest has written."""
    inspector = require_module("oslo_utils.imageutils.format_inspector")
    images = make(SMALL[0], tmp_path / "source")
    with vdifs.open(images.image, view="raw") as opened:
        (tmp_path / "disk.raw").write_bytes(b"".join(opened.stream()))
    assert isinstance(inspect(tmp_path / "disk.raw"), inspector.RawFileInspector)
