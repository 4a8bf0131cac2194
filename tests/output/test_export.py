"""Export writes what the image holds, as sparse as it can, and leaves either the whole file or none."""

import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.builder import write_blank
from vdifs.chain.open_chain import Chain
from vdifs.chain.policy import Policy
from vdifs.errors import FormatError, StorageError, UsageError
from vdifs.output.export.exporting import export
from vdifs.output.export.transfer import to_stream
from vdifs.output.image import Image
from vdifs.output.protocol import Region

BLOCK = 1 << 16


@dataclass
class StatedImage:
    """An image whose bytes are given; reading from `bad_from` on fails."""

    contents: bytes
    chain: Chain | None = None
    bad_from: int = 1 << 62

    @property
    def size(self) -> int:
        return len(self.contents)

    def readinto_at(self, offset: int, buffer: memoryview) -> int:
        if offset + len(buffer) > self.bad_from:
            raise FormatError("damaged")
        data = self.contents[offset : offset + len(buffer)]
        buffer[: len(data)] = data
        return len(data)

    def regions(self) -> Iterator[Region]:
        yield Region(0, self.size, None)

    def check_unchanged(self) -> None:
        assert self.chain is not None
        self.chain.check_unchanged()


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    """A chain of two files."""
    folder = tmp_path_factory.mktemp("chain")
    write_blank(folder / "base.qcow2")
    write_blank(folder / "top.qcow2", "base.qcow2", "qcow2")
    with Policy(os.fspath(folder)) as policy, Chain.open(policy, "top.qcow2") as chain:
        yield chain


def image_of(contents: bytes, chain: Chain, bad_from: int = 1 << 62) -> Image:
    return cast(Image, StatedImage(contents, chain, bad_from))


BLOCKS = {"zeros": bytes(BLOCK), "ones": b"\1" * BLOCK, "nearly zeros": bytes(100) + b"\1" + bytes(BLOCK - 101)}


@given(blocks=st.lists(st.sampled_from(sorted(BLOCKS)), max_size=40), tail=st.binary(max_size=10))
def test_the_file_holds_the_bytes_of_the_image(
    chain: Chain, tmp_path_factory: pytest.TempPathFactory, blocks: list[str], tail: bytes
) -> None:
    contents = b"".join(BLOCKS[name] for name in blocks) + tail
    output = tmp_path_factory.mktemp("export") / "output"
    export(image_of(contents, chain), os.fspath(output))
    assert output.read_bytes() == contents
    assert output.stat().st_blocks * 512 <= (len(contents) - blocks.count("zeros") * BLOCK) + 2 * BLOCK


def test_zeros_become_holes(chain: Chain, tmp_path: Path) -> None:
    output = tmp_path / "output"
    export(image_of(bytes(100 * BLOCK), chain), os.fspath(output))
    assert (output.stat().st_size, output.stat().st_blocks) == (100 * BLOCK, 0)


def test_a_pipe_gets_the_bytes_in_order(chain: Chain) -> None:
    contents = os.urandom(3 * BLOCK) + bytes(40 * BLOCK) + b"end"
    reading, writing = os.pipe()
    found: list[bytes] = []

    def read() -> None:
        with os.fdopen(reading, "rb") as pipe:
            found.append(pipe.read())

    reader = Thread(target=read)
    reader.start()
    to_stream(image_of(contents, chain), writing)
    os.close(writing)
    reader.join()
    assert found == [contents]


def test_progress_is_told_and_ends_with_the_size(chain: Chain, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    export(image_of(bytes(50 * BLOCK), chain), os.fspath(tmp_path / "output"), progress=lambda *at: told.append(at))
    assert told == sorted(told)
    assert told[-1] == (50 * BLOCK, 50 * BLOCK)


def test_a_failure_on_the_way_leaves_nothing(chain: Chain, tmp_path: Path) -> None:
    with pytest.raises(FormatError):
        export(image_of(bytes(50 * BLOCK), chain, bad_from=20 * BLOCK), os.fspath(tmp_path / "output"))
    assert list(tmp_path.iterdir()) == []


def test_a_failure_on_the_way_leaves_the_file_that_was_there(chain: Chain, tmp_path: Path) -> None:
    output = tmp_path / "output"
    output.write_text("before")
    with pytest.raises(FormatError):
        export(image_of(bytes(50 * BLOCK), chain, bad_from=20 * BLOCK), os.fspath(output), overwrite=True)
    assert output.read_text() == "before"
    assert list(tmp_path.iterdir()) == [output]


def test_an_existing_file_is_overwritten_only_when_asked_for(chain: Chain, tmp_path: Path) -> None:
    output = tmp_path / "output"
    output.write_text("before")
    with pytest.raises(UsageError, match=r"output: exists already: choose another name, or give --force"):
        export(image_of(b"after", chain), os.fspath(output))
    export(image_of(b"after", chain), os.fspath(output), overwrite=True)
    assert output.read_text() == "after"


@pytest.mark.parametrize("links", [True, False])
def test_a_file_that_appears_meanwhile_stays_unless_it_may_be_overwritten(
    chain: Chain, tmp_path: Path, links: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two exports to one name: where there are hard links, the second does not replace what the first has written."""
    output = tmp_path / "output"

    class Slow(StatedImage):
        def check_unchanged(self) -> None:
            output.write_bytes(b"another's")

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "no hard links here")

    if not links:
        monkeypatch.setattr(os, "link", refuse)
    image = cast("Image", Slow(b"after", chain))
    if links:
        with pytest.raises(UsageError, match="exists already"):
            export(image, os.fspath(output))
        assert output.read_bytes() == b"another's"
    export(image, os.fspath(output), overwrite=links)
    assert output.read_bytes() == b"after"
    assert list(tmp_path.iterdir()) == [output]
    assert output.stat().st_nlink == 1


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", ["top.qcow2", "base.qcow2", "link"])
def test_a_file_of_the_chain_is_never_written(chain: Chain, tmp_path: Path, name: str, overwrite: bool) -> None:
    folder = Path(chain.members[0].file.name).parent
    if name == "link":
        (tmp_path / "link").symlink_to(folder / "base.qcow2")
    output = tmp_path / "link" if name == "link" else folder / name
    before = output.read_bytes()
    with pytest.raises(UsageError, match="it is a file of the chain that is read"):
        export(image_of(b"after", chain), os.fspath(output), overwrite=overwrite)
    assert output.read_bytes() == before


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_the_mode_follows_the_umask(chain: Chain, tmp_path: Path, umask: int) -> None:
    old = os.umask(umask)
    try:
        export(image_of(b"after", chain), os.fspath(tmp_path / "output"))
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "output").stat().st_mode) == 0o666 & ~umask


@pytest.mark.parametrize(("output", "code"), [("missing/output", errno.ENOENT), ("file/output", errno.ENOTDIR)])
def test_a_place_that_cannot_be_written_says_so(chain: Chain, tmp_path: Path, output: str, code: int) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError) as caught:
        export(image_of(b"after", chain), os.fspath(tmp_path / output))
    assert caught.value.errno == code


def test_a_folder_is_not_replaced(chain: Chain, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a directory: name a file in it"):
        export(image_of(b"after", chain), os.fspath(tmp_path), overwrite=True)


def test_a_named_pipe_is_written_into_and_stays(chain: Chain, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    found: list[bytes] = []
    reader = Thread(target=lambda: found.append(pipe.read_bytes()))
    reader.start()
    export(image_of(b"after", chain), os.fspath(pipe))
    reader.join()
    assert found == [b"after"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)
