"""The library believes nothing: whatever is passed for whatever keyword works, or is a VdifsError that names it."""

import array
import ctypes
import io
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import vdifs
from tests.conftest import require_tool
from tests.support import oracle
from tests.support.builder import make
from tests.support.stamps import stamped
from vdifs.errors import WouldBlock

KIB, MIB = 1 << 10, 1 << 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """base.qcow2 <- top.qcow2, which has a snapshot `before`."""
    require_tool("qemu-img")
    require_tool("qemu-io")
    folder = tmp_path_factory.mktemp("arguments")
    make(folder / "base.qcow2", MIB)
    (folder / "data").write_bytes(stamped(0, 256 * KIB, 1))
    oracle.qemu_io(folder / "base.qcow2", [f"write -s {folder}/data 0 256k"])
    make(folder / "top.qcow2", MIB, backing=("base.qcow2", "qcow2"))
    oracle.qemu_img("snapshot", "-c", "before", folder / "top.qcow2")
    oracle.qemu_io(folder / "top.qcow2", ["write -P 1 512k 64k"])
    return folder


@pytest.fixture(scope="module")
def image(folder: Path) -> Iterator[vdifs.Image]:
    with vdifs.open(folder / "top.qcow2") as image:
        yield image


class Named:
    """A path of another library."""

    def __init__(self, name: object) -> None:
        self.name = name

    def __fspath__(self) -> Any:
        return self.name


