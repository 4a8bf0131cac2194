"""Finding the regular files below a directory: no hidden ones, no links, nothing inside another vdifs mount.

Folders are opened strictly beneath the directory, so that one which becomes a link meanwhile leads nowhere. What is
passed by and may lead to an image, links and files that are not regular, is taken note of. Nothing that a link points
at is looked at: it may hang, or lie where nothing may be opened. Its name has to tell.
"""

import errno
import fnmatch
import os
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import NamedTuple

from vdifs.catalog.image_names import is_called_image, may_be_image
from vdifs.chain.access import Permission
from vdifs.chain.roots import Root
from vdifs.linux.beneath import open_beneath
from vdifs.linux.filesystems import mount_number
from vdifs.linux.mountinfo import FUSE_TYPE, mounts
from vdifs.storage.fingerprint import Fingerprint

__all__ = ["Filter", "Found", "Identity", "Passed", "Seen", "Skipped", "vdifs_mounts", "walk"]

_RESERVED = "@trust"
"""What stands for the trusted directories in a PATH: a folder of this name in the root is not searched."""
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_VANISHED = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
"""Errors that say that a folder has gone, or is something else by now."""
_NO_FILE = _VANISHED | {errno.ESTALE, errno.EINVAL, errno.ENXIO}
"""The same of a file."""
_DENIED = frozenset({errno.EACCES, errno.EPERM})
_MOST_LINKS_READ = 10_000
_MOST_KEPT = 1_000

Identity = tuple[int, int, int]
"""Device and inode number; of a folder where a file system is mounted, which that is, else 0."""


@dataclass(frozen=True, slots=True)
class Found:
    """A regular file. path: relative to the root. permissions: the file's, then those of its folders below the root,
    from the file up.
    """

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
    if not patterns:
        return False
    name = os.path.basename(path)
    return any(fnmatch.fnmatchcase(path, p) or fnmatch.fnmatchcase(name, p) for p in patterns)


@dataclass(slots=True)
class Seen:
    """What a walk came by, besides files, by path, "" for the root.

    folders: those that it looked into. lost: folders and files of which nothing can be told, and why: a disk failed, a
    folder may not be read, too many files are open. shut: those of them that are known to be folders.
    """

    folders: dict[str, Identity] = field(default_factory=dict)
    lost: dict[str, OSError] = field(default_factory=dict)
    shut: set[str] = field(default_factory=set)

    def close(self, folder: str, error: OSError) -> None:
        """Note that nothing can be told of what is in `folder`."""
        self.lost[folder] = error
        self.shut.add(folder)

    def note(self, folder: str, path: str, error: OSError, *, is_folder: bool) -> None:
        """Note that the stat of `path`, whose name stands in `folder`, failed."""
        if is_folder and error.errno not in _VANISHED:
            self.close(path, error)  # as the mountpoint of a server that has died, or serves one user alone
        elif error.errno in _DENIED:
            self.close(folder, error)  # its names may be read, and nothing else in it
        elif error.errno not in _NO_FILE:
            self.lost[path] = error


class Skipped(NamedTuple):
    """Something passed by. target: of a link, as it stands there; None for what is no link."""

    path: str
    target: str | None
    is_folder: bool = False


@dataclass(slots=True)
class Passed:
    """Collects what a walk passes by. more: how many were left unread, or not kept, as there are so many."""

    root: str
    kept: list[Skipped] = field(default_factory=list)
    more: int = 0
    _read: int = 0

    def note(self, path: str, *, is_link: bool, is_folder: bool) -> None:
        """Take note of a link, of a folder, or of something that is no regular file; `path` is relative to the root."""
        if not is_link:
            if is_folder or is_called_image(path):
                self._keep(Skipped(path, None, is_folder))
            return
        if self._read == _MOST_LINKS_READ:
            self.more += 1
            return
        self._read += 1
        try:
            target = os.readlink(os.path.join(self.root, path))
        except OSError:
            return  # gone, or another thing meanwhile
        if is_called_image(path) or may_be_image(target):
            self._keep(Skipped(path, target))

    def _keep(self, skipped: Skipped) -> None:
        if len(self.kept) < _MOST_KEPT:
            self.kept.append(skipped)
        else:
            self.more += 1


