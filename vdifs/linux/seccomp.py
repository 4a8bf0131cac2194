"""A filter of system calls, seccomp(2): what a mounted daemon has no use for fails with EPERM.

No sockets, no programs, no processes, no mounts, no other process's memory or signals, and nothing that makes, changes
or removes a file, whatever Landlock allows: none is opened to be written, made or truncated, and what is open to append
to stays so. Which files are opened to be read is Landlock's to allow.

What is allowed whatever its arguments costs nothing: since Linux 5.11 the kernel remembers that, and before it finds
the calls of a read at the beginning.

    another architecture -> EPERM
    in the list          -> allowed
    judged               -> by its arguments
    newer than the list  -> ENOSYS, after which the C library does it in the old way
    anything else        -> EPERM
"""

import errno
import os
import struct
import sys
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from vdifs.linux.libc import address_of, system_call
from vdifs.linux.syscalls import Machine, this_machine

__all__ = ["filter_for", "restrict_system_calls", "why_no_filter"]

_LOAD, _EQUAL, _GREATER, _AND, _RETURN = 0x20, 0x15, 0x25, 0x54, 0x06
"""BPF_LD|BPF_W|BPF_ABS, BPF_JMP|BPF_JEQ|BPF_K, BPF_JMP|BPF_JGT|BPF_K, BPF_ALU|BPF_AND|BPF_K, BPF_RET|BPF_K."""
_ALLOW: Final = 0x7FFF0000
_ERRNO: Final = 0x00050000
_DENY: Final = _ERRNO | errno.EPERM
_UNKNOWN: Final = _ERRNO | errno.ENOSYS
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
"""Offsets in struct seccomp_data; an argument has 8 bytes, the lower half first."""

_SET_MODE_FILTER, _GET_ACTION_AVAIL = 1, 2
_TSYNC, _SPEC_ALLOW = 1, 4
_CLONE_THREAD = 0x00010000
_CLONE_NEW_NAMESPACES = 0x7E020080
_IOCTLS = (0xC020660B, 0x5401, 0x5450, 0x5451)  # FS_IOC_FIEMAP; TCGETS: is this a terminal?; FIONCLEX, FIOCLEX
_FCNTLS = (0, 1, 2, 3, 5, 36, 1025, 1030, 1031, 1032)
"""F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_GETLK, F_OFD_GETLK, F_GETLEASE, F_DUPFD_CLOEXEC, F_SETPIPE_SZ, F_GETPIPE_SZ.

Neither F_SETOWN, by which a pipe sends signals to any process, nor locks, which keep a virtual machine from starting,
nor F_SETFL, by which a log that is open to append to could be written over.
"""
_F_SETSIG, _F_SETLEASE = 10, 1024
_SIGURG = 23
_F_RDLCK, _F_UNLCK = 0, 2
_O_ACCMODE = 3
_KNOWS_TRUNCATION = 3
"""The version of Landlock that guards files from being truncated by one that may read them."""
_MOST_ADVICE = 31
_PRCTLS = (15, 0x53564D41)  # PR_SET_NAME, PR_SET_VMA: names for threads and for memory


class _Instruction(NamedTuple):
    """struct sock_filter."""

    code: int
    if_true: int
    if_false: int
    value: int


def why_no_filter() -> str | None:
    """Return why no filter can be had here, None if one can."""
    machine = this_machine()
    if machine is None:
        return "not written for this kind of machine"
    try:
        system_call(machine.seccomp, _GET_ACTION_AVAIL, 0, _ERRNO.to_bytes(4, sys.byteorder))
    except OSError as error:
        return error.strerror
    return None


def restrict_system_calls(landlock: int | None) -> None:
    """Put the filter in force, for good, in all threads; no_new_privs must be. Raises OSError.

    landlock: the version of what else is in force, None for nothing.
    """
    machine = this_machine()
    if machine is None:
        raise OSError(errno.ENOSYS, "not written for this kind of machine")
    code = filter_for(machine, os.getpid(), landlock)
    instructions = bytearray(code)
    program = struct.pack("HP", len(code) // 8, address_of(instructions))  # struct sock_fprog
    # Kernels before 5.16 else slow down a filtered process, by a mitigation meant for those that run foreign code.
    for flags in (_TSYNC | _SPEC_ALLOW, _TSYNC):
        try:
            thread = system_call(machine.seccomp, _SET_MODE_FILTER, flags, program)
        except OSError as error:
            if error.errno == errno.EINVAL and flags & _SPEC_ALLOW:
                continue
            raise
        if thread:
            raise OSError(errno.ESRCH, f"thread {thread} cannot be filtered")
        return


def filter_for(machine: Machine, pid: int, landlock: int | None) -> bytes:
    """Return the filter's instructions, packed. pid: of the process that it is for. landlock: as above."""
    guarded = landlock is not None and landlock >= _KNOWS_TRUNCATION
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in _instructions(machine, pid, guarded))


