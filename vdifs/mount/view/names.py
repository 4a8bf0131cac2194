"""The names of synthetic files (docs/specification.md 2.1): pure functions from an image's PATH to paths in the mount.

Every path follows from PATH alone, so that a script can build it without listing. PATHs are relative to SOURCE, `/`
between folders, decoded as the file system encoding with surrogateescape.
"""

import os
import posixpath
from typing import Literal

__all__ = [
    "CONTROL",
    "DELTA",
    "FULL",
    "MAX_BACKING_NAME",
    "MAX_NAME",
    "RAW",
    "Format",
    "backing_name",
    "base_against_itself",
    "delta_backing_name",
    "flattened",
    "folders_of",
    "guest_contents",
    "name_fits",
    "sidecar",
]

Format = Literal["qcow2", "raw"]

FULL, DELTA, RAW, CONTROL = "full", "delta", "raw", ".vdifs"

MAX_NAME = 255
"""Bytes in one name: NAME_MAX of Linux."""
MAX_BACKING_NAME = 1023
"""Bytes in a backing file name: the qcow2 specification, header bytes 16 to 19."""


def flattened(path: str, format: Format) -> str:  # noqa: A002 - QEMU's word
    """Return where the full image stands beneath `full/`: a qcow2 keeps its name, a raw image gets `.qcow2`."""
    return path if format == "qcow2" else f"{path}.qcow2"


def guest_contents(path: str) -> str:
    """Return where the raw view stands beneath `raw/`."""
    return f"{path}.raw"


def sidecar(path: str) -> str:
    """Return where what is said about an image stands beneath `.vdifs/KIND/`."""
    return f"{path}.json"


def base_against_itself(base: str) -> str:
    """Return where, beneath `delta/BASE/`, the overlay of BASE stands that holds no data."""
    return f"{base}..{posixpath.basename(base)}"


def delta_backing_name(path: str, base: str) -> str:
    """Return the backing file name of the delta of image `path` against `base`.

    It leads from the delta's folder to the base's entry under the same `delta/BASE/`. `path` may equal `base`.
    """
    return backing_name(base, posixpath.dirname(path))


def backing_name(base: str, folder: str) -> str:
    """Return the relative path from `folder` to `base`, with `./` in front where QEMU would see a protocol in it.

    QEMU: path_has_protocol(), a `:` before the first `/`.
    """
    name = posixpath.relpath("/" + base, "/" + folder)
    return f"./{name}" if ":" in name.partition("/")[0] else name


def name_fits(path: str) -> bool:
    """Tell whether the last name of `path` is short enough for a file system."""
    return len(os.fsencode(posixpath.basename(path))) <= MAX_NAME


def folders_of(path: str) -> list[str]:
    """Return the folders above `path`, outermost first: `a`, `a/b` for `a/b/c`."""
    parts = path.split("/")[:-1]
    return ["/".join(parts[: depth + 1]) for depth in range(len(parts))]