def walk(
    root: Root,
    wanted: Filter,
    skip: Collection[str],
    seen: Seen,
    known: Callable[[str], Found | None] = lambda _: None,
    passed: Passed | None = None,
) -> Iterator[Found]:
    """Yield the wanted regular files below `root`; `skip` are absolute directories not to enter.

    A folder that has gone since its name was read is as good as empty.
    known: what was found at a path before, if no change since can have left its time stamps as they were. Where it
    stands it is yielded again: that it had no access control list, which costs a system call, has not changed either.
    passed: gets the links and special files that are passed by, and the folder in the root that has a reserved name.
    """
    prefix = os.path.join(root.resolved, "")
    folders: list[tuple[str, tuple[Permission, ...]]] = [("", ())]
    shared: dict[tuple[Permission, ...], tuple[Permission, ...]] = {}  # the files of a folder are mostly alike
    while folders:
        folder, above = folders.pop()
        with closing(_entries(root, folder, seen)) as entries:
            for entry in entries:
                path = f"{folder}/{entry.name}" if folder else entry.name
                if entry.name.startswith("."):
                    continue
                if path == _RESERVED:
                    _pass_by(passed, entry, path, wanted)
                    continue
                place = prefix + path
                try:
                    if entry.is_dir(follow_symlinks=False):
                        if not wanted.excludes(path) and os.path.abspath(place) not in skip:
                            folders.append((path, (Permission.of(place, entry.stat(follow_symlinks=False)), *above)))
                    elif entry.is_file(follow_symlinks=False) and wanted.accepts(path):
                        st = entry.stat(follow_symlinks=False)
                        fingerprint, before = Fingerprint.of(st), known(path)
                        if before and _stands(before, fingerprint, st, above):
                            yield before
                            continue
                        permissions = (Permission.of(place, st), *above)
                        permissions = shared.setdefault(permissions, permissions)
                        yield Found(path, fingerprint, permissions[0].uid, permissions[0].gid, permissions)
                    else:
                        _pass_by(passed, entry, path, wanted)
                except OSError as error:
                    seen.note(folder, path, error, is_folder=_is_folder(entry))


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    """Tell whether an entry is known to be a folder, though nothing else may be known of it."""
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False


def _pass_by(passed: Passed | None, entry: "os.DirEntry[str]", path: str, wanted: Filter) -> None:
    """Take note of what is no regular file and no folder to search, unless it is not wanted."""
    if passed is not None and not entry.is_file(follow_symlinks=False) and not wanted.excludes(path):
        passed.note(path, is_link=entry.is_symlink(), is_folder=entry.is_dir(follow_symlinks=False))


def _stands(before: Found, fingerprint: Fingerprint, st: os.stat_result, above: tuple[Permission, ...]) -> bool:
    permissions = before.permissions
    return before.fingerprint == fingerprint and permissions[0].is_without_list(st) and permissions[1:] == above


def _entries(root: Root, folder: str, seen: Seen) -> Generator["os.DirEntry[str]", None, None]:
    """Yield what is in a folder below `root`, which stays open meanwhile: its entries are asked through it."""
    opened: list[int] = []
    try:
        opened.append(open_beneath(root.fd, folder or ".", _FOLDER))
        st = os.fstat(opened[0])
        if not st.st_nlink:  # a folder that was removed and is held open lists nothing, and no error tells
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        with os.scandir(opened[0]) as listing:
            found = list(listing)
        seen.folders[folder] = _identity(opened[0], st, seen.folders.get(os.path.dirname(folder)))
        yield from found
    except OSError as error:
        if folder == "" or error.errno not in _VANISHED:
            seen.close(folder, error)
    finally:
        for descriptor in opened:
            os.close(descriptor)


def _identity(fd: int, st: os.stat_result, above: Identity | None) -> Identity:
    """Return that of an open folder. above: of the one that it lies in, None for the root, which is held.

    When a disk is taken away another may get its device number, and its root has the inode number of the first.
    """
    is_mounted = above is not None and above[0] != st.st_dev
    return st.st_dev, st.st_ino, mount_number(fd) if is_mounted else 0


def vdifs_mounts() -> frozenset[str]:
    """Return where vdifs is mounted."""
    return frozenset(mount.mountpoint for mount in mounts() if mount.type == FUSE_TYPE)