def _instructions(machine: Machine, pid: int, guarded: bool) -> Iterator[_Instruction]:
    """Yield them. guarded: whether Landlock keeps files from being changed where the flags are out of sight."""
    yield _Instruction(_LOAD, 0, 0, _ARCHITECTURE)
    yield from _unless(machine.architecture, [_Instruction(_RETURN, 0, 0, _DENY)])
    yield _Instruction(_LOAD, 0, 0, _NUMBER)
    for number in machine.allowed:
        yield from _when(number, [_Instruction(_RETURN, 0, 0, _ALLOW)])
    for name, number in machine.opening.items():
        yield from _when(number, [*_opening(name, guarded), _Instruction(_RETURN, 0, 0, _DENY)])
    for name, number in machine.judged.items():
        yield from _when(number, [*_judgement(name, pid), _Instruction(_RETURN, 0, 0, _DENY)])
    yield _Instruction(_GREATER, 0, 1, machine.newest)
    yield _Instruction(_RETURN, 0, 0, _UNKNOWN)
    yield _Instruction(_RETURN, 0, 0, _DENY)


def _opening(name: str, guarded: bool) -> Iterator[_Instruction]:
    """Yield what allows a call that opens a file to be read, and neither makes nor truncates it."""
    if name != "openat2":
        yield from _if_argument(1 if name == "open" else 2, [0], mask=_O_ACCMODE | os.O_CREAT | os.O_TRUNC)
    elif guarded:
        yield from _allow()
    else:  # it is done by openat then, a folder at a time
        yield _Instruction(_RETURN, 0, 0, _UNKNOWN)


def _judgement(name: str, pid: int) -> Iterator[_Instruction]:
    """Yield what allows a call with harmless arguments and goes on with any other."""
    match name:
        case "clone":  # a thread, no process
            yield from _if_argument(0, [_CLONE_THREAD], mask=_CLONE_THREAD | _CLONE_NEW_NAMESPACES)
        case "clone3":  # its arguments are out of sight; the C library then makes threads by clone
            yield _Instruction(_RETURN, 0, 0, _UNKNOWN)
        case "fcntl":
            yield from _if_argument(1, _FCNTLS)
            yield from _when(_F_SETSIG, list(_if_argument(2, [_SIGURG])))  # what ends no process
            yield _argument(1)
            yield from _when(_F_SETLEASE, list(_if_argument(2, [_F_RDLCK, _F_UNLCK])))
        case "madvise":  # neither MADV_HWPOISON nor MADV_SOFT_OFFLINE, which take pages from all
            yield from _if_argument(2, [0], mask=0xFFFFFFFF & ~_MOST_ADVICE)
        case "tgkill":
            yield from _if_argument(0, [pid])
        case "prctl":
            yield from _if_argument(0, _PRCTLS)
        case "ioctl":
            yield from _if_argument(1, _IOCTLS)
        case "sendto":  # to the other end only
            yield from _if_null(4, list(_allow()))
        case "prlimit64":  # asking about itself
            yield from _if_null(2, list(_if_argument(0, [0])))
        case _:
            raise AssertionError(name)


def _allow() -> Iterator[_Instruction]:
    yield _Instruction(_RETURN, 0, 0, _ALLOW)


def _if_argument(index: int, values: Iterable[int], mask: int = 0xFFFFFFFF) -> Iterator[_Instruction]:
    """Yield what allows the call if the argument, an int, is one of `values` under `mask`."""
    yield _argument(index)
    yield _Instruction(_AND, 0, 0, mask)
    for value in values:
        yield from _when(value, list(_allow()))


def _if_null(index: int, then: list[_Instruction]) -> Iterator[_Instruction]:
    """Yield `then`, passed over if the argument, a pointer, is not NULL."""
    upper = [_argument(index, upper=True), *_when(0, then)]
    yield _argument(index)
    yield from _when(0, upper)


def _argument(index: int, *, upper: bool = False) -> _Instruction:
    return _Instruction(_LOAD, 0, 0, _ARGUMENTS + 8 * index + 4 * upper)


def _when(value: int, then: list[_Instruction]) -> Iterator[_Instruction]:
    """Yield `then`, passed over if what was loaded is not `value`."""
    yield _Instruction(_EQUAL, 0, len(then), value)
    yield from then


def _unless(value: int, then: list[_Instruction]) -> Iterator[_Instruction]:
    """Yield `then`, passed over if what was loaded is `value`."""
    yield _Instruction(_EQUAL, len(then), 0, value)
    yield from then
