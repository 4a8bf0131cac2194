"""What a source holds, or seems to hold, that is not served, apart from refused images: each with why. Pure."""

import errno
import posixpath
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

from vdifs.catalog.image_names import is_called_image
from vdifs.catalog.walk import Filter, Passed
from vdifs.errors import FormatError, PolicyError, StorageError, UsageError, VdifsError, printable, quoted
from vdifs.formats.problems import Severity
from vdifs.formats.registry import is_called_part, missing_mark, no_format

__all__ = ["LeftOut", "of_includes", "of_no_images", "of_skipped"]

_RESTORE = "restore it from a copy, or give it another name"
_CONVERT = "convert it with 'qemu-img convert', or rename it"
Display = Callable[[str], str]
"""Returns the host path of a PATH."""


class LeftOut(NamedTuple):
    """Something left out. path: where, as a PATH. kind: one of a few words, for programs."""

    path: str
    severity: Severity
    kind: str
    error: VdifsError


def of_no_images(paths: Iterable[str], display: Display) -> Iterator[LeftOut]:
    """Yield why regular files are left out that are called like images. paths: of those that are none, nor parts."""
    for path in paths:
        if is_called_image(path) and not is_called_part(path):
            mark = missing_mark(path)
            what, remedy = (mark, _RESTORE) if mark else (no_format(), _CONVERT)
            error = FormatError(f"left out: {what}", where=display(path), remedy=remedy)
            yield LeftOut(path, Severity.WARNING, "no-image", error)


def of_skipped(
    passed: Passed,
    roots: Sequence[str],
    files: Collection[str],
    images: Collection[str],
    display: Display,
) -> Iterator[LeftOut]:
    """Yield why links and files of other kinds are left out.

    roots: the names of the source root. files: the PATHs of all files that are
    known, of which `images` are images: a link to one that is none is not told.
    """
    known = _with_folders(files) if passed.kept else set()
    served = _with_folders(images) if passed.kept else set()
    for path, target, is_folder in passed.kept:
        where = display(path)
        if is_folder:
            folder = PolicyError("left out: a folder of that name is not searched", where=where, remedy="rename it")
            yield LeftOut(path, Severity.WARNING, "reserved-name", folder)
            continue
        if target is None:
            what, remedy = "left out: not a regular file", "only regular files can be images"
            other = StorageError(what, where=where, remedy=remedy, errno=errno.EINVAL)
            yield LeftOut(path, Severity.WARNING, "no-image", other)
            continue
        inside = _beneath(roots, path, target)
        what = f"left out: a symbolic link to {quoted(target)}, which is not followed"
        if inside in served:
            remedy = f"use {printable(display(inside).rstrip('/'))}"
            yield LeftOut(path, Severity.NOTE, "skipped-link", _skipped(what, where, remedy))
        elif inside not in known:
            remedy = "have the image itself there, or mount the folder it lies in"
            yield LeftOut(path, Severity.WARNING, "skipped-link", _skipped(what, where, remedy))
    if passed.more:
        what = f"{passed.more} more links or special files are left out"
        yield LeftOut("", Severity.WARNING, "skipped-link", _skipped(what, roots[0], "see what it should hold"))


def _skipped(what: str, where: str, remedy: str) -> PolicyError:
    return PolicyError(what, where=where, remedy=remedy, errno=errno.ELOOP)


def of_includes(wanted: Filter, images: Collection[str], root: str) -> Iterator[LeftOut]:
    """Yield the patterns that were to choose images of the source and are like none of them."""
    for pattern in wanted.include:
        one = Filter([pattern])
        if not any(one.accepts(path) for path in images):
            what, remedy = f"--include {quoted(pattern)}: no image is like it", "correct it, or leave it out"
            error = UsageError(what, where=root, remedy=remedy, errno=errno.ENOENT)
            yield LeftOut("", Severity.WARNING, "include", error)


def _beneath(roots: Sequence[str], path: str, target: str) -> str | None:
    """Return the PATH that a link at `path` leads to as its words tell, None for what is not beneath the root."""
    for root in roots:
        prefix = root.rstrip("/") + "/"
        place = posixpath.normpath(posixpath.join(prefix, posixpath.dirname(path), target))
        if f"{place}/".startswith(prefix):
            return place[len(prefix) :]
    return None


def _with_folders(paths: Collection[str]) -> set[str]:
    """Return the PATHs and the folders above them, "" for the root."""
    found = {"", *paths}
    for path in paths:
        while (path := posixpath.dirname(path)) not in found:
            found.add(path)
    return found
