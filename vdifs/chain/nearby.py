"""The files of a source, for an image that names no parent: regular ones, few enough to be looked at one by one."""

import os
from collections import deque
from contextlib import suppress

from vdifs.chain.policy import Policy
from vdifs.chain.roots import Root
from vdifs.linux.beneath import open_beneath

__all__ = ["MOST_FILES", "files_of_source"]

MOST_FILES = 4096
"""So many files, and folders, are looked at in each directory: those behind them are not found."""
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def files_of_source(policy: Policy) -> list[str]:
    """Return the PATHs of regular files beneath the source root and the trusted directories, of those nearer the top.

    Hidden ones, links and other file systems are left out, as are folders that cannot be read.
    """
    return [f"{path}/{each}" if path else each for path, root in policy.roots().items() for each in _files_in(root)]


def _files_in(root: Root) -> list[str]:
    found: list[str] = []
    waiting, seen = deque([""]), 0
    device = os.fstat(root.fd).st_dev
    while waiting and len(found) < MOST_FILES and seen < MOST_FILES:
        folder = waiting.popleft()
        seen += 1
        with suppress(OSError):
            files, folders = _names_in(root, folder, device)
            prefix = f"{folder}/" if folder else ""
            found += [prefix + name for name in files]
            waiting += [prefix + name for name in folders]
    return found[:MOST_FILES]


def _names_in(root: Root, folder: str, device: int) -> tuple[list[str], list[str]]:
    """Return the names of the files and of the folders in a folder, sorted. Raises OSError."""
    opened = open_beneath(root.fd, folder or ".", _FOLDER)
    try:
        if os.fstat(opened).st_dev != device:
            return [], []
        with os.scandir(opened) as listing:
            entries = sorted((each for each in listing if not each.name.startswith(".")), key=lambda each: each.name)
            files = [each.name for each in entries if each.is_file(follow_symlinks=False)]
            return files, [each.name for each in entries if each.is_dir(follow_symlinks=False)]
    finally:
        os.close(opened)
