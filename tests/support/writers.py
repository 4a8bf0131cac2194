"""Programs of QEMU that hold an image open for writing, as a running virtual machine does: with QEMU's own locks."""

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tests.support import oracle

_PROMPT = b"qemu-io> "
_PATIENCE_S = 100.0
_READS, _WRITES = 100, 101
"""The bytes of QEMU's locks that tell who reads an image and who writes it."""


@dataclass(frozen=True)
class Writer:
    """A qemu-io that has an image open. Call it with a command; the image is written when that returns."""

    process: subprocess.Popen[bytes]

    def __call__(self, command: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{command}\n".encode())
        self.process.stdin.flush()
        assert b"failed" not in self.answer()

    def answer(self) -> bytes:
        assert self.process.stdout is not None
        return _until_prompt(self.process.stdout)

    def kill(self) -> None:
        """End it as kill -9 does."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(_PATIENCE_S)


def _until_prompt(stream: IO[bytes]) -> bytes:
    found = b""
    while not found.endswith(_PROMPT):
        byte = stream.read(1)
        assert byte, f"qemu-io ended: {found!r}"
        found += byte
    return found


@contextmanager
def qemu_io(image: Path, *options: str) -> Iterator[Writer]:
    """Have qemu-io hold an image open, for writing unless `-r` is among the options."""
    command = ["qemu-io", "-t", "writethrough", *options, str(image)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=oracle.environment()
    ) as process:
        writer = Writer(process)
        try:
            writer.answer()
            yield writer
        finally:
            process.kill()


@contextmanager
def qemu_nbd(image: Path, *options: str) -> Iterator[None]:
    """Have qemu-nbd export an image on a socket, for writing unless `-r` is among the options."""
    socket = image.with_name(f"{image.name}.sock")
    command = ["qemu-nbd", "-t", "-k", str(socket), *options, str(image)]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as process:
        try:
            _wait_for(lambda: socket.exists() and _is_locked(image, _READS if "-r" in options else _WRITES))
            yield
        finally:
            process.kill()
            process.wait(_PATIENCE_S)
            socket.unlink(missing_ok=True)


def _is_locked(image: Path, byte: int) -> bool:
    """Tell whether that lock is held: qemu-nbd makes its socket before it opens the image, its locks in turn."""
    lines = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    ranges = [words[-2:] for words in lines if words[-3].endswith(f":{image.stat().st_ino}")]
    return any(int(first) <= byte and (last == "EOF" or byte <= int(last)) for first, last in ranges)


def _wait_for(condition: Callable[[], object]) -> None:
    end = time.monotonic() + _PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "the writer did not start"
        time.sleep(0.01)
