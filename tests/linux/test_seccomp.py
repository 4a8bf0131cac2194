"""What a filter decides, by a reading of its instructions that shares nothing with what makes them."""

import errno
import struct
from collections.abc import Sequence

import pytest

from vdifs.linux.seccomp import Argument, Calls, Null, instructions
from vdifs.linux.syscall_numbers import Machine

ALLOWED, REFUSED, ABSENT = 0x7FFF0000, 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS
HERE, ELSEWHERE = 0xC000003E, 0x40000003
MACHINE = Machine(HERE, {"read": 0, "open": 2, "fcntl": 72, "limit": 302, "clone": 56, "gone": None, "new": 435}, 470)
CALLS = Calls(
    always=("gone", "read"),
    by_arguments={
        "open": ((Argument(1, (0,), mask=0o1103),),),
        "fcntl": ((Argument(1, (1, 5, 9)),), (Argument(1, (10, 11)), Argument(2, (23, 24)))),
        "limit": ((Null(2), Argument(0, (0,))),),
    },
    absent=("new",),
)


def decided(number: int, arguments: Sequence[int] = (), machine: int = HERE) -> int:
    """Run the filter as the kernel does, bpf(4): each jump is counted from the next instruction."""
    code = instructions(MACHINE, CALLS)
    data = struct.pack("<IIQ6Q", number, machine, 0, *arguments, *[7] * (6 - len(arguments)))
    loaded = at = 0
    while True:
        operation, if_true, if_false, value = struct.unpack_from("=HBBI", code, 8 * at)
        at += 1
        match operation:
            case 0x20:
                (loaded,) = struct.unpack_from("<I", data, value)
            case 0x54:
                loaded &= value
            case 0x15:
                at += if_true if loaded == value else if_false
            case 0x25:
                at += if_true if loaded > value else if_false
            case 0x06:
                return int(value)
            case _:
                raise AssertionError(hex(operation))


def test_what_is_allowed_always_is_allowed_with_any_arguments_but_on_no_other_machine() -> None:
    assert decided(0) == ALLOWED
    assert decided(0, [1 << 40, 3]) == ALLOWED
    assert decided(0, machine=ELSEWHERE) == REFUSED


@pytest.mark.parametrize(
    ("number", "arguments", "is_allowed"),
    [
        (2, (9, 0), True),
        (2, (9, 0o2000000), True),
        (2, (9, 1), False),
        (2, (9, 0o100), False),
        *((72, (9, command, 9), True) for command in (1, 5, 9)),
        *((72, (9, command, 9), False) for command in (0, 2, 10, 11, 12)),
        *((72, (9, command, number), True) for command in (10, 11) for number in (23, 24)),
        (72, (9, 12, 23), False),
        (302, (0, 9, 0), True),
        (302, (1, 9, 0), False),
        (302, (0, 9, 1), False),
        (302, (0, 9, 1 << 32), False),  # of a pointer both halves count
    ],
)
def test_what_is_allowed_by_its_arguments_is_refused_with_others(
    number: int, arguments: tuple[int, ...], is_allowed: bool
) -> None:
    assert decided(number, arguments) == (ALLOWED if is_allowed else REFUSED)


def test_what_is_to_be_absent_and_what_is_newer_than_the_list_look_unknown_and_all_else_is_refused() -> None:
    assert decided(435) == ABSENT
    assert decided(471) == ABSENT
    assert decided(470) == decided(56) == REFUSED
