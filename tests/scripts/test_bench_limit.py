"""The limit that `scripts/bench` compares with: that it gives the right bytes, and says so where it cannot be had."""

import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import limit, servers
from benchmarks.contest import SkippedError
from benchmarks.limit import DISK, best_threads, flat_mount, flat_program
from benchmarks.processes import FailedError
from tests.conftest import cannot_be_tried, require_mounting, require_tool

SIZE = (3 << 20) + 1234


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for tool in "cc", "pkg-config", "fusermount3", "setpriv":
        require_tool(tool)
    return flat_program(tmp_path_factory.mktemp("limit"))


@pytest.fixture(params=[1, 2])
def served(program: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[Path, bytes]]:
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        cannot_be_tried("/dev/fuse cannot be used")
    if os.geteuid() == 0:
        require_mounting()
    content = bytearray(random.Random(1).randbytes(SIZE))
    content[1 << 20 : 2 << 20] = bytes(1 << 20)
    file = tmp_path / "file"
    with open(file, "wb") as opened:
        opened.write(content[: 1 << 20])
        opened.seek(2 << 20)
        opened.write(content[2 << 20 :])
    with flat_mount(program, file, tmp_path / "shown", request.param):
        yield tmp_path / "shown" / DISK, bytes(content)
    assert not os.path.ismount(tmp_path / "shown")


def test_the_limit_shows_a_file_as_it_is(served: tuple[Path, bytes]) -> None:
    disk, content = served
    assert disk.stat().st_size == SIZE
    assert disk.read_bytes() == content
    draw = random.Random(2)
    with open(disk, "rb", buffering=0) as opened:
        for _ in range(50):
            start, length = draw.randrange(SIZE + 10), draw.randrange(200_000)
            assert os.pread(opened.fileno(), length, start) == content[start : start + length]
    with pytest.raises(FileNotFoundError):
        (disk.parent / "other").stat()
    with pytest.raises(OSError, match="Read-only"):
        disk.write_bytes(b"")


def test_the_kernel_reads_as_far_ahead_in_it_as_in_a_mount_of_vdifs(served: tuple[Path, bytes]) -> None:
    disk, _ = served
    device = disk.stat().st_dev
    setting = Path(f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}/read_ahead_kb")
    expected = servers.READ_AHEAD_KIB if os.access(setting, os.W_OK) else 128
    assert int(setting.read_text()) == expected


def test_the_limit_is_compiled_once(program: Path) -> None:
    made = program.stat()
    assert flat_program(program.parent) == program
    assert program.stat().st_mtime_ns == made.st_mtime_ns


@pytest.mark.parametrize(("lacking", "package"), [("cc", "gcc"), ("pkg-config", "pkg-config")])
def test_where_there_is_no_compiler_the_limit_says_so(
    lacking: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    which = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name: None if name == lacking else which(name))
    with pytest.raises(SkippedError, match=f"^the limit is not compiled, as there is no {lacking}: install {package}$"):
        flat_program(tmp_path)


def test_where_there_is_no_libfuse_to_build_with_the_limit_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_tool("cc")
    require_tool("pkg-config")
    monkeypatch.setenv("PKG_CONFIG_LIBDIR", str(tmp_path))
    monkeypatch.delenv("PKG_CONFIG_PATH", raising=False)
    with pytest.raises(SkippedError, match=r"no libfuse for it: install libfuse3-dev$"):
        flat_program(tmp_path)


def test_a_limit_that_does_not_compile_is_a_failure_and_not_passed_over(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = tmp_path / "wrong.c"
    wrong.write_text("this is no C")
    monkeypatch.setattr(limit, "_SOURCE", wrong)
    with pytest.raises(FailedError, match="wrong\\.c"):
        flat_program(tmp_path)
    assert not (tmp_path / "flat").exists()


def test_small_reads_are_answered_by_one_thread_and_large_ones_by_several() -> None:
    assert best_threads(4 << 10) == 1
    assert best_threads(64 << 10) > 1


def test_a_mount_of_vdifs_that_does_not_read_ahead_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = tmp_path / "read_ahead_kb"
    monkeypatch.setattr(servers, "_read_ahead_of", lambda _mountpoint: setting)
    monkeypatch.setattr(servers, "_PATIENCE_S", 0.1)
    setting.write_text("128\n")
    with pytest.raises(FailedError, match="reads 128 KiB ahead in the mount instead of 1024"):
        servers._await_read_ahead(tmp_path)
    servers.set_read_ahead(tmp_path)
    servers._await_read_ahead(tmp_path)
    assert setting.read_text() == "1024"
