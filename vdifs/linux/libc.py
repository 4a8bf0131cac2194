"""The one way into the C library, for what Python's own modules lack.

    int           long, which every int and pointer-sized argument can take on the machines that are known
    bytes         a string, or a structure that is only read
    bytearray     a structure that is written too
    None          NULL

A structure is packed by `struct`, as the manual page of its call shows it.
"""

import ctypes
import os
from collections.abc import Callable

__all__ = ["address_of", "call", "has", "system_call"]

_libc = ctypes.CDLL(None, use_errno=True)
_syscall = _libc["syscall"]  # of its own, as it returns another type than `call` expects
_syscall.restype = ctypes.c_long
Argument = int | bytes | bytearray | None


def call(name: str, *arguments: Argument) -> int:
    """Return what the function `name`, of type int, returns. Raises OSError where that is -1."""
    return _checked(getattr(_libc, name), arguments)


def system_call(number: int, *arguments: Argument) -> int:
    """Return what a system call returns that the C library has no function for. Raises OSError."""
    return _checked(_syscall, (number, *arguments))


def address_of(data: bytearray) -> int:
    """Return where in memory `data` lies, for a structure that points to it, as long as it is kept and not resized."""
    return ctypes.addressof(ctypes.c_char.from_buffer(data))


def has(name: str) -> bool:
    """Tell whether the C library has a function of that name."""
    return hasattr(_libc, name)


def _checked(function: Callable[..., int], arguments: tuple[Argument, ...]) -> int:
    result = function(*map(_converted, arguments))
    if result == -1:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def _converted(argument: Argument) -> object:
    match argument:
        case int():
            return ctypes.c_long(argument)
        case bytearray():
            return (ctypes.c_char * len(argument)).from_buffer(argument)
        case _:
            return ctypes.c_char_p(argument)
