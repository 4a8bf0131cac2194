"""Finding the regular files below a directory: no hidden ones, no links, nothing inside another vdifs mount."""

import fnmatch
import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from vdifs.source.access import Permission
from vdifs.source.hostfile import Fingerprint

__all__ = ["Filter", "Found", "vdifs_mounts", "walk"]

_RESERVED = "@trust"
"""What stands for the trusted directories in a PATH: a folder of this name in the root is not searched."""
_FSTYPE = "fuse.vdifs"


@dataclass(frozen=True, slots=True)
class Found:
    """A regular file. path: relative to the root. permissions: the file's, then those of its folders below the root."""

    path: str
    fingerprint: Fingerprint
    uid: int
    gid: int
    permissions: tuple[Permission, ...]


@dataclass(frozen=True, slots=True)
class Filter:
    """Shell patterns that a relative path or its last component must, and must not, match."""

    include: Sequence[str] = ()
    exclude: Sequence[str] = ()

    def accepts(self, path: str) -> bool:
        """Tell whether a file is wanted."""
        return not self.excludes(path) and (not self.include or _matches(path, self.include))

    def excludes(self, path: str) -> bool:
        """Tell whether a file or folder is not wanted."""
        return _matches(path, self.exclude)


def _matches(path: str, patterns: Sequence[str]) -> bool:
    name = os.path.basename(path)
    return any(fnmatch.fnmatchcase(path, p) or fnmatch.fnmatchcase(name, p) for p in patterns)


def walk(root: str, wanted: Filter, skip: Collection[str]) -> Iterator[Found]:
    """Yield the wanted regular files below `root`; `skip` are absolute directories not to enter.

    A folder that cannot be read, or has gone, is as good as empty.
    """
    folders: list[tuple[str, tuple[Permission, ...]]] = [("", ())]
    shared: dict[tuple[Permission, ...], tuple[Permission, ...]] = {}  # the files of a folder are mostly alike
    while folders:
        folder, above = folders.pop()
        try:
            entries = list(os.scandir(os.path.join(root, folder)))
        except OSError:
            continue
        for entry in entries:
            path = os.path.join(folder, entry.name)
            if entry.name.startswith(".") or path == _RESERVED:
                continue
            try:
                if entry.is_dir(follow_symlinks=False):
                    if not wanted.excludes(path) and os.path.abspath(os.path.join(root, path)) not in skip:
                        folders.append((path, (Permission.of(entry.path, entry.stat(follow_symlinks=False)), *above)))
                elif entry.is_file(follow_symlinks=False) and wanted.accepts(path):
                    st = entry.stat(follow_symlinks=False)
                    permissions = (Permission.of(entry.path, st), *above)
                    permissions = shared.setdefault(permissions, permissions)
                    yield Found(path, Fingerprint.of(st), permissions[0].uid, permissions[0].gid, permissions)
            except OSError:
                continue


def vdifs_mounts() -> frozenset[str]:
    """Return where vdifs is mounted."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
        fields = [line.split(" ") for line in lines]
    return frozenset(_unescape(f[4]) for f in fields if f[f.index("-") + 1] == _FSTYPE)


def _unescape(path: str) -> str:
    """Undo the octal escapes of mountinfo."""
    for char in " \t\n\\":
        path = path.replace(f"\\{ord(char):03o}", char)
    return path
