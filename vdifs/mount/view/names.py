"""The names of synthetic files (docs/specification.md 2.1): pure functions from an image's PATH to paths in the mount.

Every path follows from PATH alone, so that a script can build it without listing. PATHs are relative to SOURCE, `/`
between folders, decoded as the file system encoding with surrogateescape.
"""

import os
import posixpath
from collections.abc import Mapping
from typing import Final, get_args

from vdifs.output.view import View

__all__ = [
    "CONTENTS",
    "CONTROL",
    "DEFAULT_VIEWS",
    "DELTA",
    "FLATTENED",
    "FULL",
    "MAX_BACKING_NAME",
    "MAX_NAME",
    "RAW",
    "STATUS",
    "VIEWS",
    "backing_name",
    "base_against_itself",
    "base_view",
    "delta_backing_name",
    "flattened",
    "folders_of",
    "guest_contents",
    "in_delta",
    "name_fits",
    "sidecar",
]

FLATTENED = "qcow2"
"""The format of the files in `full/`."""

FULL, DELTA, RAW, CONTROL = "full", "delta", "raw", ".vdifs"
STATUS = "status.json"

CONTENTS: Final[Mapping[str, View]] = {view: view for view in get_args(View) if view != FLATTENED}
"""The folders of which each file holds all guest contents of one image, and which output it is there."""
VIEWS: Final = (FULL, DELTA, *CONTENTS)
"""The folders of files that a mount may show, by the words of `--views`."""
DEFAULT_VIEWS: Final = (FULL, DELTA, RAW)
_SUFFIXES: Final[Mapping[View, str]] = {"vhd-fixed": "vhd"}
"""What stands behind a file of guest contents, where it is another word than its folder."""

MAX_NAME = 255
"""Bytes in one name: NAME_MAX of Linux."""
MAX_BACKING_NAME = 1023
"""Bytes in a backing file name: the qcow2 specification, header bytes 16 to 19."""


def flattened(path: str, format: str) -> str:  # noqa: A002 - QEMU's word
    """Return where the full image stands beneath `full/`: a qcow2 keeps its name, any other image gets `.qcow2`."""
    return path if format == FLATTENED else f"{path}.{FLATTENED}"


def in_delta(path: str, format: str) -> str:  # noqa: A002 - QEMU's word
    """Return how an image is called beneath `delta/BASE/`, as a base or a delta: a raw one, a base, keeps its name."""
    return path if format == "raw" else flattened(path, format)


def base_view(format: str) -> View:  # noqa: A002 - QEMU's word
    """Return as what a base stands beside its deltas: as the full image, but a raw one as its contents."""
    return "raw" if format == "raw" else "qcow2"


def guest_contents(path: str, view: View = "raw") -> str:
    """Return where a view of the guest contents stands beneath the folder of that view."""
    return f"{path}.{_SUFFIXES.get(view, view)}"


def sidecar(path: str) -> str:
    """Return where what is said about an image stands beneath `.vdifs/KIND/`."""
    return f"{path}.json"


def base_against_itself(base: str) -> str:
    """Return where, beneath `delta/BASE/`, the overlay of BASE stands that holds no data.

    base: as it is called there.
    """
    return f"{base}..{posixpath.basename(base)}"


def delta_backing_name(path: str, base: str) -> str:
    """Return the backing file name of the delta of image `path` against `base`, both as they are called there.

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
