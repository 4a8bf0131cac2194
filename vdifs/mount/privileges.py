"""What a process may do beyond any user: capabilities(7). A process that unmounts needs few of them."""

import ctypes

__all__ = ["keep_what_unmounting_needs"]

_DAC_OVERRIDE, _DAC_READ_SEARCH, _SYS_ADMIN = 1, 2, 21
_VERSION_3 = 0x20080522
_PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 24, 38
_MOST = 63

_libc = ctypes.CDLL(None, use_errno=True)


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Half(ctypes.Structure):
    """Of the sets, 32 capabilities of each."""

    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def keep_what_unmounting_needs() -> None:
    """Give up, for good, every capability but those of unmounting, and of reaching a mountpoint and a pid file.

    A process that cannot unmount by itself keeps all it has, as fusermount3 does it then, with rights of its own.
    """
    header, sets = _Header(_VERSION_3, 0), (_Half * 2)()
    if _libc.capget(ctypes.byref(header), sets) or not sets[0].effective & 1 << _SYS_ADMIN:
        return
    for number in range(_MOST + 1):
        _libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0)
    kept = sets[0].permitted & (1 << _SYS_ADMIN | 1 << _DAC_OVERRIDE | 1 << _DAC_READ_SEARCH)
    _libc.capset(ctypes.byref(header), (_Half * 2)(_Half(kept, kept, 0)))
    _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
