"""What a process may do beyond any user: capabilities(7). A process that unmounts needs few of them."""

import struct
from contextlib import suppress

from vdifs.linux.libc import call

__all__ = ["forbid_new_privileges", "keep_what_unmounting_needs"]

_DAC_OVERRIDE, _DAC_READ_SEARCH, _SYS_ADMIN = 1, 2, 21
_VERSION_3 = 0x20080522
_PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 24, 38
_MOST = 63

_HEADER = struct.pack("Ii", _VERSION_3, 0)
_SETS = struct.Struct("6I")
"""Effective, permitted, inheritable: the lower 32 capabilities of each, then the others."""


def forbid_new_privileges() -> None:
    """Let no program that this process starts have more rights than it has, for good. Raises OSError."""
    call("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def keep_what_unmounting_needs() -> None:
    """Give up, for good, every capability but those of unmounting, and of reaching a mountpoint and a pid file.

    A process that cannot unmount by itself keeps all it has, as fusermount3 does it then, with rights of its own.
    """
    sets = bytearray(_SETS.size)
    with suppress(OSError):
        call("capget", bytearray(_HEADER), sets)
    effective, permitted, *_ = _SETS.unpack(sets)
    if not effective & 1 << _SYS_ADMIN:
        return
    for number in range(_MOST + 1):
        with suppress(OSError):
            call("prctl", _PR_CAPBSET_DROP, number, 0, 0, 0)
    kept = permitted & (1 << _SYS_ADMIN | 1 << _DAC_OVERRIDE | 1 << _DAC_READ_SEARCH)
    with suppress(OSError):
        call("capset", bytearray(_HEADER), _SETS.pack(kept, kept, 0, 0, 0, 0))
    with suppress(OSError):
        forbid_new_privileges()
