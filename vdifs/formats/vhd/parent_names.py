"""Where the parent of a differencing VHD may be, by what the image says of it. Pure: docs/formats.md, VHD, "Parents".

An image chooses these names, and whoever made it may have meant harm: none of them is absolute, none has control
characters. That none leads out of the source, the policy of the chain sees to.
"""

import re
from collections.abc import Iterable, Iterator
from itertools import takewhile
from urllib.parse import unquote_to_bytes

__all__ = ["LocatorName", "candidates", "decoded", "said_names"]

LocatorName = tuple[bytes, str]
"""The code of a locator, and what it says."""

_DRIVE = re.compile(r"\A[A-Za-z]:")
_URL = "file://"
_UTF16 = frozenset({b"W2ru", b"W2ku"})
_ASCII = frozenset({b"Wi2r", b"Wi2k"})
_MACX = b"MacX"


def decoded(code: bytes, data: bytes) -> str | None:
    """Return what a locator says, without the NULs behind it, None for an unknown code and for what is no text."""
    try:
        if code in _UTF16:
            return data.decode("utf-16-le").rstrip("\0")
        if code in _ASCII:
            return data.decode("ascii").rstrip("\0")
        if code == _MACX:
            return data.decode("utf-8").rstrip("\0")
    except UnicodeDecodeError:
        return None
    return None


def candidates(names: Iterable[LocatorName], parent_name: bytes) -> tuple[str, ...]:
    """Return where to look, relative to the folder of the image, with `/` between components, each once.

    names: of all locators. parent_name: the field of the header, UTF-16BE.
    """
    said = list(names)
    found = dict[str, None]()
    for code in (b"W2ru", b"W2ku", _MACX, b"Wi2r"):
        for path in _paths(code, said):
            if (relative := _relative(path)) is not None:
                found.setdefault(relative)
    for path in (*_paths(b"W2ku", said), *_paths(_MACX, said), *_header_name(parent_name)):
        if (last := _last(path)) is not None:
            found.setdefault(last)
    return tuple(found)


def said_names(names: Iterable[LocatorName], parent_name: bytes) -> list[str]:
    """Return every name that the image has for its parent, as it stands there, each once."""
    return list(dict.fromkeys([name for _, name in names if name] + _header_name(parent_name)))


def _paths(code: bytes, names: list[LocatorName]) -> Iterator[str]:
    """Yield the paths that locators of a code have; of a URL its path, as it stands and then percent-decoded."""
    for name in (name for each, name in names if each == code):
        if code != _MACX:
            yield name
        elif name[: len(_URL)].lower() == _URL:
            yield from _url_paths(name[len(_URL) :])


def _url_paths(rest: str) -> Iterator[str]:
    """Yield what is behind `file://`, if it does not begin with the name of a host."""
    first = rest.split("/", 1)[0]
    if "/" in rest and first not in {"", ".", ".."}:
        rest = rest[len(first) :]  # of a host: absolute
    yield rest
    try:
        yield unquote_to_bytes(rest).decode("utf-8")
    except UnicodeDecodeError:
        return


def _relative(path: str) -> str | None:
    """Return a path that begins at the folder of the image, None where it is absolute or no name."""
    path = path.replace("\\", "/")
    if path.startswith("/") or _DRIVE.match(path) or path[: len(_URL)].lower() == _URL or _last(path) is None:
        return None
    while path.startswith("./"):
        path = path[2:].lstrip("/")
    return path


def _last(path: str) -> str | None:
    """Return the last component, None where it is no name of a file."""
    last = _DRIVE.sub("", path.replace("\\", "/"), count=1).rsplit("/", 1)[-1]
    if last in {"", ".", ".."} or any(ord(c) < 0x20 or 0x7F <= ord(c) < 0xA0 for c in path):
        return None
    return last


def _header_name(name: bytes) -> list[str]:
    try:
        text = name.decode("utf-16-be")
    except UnicodeDecodeError:
        return []
    return ["".join(takewhile(lambda c: c != "\0", text))] if text else []