class Shy:
    """An object that cannot even be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"live": False}, "live=False: give 'refuse' or 'allow'"),
        ({"live": "Refuse"}, "live='Refuse': give 'refuse' or 'allow'"),
        ({"live": ["allow"]}, "live=['allow']: give 'refuse' or 'allow'"),
        ({"live": None}, "live=None: give 'refuse' or 'allow'"),
        ({"view": "RAW"}, "view='RAW': give 'qcow2' or 'raw'"),
        ({"view": b"raw"}, "view=b'raw': give 'qcow2' or 'raw' or 'vhd' or 'vhd-fixed'"),
        ({"trusted": "/srv"}, "trusted='/srv': give a list of directories, also for one alone"),
        ({"trusted": b"/srv"}, "trusted=b'/srv': give a list of directories, also for one alone"),
        ({"trusted": Path("/srv")}, "trusted=PosixPath('/srv'): give a list of directories, also for one alone"),
        ({"trusted": None}, "trusted=None: give a list of directories, also for one alone"),
        ({"trusted": [3]}, "each of trusted=3: give a file name: a str, bytes or os.PathLike"),
        ({"base": 3}, "base=3: give a file name: a str, bytes or os.PathLike"),
        ({"base": "base\0.qcow2"}, r"base='base\x00.qcow2': give a file name, which has no NUL in it"),
        ({"base": "\ud800"}, r"base='\ud800': give a file name: a str, bytes or os.PathLike"),
        ({"cluster_size": "64k"}, "cluster_size='64k': give an integer"),
        ({"cluster_size": 65536.0}, "cluster_size=65536.0: give an integer"),
        ({"cluster_size": True}, "cluster size 1: give a power of two from 512 to 2097152"),
        ({"cluster_size": 1 << 200}, "give a power of two from 512 to 2097152"),
        ({"backing_name": 7, "base": "base.qcow2"}, "backing_name=7: give a name: a str"),
        ({"backing_name": "\udfff\ud800", "base": "base.qcow2"}, "give a name that can be written as UTF-8"),
        ({"backing_name": "x"}, "top.qcow2: a full image has no backing file to be named: give a base too"),
        ({"snapshot": 1}, "snapshot=1: give a name: a str"),
        ({"extended_l2": 1}, "extended_l2=1: give True or False"),
        ({"extended_l2": "no"}, "extended_l2='no': give True or False"),
        ({"live": Shy()}, "give 'refuse' or 'allow'"),
    ],
)
def test_a_wrong_value_is_named_with_its_keyword(
    options: dict[str, Any], said: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    with pytest.raises(vdifs.UsageError) as caught:
        vdifs.open("top.qcow2", **options)
    assert said in str(caught.value)
    assert str(caught.value).isprintable()
    assert (caught.value.errno, caught.value.exit_code) == (22, 2)


@pytest.mark.parametrize("path", [3, None, b"top\0", "top\0", "\ud800", ["top.qcow2"], Named(3), 1.5, True])
def test_a_path_that_is_none_is_wrong_usage(path: Any) -> None:
    with pytest.raises(vdifs.UsageError, match=r"^path="):
        vdifs.open(path)


def test_a_path_may_be_bytes_or_of_another_library(folder: Path) -> None:
    path = os.fsencode(folder / "top.qcow2")
    with vdifs.open(path, base=os.fsencode(folder / "base.qcow2"), trusted=(os.fsencode(folder),)) as delta:
        tag = delta.etag
    with vdifs.open(Named(path), base=Named(str(folder / "base.qcow2")), backing_name=b"base.qcow2") as delta:  # type: ignore[arg-type] # of no annotated kind
        assert delta.etag == tag
    with vdifs.open(folder / "top.qcow2", snapshot=b"before") as old:  # type: ignore[arg-type] # works all the same
        assert old.virtual_size == MIB


def test_numbers_and_truth_values_may_be_those_of_numpy(folder: Path, image: vdifs.Image) -> None:
    with vdifs.open(folder / "top.qcow2", cluster_size=np.int32(16384), extended_l2=np.True_) as other:  # type: ignore[arg-type] # as numpy code passes them
        assert other.read_at(np.uint64(0), np.int8(4)) == b"QFI\xfb"  # type: ignore[arg-type]
    assert b"".join(image.stream(np.int16(4096))) == image.read_at(0, image.size)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "read",
    [
        lambda image: image.read_at(1.0, 1),
        lambda image: image.read_at(0, None),
        lambda image: image.read_at("0", 1),
        lambda image: image.view_at(0, b"1"),
        lambda image: image.readinto_at(0.5, bytearray(1)),
        lambda image: image.readinto_at(0, b"read-only"),
        lambda image: image.readinto_at(0, None),
        lambda image: image.readinto_at(0, "text"),
        lambda image: image.readinto_at(0, memoryview(bytearray(8))[::2]),
        lambda image: image.readinto_at(0, memoryview(bytearray(8)).toreadonly()),
        lambda image: image.readinto_at(0, np.zeros((4, 4), np.uint8).T[:2]),
        lambda image: image.readinto_at(0, np.array([object()] * 8)),
        lambda image: image.stream(0),
        lambda image: image.stream(-1),
        lambda image: image.stream(1.5),
        lambda image: image.stream(None),
    ],
)
def test_a_read_of_no_sense_is_wrong_usage(image: vdifs.Image, read: Callable[[Any], object]) -> None:
    with pytest.raises(vdifs.UsageError) as caught:
        read(image)
    assert str(caught.value).isprintable()


def test_more_than_there_is_memory_for_is_wrong_usage(tmp_path: Path) -> None:
    make(tmp_path / "huge.qcow2", 1 << 59, cluster_size=2 * MIB)
    with vdifs.open(tmp_path / "huge.qcow2", view="raw") as image:
        with pytest.raises(vdifs.UsageError, match="ask for less at a time"):
            image.read_at(0, 1 << 58)
        with pytest.raises(vdifs.UsageError, match="ask for less at a time"):
            next(image.stream(1 << 58))


@pytest.mark.parametrize(
    "buffer",
    [
        array.array("d", [0.0] * 8),
        (ctypes.c_char * 64)(),
        (ctypes.c_int32 * 16)(),
        np.zeros((2, 2, 16), np.int8),
        memoryview(bytearray(64)).cast("B", (8, 8)),
    ],
    ids=lambda buffer: type(buffer).__name__,
)
def test_any_buffer_in_one_piece_is_filled(image: vdifs.Image, buffer: Any) -> None:
    assert image.readinto_at(0, buffer) == 64
    assert bytes(memoryview(buffer)) == image.read_at(0, 64)


def test_an_empty_buffer_takes_nothing(image: vdifs.Image) -> None:
    for buffer in (bytearray(), np.zeros((0, 3), np.int64), memoryview(bytearray(8))[4:4]):
        assert image.readinto_at(0, buffer) == 0  # type: ignore[arg-type] # any buffer


METHODS: dict[str, Callable[[vdifs.Image], object]] = {
    "read_at": lambda image: image.read_at(0, 0),
    "view_at": lambda image: image.view_at(0, 10),
    "readinto_at": lambda image: image.readinto_at(0, bytearray(5)),
    "stream": lambda image: image.stream(),
    "file": lambda image: image.file(),
    "regions": lambda image: image.regions(),
    "known": lambda image: image.known(0, wait=True),
    "ahead": lambda image: image.ahead(0, 1),
    "seek": lambda image: image.seek(0, os.SEEK_DATA),
    "check_unchanged": lambda image: image.check_unchanged(),
    "__enter__": lambda image: image.__enter__(),
}


@pytest.mark.parametrize("name", METHODS)
def test_a_closed_image_says_that_it_is_closed(name: str, folder: Path) -> None:
    image = vdifs.open(folder / "top.qcow2")
    image.close()
    with pytest.raises(vdifs.UsageError, match=r"top\.qcow2: the image was closed: open it again"):
        METHODS[name](image)
    assert (image.virtual_size, len(image.etag)) == (MIB, 64)


def test_every_public_method_is_tried() -> None:
    public = {name for name in vars(vdifs.Image) if not name.startswith("_") and callable(getattr(vdifs.Image, name))}
    assert public - {"close"} <= set(METHODS)


def test_what_was_taken_from_an_image_ends_with_it(folder: Path) -> None:
    image = vdifs.open(folder / "top.qcow2")
    file, stream = image.file(), image.stream(100)
    assert file.read(4) == next(stream)[:4] == b"QFI\xfb"
    image.close()
    with pytest.raises(vdifs.UsageError, match="closed"):
        file.read()
    with pytest.raises(vdifs.UsageError, match="closed"):
        next(stream)


def test_a_file_object_is_asked_for_places_as_any_other(image: vdifs.Image) -> None:
    for whence in (io.SEEK_SET, io.SEEK_END, os.SEEK_DATA, os.SEEK_HOLE, 7):
        try:
            image.file().seek(0, whence)
        except (OSError, ValueError):
            assert whence > io.SEEK_END


anything = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.binary(max_size=8),
    st.sampled_from(
        ["qcow2", "raw", "vhd", "refuse", "allow", "before", "base.qcow2", "top.qcow2", "top.qcow2@before", "."]
    ),
    st.sampled_from([Path("top.qcow2"), Path("/"), b"base.qcow2", "a" * 5000, "\ud800", "a\0b", Named(None), Shy()]),
    st.sampled_from([0, -1, 512, 65536, 1 << 63, 1 << 64, 1 << 200, np.int64(65536), np.float32(1), np.bool_(True)]),
    st.lists(st.one_of(st.text(max_size=3), st.integers(), st.just(".")), max_size=2),
    st.sampled_from([bytearray(10), memoryview(b"x"), np.zeros(3), {}, {"."}, object(), print, int, ...]),
)
keywords = st.sampled_from(
    ["path", "base", "view", "cluster_size", "backing_name", "trusted", "snapshot", "extended_l2", "live"]
)
quietly = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@quietly
@given(options=st.dictionaries(keywords, anything, max_size=3))
def test_whatever_is_passed_opens_or_is_a_vdifs_error(
    folder: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    monkeypatch.chdir(folder)
    try:
        vdifs.open(**{"path": "top.qcow2", **options}).close()
    except vdifs.VdifsError as error:
        assert str(error).isprintable()
        assert len(str(error)) < 7000


@quietly
@given(
    name=st.sampled_from(
        ["read_at", "view_at", "readinto_at", "stream", "file", "regions", "known", "ahead", "seek", "check_unchanged"]
    ),
    values=st.lists(anything, max_size=2),
)
def test_whatever_a_method_is_given_works_or_is_a_vdifs_error(image: vdifs.Image, name: str, values: list[Any]) -> None:
    try:
        getattr(image, name)(*values)
    except (vdifs.VdifsError, WouldBlock):
        pass
    except TypeError as error:
        assert "argument" in str(error), "not even the number of arguments was wrong"


def read_until_closed(image: vdifs.Image, whole: bytes, wrong: list[object]) -> None:
    """Read until that fails because the image is closed; note everything else in `wrong`."""
    buffer = bytearray(64 * KIB)
    try:
        for turn in range(100_000):
            at = turn * 4096 % (512 * KIB)
            found = image.read_at(at, 4096), bytes(buffer[: image.readinto_at(at, buffer)])
            if found != (whole[at : at + 4096], whole[at : at + 64 * KIB]):
                wrong.append(at)
    except vdifs.UsageError as error:
        if "closed" not in str(error):
            wrong.append(error)
    except BaseException as error:  # noqa: BLE001 - whatever it was, it is the finding
        wrong.append(error)


def test_a_read_never_gets_bytes_of_a_file_that_took_the_descriptor(folder: Path, tmp_path: Path) -> None:
    """Threads read while the image is closed and other files, full of 0xee, are opened, by the same numbers."""
    (tmp_path / "foreign").write_bytes(b"\xee" * MIB)
    wrong: list[object] = []
    for _ in range(15):
        image = vdifs.open(folder / "top.qcow2", view="raw")
        arguments = image, image.read_at(0, MIB), wrong
        threads = [threading.Thread(target=read_until_closed, args=arguments) for _ in range(4)]
        for thread in threads:
            thread.start()
        image.close()
        foreign = [os.open(tmp_path / "foreign", os.O_RDONLY) for _ in range(16)]
        for thread in threads:
            thread.join()
        for fd in foreign:
            os.close(fd)
    assert not wrong
