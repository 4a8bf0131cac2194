"""QEMU's judgement: runs qemu-img and qemu-io, with a time limit and an error message that can be typed again.

The only module of the tests that starts QEMU's tools.
"""

import json
import os
import shlex
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TIMEOUT_S = 100


class OracleError(AssertionError):
    """A tool of QEMU failed, or says that something is wrong."""


def run(*command: str | Path, cwd: Path | None = None, timeout: float = TIMEOUT_S) -> str:
    """Run a command and return its standard output; OracleError if it fails or takes longer than `timeout` seconds."""
    words = [os.fspath(word) for word in command]
    shown = f"{f'cd {shlex.quote(str(cwd))}; ' if cwd else ''}{shlex.join(words)}"
    try:
        done = subprocess.run(
            words, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout, env=environment()
        )
    except subprocess.TimeoutExpired as error:
        raise OracleError(f"no answer within {timeout} s: {shown}") from error
    output = done.stdout.decode(errors="replace")
    if done.returncode:
        raise OracleError(f"exit status {done.returncode}: {shown}\n{done.stderr.decode(errors='replace')}{output}")
    return output


def environment() -> dict[str, str]:
    """Return our environment with messages in English, as some are read here."""
    return {**os.environ, "LC_ALL": "C.UTF-8"}


def qemu_img(*arguments: str | Path, cwd: Path | None = None, timeout: float = TIMEOUT_S) -> str:
    return run("qemu-img", *arguments, cwd=cwd, timeout=timeout)


def qemu_io(image: Path | str, commands: Sequence[str], *, format: str = "qcow2", cwd: Path | None = None) -> str:  # noqa: A002 - QEMU's word
    """Run many qemu-io commands on one image in one process. Unsafe caching: a test does not need the disk's fsync."""
    arguments = [word for command in commands for word in ("-c", command)]
    output = run("qemu-io", "-f", format, "-t", "unsafe", "-d", "unmap", *arguments, image, cwd=cwd)
    if "failed" in output:  # qemu-io ends with 0 after some of its failures
        raise OracleError(f"qemu-io failed: {image}: {commands}\n{output}")
    return output


def create_encrypted(image: Path, cipher: str) -> None:
    """Create an image of 1 MiB that is encrypted with "luks" or "aes". QEMU takes a second or so for it."""
    options = f"encrypt.format={cipher},encrypt.key-secret=key" + (",encrypt.iter-time=10" if cipher == "luks" else "")
    secret = ("--object", "secret,id=key,data=swordfish", "-o", options)
    for attempt in range(20, -1, -1):  # on a busy machine QEMU is "unable to get accurate CPU usage" now and then
        try:
            qemu_img("create", "-q", "-f", "qcow2", *secret, image, "1M")
            return
        except OracleError:
            if not attempt:
                raise
            time.sleep(0.5)


def check(image: Path) -> dict[str, Any]:
    """Return the report of `qemu-img check`; OracleError if there are errors or leaks."""
    report: dict[str, Any] = json.loads(qemu_img("check", "--output=json", "-f", "qcow2", image))
    bad = {name: report[name] for name in ("corruptions", "leaks", "check-errors") if report.get(name)}
    if bad:
        raise OracleError(f"qemu-img check {image}: {bad}")
    return report


def compare(left: Path, right: Path, *, left_format: str = "qcow2", right_format: str = "qcow2") -> None:
    """OracleError unless both have the same contents and the same virtual size, of which qemu-img only warns."""
    said = qemu_img("compare", "-f", left_format, "-F", right_format, left, right)
    if "mismatch" in said:
        raise OracleError(f"{left}, {right}: {said.strip()}")


def info(image: Path, format: str = "qcow2") -> dict[str, Any]:  # noqa: A002 - QEMU's word
    report: dict[str, Any] = json.loads(qemu_img("info", "--output=json", "-f", format, image))
    return report


def virtual_size(image: Path, format: str = "qcow2") -> int:  # noqa: A002 - QEMU's word
    size: int = info(image, format)["virtual-size"]
    return size


def materialize(image: Path, output: Path, *, format: str = "qcow2") -> Path:  # noqa: A002 - QEMU's word
    """Write the guest contents of an image to the sparse raw file `output`, by QEMU, and return it."""
    output.parent.mkdir(parents=True, exist_ok=True)
    qemu_img("convert", "-t", "unsafe", "-f", format, "-O", "raw", image, output)
    return output


@dataclass(frozen=True, slots=True)
class MapExtent:
    """One entry of `qemu-img map`: guest bytes [start, end), found `depth` images below the top, at `offset` there."""

    start: int
    end: int
    depth: int
    present: bool
    zero: bool
    data: bool
    offset: int | None


def map_of(image: Path, format: str = "qcow2") -> list[MapExtent]:  # noqa: A002 - QEMU's word
    entries = json.loads(qemu_img("map", "--output=json", "-f", format, image))
    return [
        MapExtent(
            entry["start"], entry["start"] + entry["length"], entry["depth"], entry["present"], entry["zero"],
            entry["data"], entry.get("offset"),
        )
        for entry in entries
    ]  # fmt: skip
