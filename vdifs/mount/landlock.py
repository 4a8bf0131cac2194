"""Restricting which files this process may open, landlock(7), by ctypes.

It counts for the calling thread and those it starts, for good; descriptors that are open already are not affected.
Only since Linux 7.0 can it count for threads that run already.
"""

import ctypes
import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

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

_libc = ctypes.CDLL(None, use_errno=True)


class _RulesetAttr(ctypes.Structure):
    _fields_ = (("fs", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _PathBeneathAttr(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


def landlock_abi() -> int | None:
    """Return the version of Landlock that this kernel has, None without any."""
    version = _libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _ASK_VERSION)
    return version if version > 0 else None


def restricts_all_threads(abi: int) -> bool:
    """Tell whether it also counts for threads that run already."""
    return abi >= _ALL_THREADS_SINCE


def why_no_landlock() -> str | None:
    """Return why there is none here, None if there is."""
    if landlock_abi() is not None:
        return None
    match ctypes.get_errno():
        case errno.ENOSYS:
            return "this kernel has none (Linux 5.13 and later do)"
        case errno.EOPNOTSUPP:
            return "switched off at boot: add landlock to the kernel's option lsm="
        case code:
            return os.strerror(code)


def restrict_files(readable: Iterable[str]) -> None:
    """Let files be opened only beneath `readable`, and only to be read.

    Each is a folder or a file; one that is not there is passed over. no_new_privs must be on. Raises OSError.
    """
    abi = landlock_abi()
    if abi is None:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    with _ruleset(abi) as ruleset:
        for path in readable:
            _allow_reading(ruleset, path)
        _call(_RESTRICT_SELF, ruleset, _ALL_THREADS if restricts_all_threads(abi) else 0)


@contextmanager
def _ruleset(abi: int) -> Iterator[int]:
    """Make a set of rules that forbids all that this kernel can forbid."""
    attr = _RulesetAttr(_ALL_FILE_RIGHTS[min(abi, max(_ALL_FILE_RIGHTS))])
    size = 8
    if abi >= _NET_SINCE:
        attr.net, size = _ALL_NET_RIGHTS, 16
    if abi >= _SCOPES_SINCE:
        attr.scoped, size = _SCOPE_ABSTRACT_UNIX_SOCKET, 24
    ruleset = _call(_CREATE_RULESET, ctypes.byref(attr), ctypes.c_size_t(size), 0)
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
        _call(_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.byref(_PathBeneathAttr(rights, place)), 0)
    finally:
        os.close(place)


def _call(number: int, *args: object) -> int:
    result: int = _libc.syscall(number, *args)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
