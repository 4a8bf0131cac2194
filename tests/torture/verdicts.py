"""QEMU's word on an image: the bytes it reads, or that it refuses. Bounded, as it is asked about hostile images."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

__all__ = ["Pieces", "check", "read", "read_snapshot", "same"]

Pieces = Sequence[tuple[int, int]]
"""(guest offset, length) of what is read."""

_SECONDS = 10
_PATIENCE_S = 60
"""For files that are known to be sound: an answer that takes longer on a busy machine is no finding."""
_MOST_OUTPUT = 256 << 20
_MOST_ADDRESS_SPACE = 8 << 30


def read(image: Path, output: Path, window: tuple[int, int] | None) -> bool:
    """Have QEMU write the guest contents of an image, or of a window of it, to `output`; False if it refuses to."""
    if window is None:
        return _convert("-f", "qcow2", image, output)
    offset, length = window
    source = (
        f"driver=raw,offset={offset},size={length},file.driver=qcow2,file.file.driver=file,"
        f"file.file.filename={str(image).replace(',', ',,')}"
    )
    return _convert("--image-opts", source, output)


def read_snapshot(image: Path, name: str, output: Path) -> bool:
    """Have QEMU write the contents of an internal snapshot to `output`; False if it refuses to."""
    return _convert("-f", "qcow2", "-l", f"snapshot.name={name}", image, output)


def check(image: Path) -> str | None:
    """Return None if `qemu-img check` finds no errors and no leaks, else what it says."""
    done = _qemu("check", "-q", "-f", "qcow2", image, seconds=_PATIENCE_S)
    return None if done.returncode == 0 else _said(done)


def same(left: Path, right: Path) -> str | None:
    """Return None if a raw file and a qcow2 have the same contents, else what QEMU says."""
    done = _qemu("compare", "-f", "raw", "-F", "qcow2", left, right, seconds=_PATIENCE_S)
    return None if done.returncode == 0 else _said(done)


def _convert(*arguments: str | Path) -> bool:
    output = Path(arguments[-1])
    output.unlink(missing_ok=True)
    return _qemu("convert", "-m", "1", "-t", "unsafe", "-O", "raw", *arguments).returncode == 0


def _qemu(*arguments: str | Path, seconds: float = _SECONDS) -> "subprocess.CompletedProcess[bytes]":
    command = ["prlimit", f"--as={_MOST_ADDRESS_SPACE}", f"--fsize={_MOST_OUTPUT}", "qemu-img", *map(str, arguments)]
    try:
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired as error:
        return subprocess.CompletedProcess(command, -1, b"", f"no answer: {error}".encode())


def _said(done: "subprocess.CompletedProcess[bytes]") -> str:
    text = (done.stderr + done.stdout).decode(errors="replace")
    return " ".join(text.split())[:300]
