"""What callers of the library pass: looked at before it is used, and refused under the keyword that it came by."""

import operator
import os
import reprlib
from collections.abc import Iterable

import numpy as np

from vdifs.errors import UsageError

__all__ = ["FileName", "buffer_of", "choice", "file_name", "file_names", "flag", "name", "number"]

FileName = str | bytes | os.PathLike[str] | os.PathLike[bytes]


def file_name(keyword: str, value: object) -> str:
    """Return a file name as Python's functions take it. Raises UsageError for what is none."""
    try:
        text = os.fsdecode(value)  # type: ignore[arg-type] # whether it is one is what is asked
        encoded = os.fsencode(text)
    except (TypeError, ValueError) as error:
        raise _unexpected(keyword, value, "a file name: a str, bytes or os.PathLike") from error
    if b"\0" in encoded:
        raise _unexpected(keyword, value, "a file name, which has no NUL in it")
    return text


def file_names(keyword: str, values: object) -> list[str]:
    """Return file names. Raises UsageError for what is no collection of them, such as one name alone."""
    if isinstance(values, str | bytes | os.PathLike) or not isinstance(values, Iterable):
        raise _unexpected(keyword, values, "a list of directories, also for one alone")
    return [file_name(f"each of {keyword}", value) for value in values]


def name(keyword: str, value: object) -> str | None:
    """Return what an image calls something: any str, bytes as of a file name, None for none. Raises UsageError."""
    if value is None or isinstance(value, str):
        text = value
    elif isinstance(value, bytes):
        text = os.fsdecode(value)
    else:
        raise _unexpected(keyword, value, "a name: a str")
    try:
        os.fsencode(text or "")
    except ValueError as error:
        raise _unexpected(keyword, value, "a name that can be written as UTF-8") from error
    return text


def choice(keyword: str, value: object, choices: tuple[str, ...]) -> None:
    """Raise UsageError unless the value is one of the choices, letter by letter."""
    if not isinstance(value, str) or value not in choices:
        raise _unexpected(keyword, value, " or ".join(map(repr, choices)))


def flag(keyword: str, value: object) -> bool:
    """Return a truth value. Raises UsageError for what only passes for one."""
    if not isinstance(value, bool | np.bool_):
        raise _unexpected(keyword, value, "True or False")
    return bool(value)


def number(keyword: str, value: object) -> int:
    """Return an integer, of Python's kind or any other. Raises UsageError for what is none."""
    try:
        return operator.index(value)  # type: ignore[arg-type] # whether it is one is what is asked
    except TypeError as error:
        raise _unexpected(keyword, value, "an integer") from error


def buffer_of(value: object) -> memoryview:
    """Return a writable buffer as one of bytes. Raises UsageError for what cannot be filled."""
    try:
        view = memoryview(value)  # type: ignore[arg-type] # whether it is one is what is asked
        fits = not view.readonly and view.c_contiguous and "O" not in (view.format or "")
        if fits and (view.format != "B" or view.ndim != 1):
            view = np.frombuffer(view, np.uint8).data if view.nbytes else memoryview(bytearray())
    except (TypeError, ValueError, BufferError) as error:
        raise _unexpected("buffer", value, "a writable buffer, such as a bytearray") from error
    if not fits:
        raise _unexpected("buffer", value, "a writable buffer in one piece, such as a bytearray")
    return view


def _unexpected(keyword: str, value: object, expected: str) -> UsageError:
    return UsageError(f"{keyword}={_shown(value)}", remedy=f"give {expected}")


def _shown(value: object) -> str:
    """Return a short line that shows a value, whatever it is."""
    text = reprlib.repr(value)
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text[:100])
