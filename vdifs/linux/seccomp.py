"""Filters of system calls, seccomp(2): which are allowed is the caller's to say, any other fails with EPERM.

another architecture     -> EPERM
allowed always           -> allowed
allowed by its arguments -> allowed, or EPERM
to be absent             -> ENOSYS, as if the kernel did not have it
newer than the list      -> ENOSYS, after which the C library does it in the old way
anything else            -> EPERM
"""

import errno
import struct
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

from vdifs.linux.libc import address_of, system_call
from vdifs.linux.syscall_numbers import Machine, this_machine

__all__ = ["Argument", "Calls", "Case", "Null", "instructions", "restrict_system_calls", "why_no_filter"]

_LOAD, _EQUAL, _GREATER, _AND, _RETURN = 0x20, 0x15, 0x25, 0x54, 0x06
"""BPF_LD|BPF_W|BPF_ABS, BPF_JMP|BPF_JEQ|BPF_K, BPF_JMP|BPF_JGT|BPF_K, BPF_ALU|BPF_AND|BPF_K, BPF_RET|BPF_K."""
_ALLOW: Final = 0x7FFF0000
_ERRNO: Final = 0x00050000
_DENY: Final = _ERRNO | errno.EPERM
_UNKNOWN: Final = _ERRNO | errno.ENOSYS
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
"""Offsets in struct seccomp_data; an argument has 8 bytes, the lower half first."""
_WHOLE: Final = 0xFFFFFFFF

_SET_MODE_FILTER, _GET_ACTION_AVAIL = 1, 2
_TSYNC, _SPEC_ALLOW = 1, 4


class Argument(NamedTuple):
    """Holds if the argument at that position, an int, is one of `values` under `mask`."""

    position: int
    values: tuple[int, ...]
    mask: int = _WHOLE


class Null(NamedTuple):
    """Holds if the argument at that position, a pointer, is NULL."""

    position: int


Case: TypeAlias = tuple[Argument | Null, ...]
"""Arguments with which a call is allowed: all of the conditions hold."""


@dataclass(frozen=True, slots=True)
class Calls:
    """What a process may call, by names.

    always: whatever the arguments are; those that are made most come first, as an old kernel looks through them from
    the beginning. by_arguments: in any of the cases. absent: what is to look as if the kernel did not have it.
    """

    always: Sequence[str]
    by_arguments: Mapping[str, Sequence[Case]]
    absent: Collection[str] = ()


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
        system_call(_own_number(machine), _GET_ACTION_AVAIL, 0, _ERRNO.to_bytes(4, sys.byteorder))
    except OSError as error:
        return error.strerror
    return None


def restrict_system_calls(calls: Calls) -> None:
    """Allow only `calls`, for good, in all threads; no_new_privs must be in force. Raises OSError."""
    machine = this_machine()
    if machine is None:
        raise OSError(errno.ENOSYS, "not written for this kind of machine")
    code = bytearray(instructions(machine, calls))
    program = struct.pack("HP", len(code) // 8, address_of(code))  # struct sock_fprog
    # Kernels before 5.16 else slow down a filtered process, by a mitigation meant for those that run foreign code.
    for flags in (_TSYNC | _SPEC_ALLOW, _TSYNC):
        try:
            thread = system_call(_own_number(machine), _SET_MODE_FILTER, flags, program)
        except OSError as error:
            if error.errno == errno.EINVAL and flags & _SPEC_ALLOW:
                continue
            raise
        if thread:
            raise OSError(errno.ESRCH, f"thread {thread} cannot be filtered")
        return


def _own_number(machine: Machine) -> int:
    number = machine.numbers["seccomp"]
    assert number is not None, "each machine in the table has it"
    return number


def instructions(machine: Machine, calls: Calls) -> bytes:
    """Return the filter that allows `calls`, packed."""
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in _filter(machine, calls))


def _filter(machine: Machine, calls: Calls) -> Iterator[_Instruction]:
    yield _Instruction(_LOAD, 0, 0, _ARCHITECTURE)
    yield _Instruction(_EQUAL, 1, 0, machine.architecture)
    yield _return(_DENY)
    yield _Instruction(_LOAD, 0, 0, _NUMBER)
    for name in calls.always:
        yield from _of_call(machine, name, [_return(_ALLOW)])
    for name, cases in calls.by_arguments.items():
        judged = [instruction for case in cases for instruction in _allowed_in(case)]
        yield from _of_call(machine, name, [*judged, _return(_DENY)])
    for name in calls.absent:
        yield from _of_call(machine, name, [_return(_UNKNOWN)])
    yield _Instruction(_GREATER, 0, 1, machine.newest)
    yield _return(_UNKNOWN)
    yield _return(_DENY)


def _of_call(machine: Machine, name: str, then: list[_Instruction]) -> Iterator[_Instruction]:
    """Yield `then`, passed over for any other call; nothing where the machine has no such call."""
    number = machine.numbers[name]
    if number is not None:
        yield from _when(number, then)


def _allowed_in(case: Case) -> list[_Instruction]:
    """Return what allows a call if all conditions of `case` hold, and goes on if not."""
    then = [_return(_ALLOW)]
    for condition in reversed(case):
        then = _null(condition, then) if isinstance(condition, Null) else _one_of(condition, then)
    return then


def _one_of(argument: Argument, then: list[_Instruction]) -> list[_Instruction]:
    """Return `then`, passed over if the argument is none of the values."""
    masked = [] if argument.mask == _WHOLE else [_Instruction(_AND, 0, 0, argument.mask)]
    *others, last = argument.values
    # each value leads behind the last one
    jumps = [_Instruction(_EQUAL, len(others) - at, 0, value) for at, value in enumerate(others)]
    return [_load(argument.position), *masked, *jumps, *_when(last, then)]


def _null(pointer: Null, then: list[_Instruction]) -> list[_Instruction]:
    """Return `then`, passed over if the pointer is not NULL."""
    upper = [_load(pointer.position, upper=True), *_when(0, then)]
    return [_load(pointer.position), *_when(0, upper)]


def _load(argument: int, *, upper: bool = False) -> _Instruction:
    return _Instruction(_LOAD, 0, 0, _ARGUMENTS + 8 * argument + 4 * upper)


def _return(answer: int) -> _Instruction:
    return _Instruction(_RETURN, 0, 0, answer)


def _when(value: int, then: list[_Instruction]) -> list[_Instruction]:
    """Return `then`, passed over if what was loaded is not `value`."""
    return [_Instruction(_EQUAL, 0, len(then), value), *then]
