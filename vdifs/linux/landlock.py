"""Restricting which files this process may open, landlock(7).

It counts for the calling thread and those it starts, for good; descriptors that are open already are not affected.
Only since Linux 7.0 can it count for threads that run already.
"""

import errno
import os
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from vdifs.linux.libc import system_call

__all__ = ["landlock_abi", "restrict_files", "restricts_all_threads", "why_no_landlock"]

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
"""These numbers are the same on every machine."""
_ASK_VERSION = 1
_PATH_BENEATH = 1

_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
_ALL_FILE_RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1, 5: (1 << 16) - 1}
"""By ABI version, each with what came before: 2 has REFER, 3 TRUNCATE, 5 IOCTL_DEV."""
_ALL_NET_RIGHTS = 0b11
_SCOPE_ABSTRACT_UNIX_SOCKET = 1
"""Not the scope of signals: with it the supervisor would not hear of the daemon's end, which is a signal too."""
_NET_SINCE, _SCOPES_SINCE, _ALL_THREADS_SINCE = 4, 6, 8
_ALL_THREADS = 1 << 3

_PATH_BENEATH_ATTR = struct.Struct("=Qi")  # allowed rights, descriptor


def landlock_abi() -> int | None:
    """Return the version of Landlock that this kernel has, None without any."""
    try:
        return _version()
    except OSError:
        return None


def restricts_all_threads(abi: int) -> bool:
    """Tell whether it also counts for threads that run already."""
    return abi >= _ALL_THREADS_SINCE


def why_no_landlock() -> str | None:
    """Return why there is none here, None if there is."""
    try:
        _version()
    except OSError as error:
        match error.errno:
            case errno.ENOSYS:
                return "this kernel has none (Linux 5.13 and later do)"
            case errno.EOPNOTSUPP:
                return "switched off at boot: add landlock to the kernel's option lsm="
            case _:
                return error.strerror
    return None


def restrict_files(readable: Iterable[str]) -> None:
    """Let files be opened only beneath `readable`, and only to be read.

    Each is a folder or a file; one that is not there is passed over. no_new_privs must be on. Raises OSError.
    """
    abi = _version()
    with _ruleset(abi) as ruleset:
        for path in readable:
            _allow_reading(ruleset, path)
        system_call(_RESTRICT_SELF, ruleset, _ALL_THREADS if restricts_all_threads(abi) else 0)


@contextmanager
def _ruleset(abi: int) -> Iterator[int]:
    """Make a set of rules that forbids all that this kernel can forbid."""
    rights = [_ALL_FILE_RIGHTS[min(abi, max(_ALL_FILE_RIGHTS))]]
    if abi >= _NET_SINCE:
        rights.append(_ALL_NET_RIGHTS)
    if abi >= _SCOPES_SINCE:
        rights.append(_SCOPE_ABSTRACT_UNIX_SOCKET)
    attributes = struct.pack(f"{len(rights)}Q", *rights)
    ruleset = system_call(_CREATE_RULESET, attributes, len(attributes), 0)
    try:
        yield ruleset
    finally:
        os.close(ruleset)


def _allow_reading(ruleset: int, path: str) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        folder = os.path.isdir(f"/proc/self/fd/{place}")
        rights = _READ_FILE | _READ_DIR if folder else _READ_FILE
        system_call(_ADD_RULE, ruleset, _PATH_BENEATH, _PATH_BENEATH_ATTR.pack(rights, place), 0)
    finally:
        os.close(place)


def _version() -> int:
    """Return the version of Landlock that this kernel has. Raises OSError without any."""
    return system_call(_CREATE_RULESET, None, 0, _ASK_VERSION)
