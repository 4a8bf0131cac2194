"""The parent locator (docs/formats.md, VHDX): which image is below this one, and where it may be. Pure."""

import re
import struct
from dataclasses import dataclass
from uuid import UUID

from vdifs.errors import FormatError, UnsupportedError, quoted
from vdifs.formats.vhdx.header import NO_GUID, RESTORE

__all__ = ["ParentLocator", "parent_names"]

_TYPE = UUID("b04aefb7-d19e-4a81-b789-25b8e9445913")
_HEAD = struct.Struct("<16s2xH")
_ENTRY = struct.Struct("<IIHH")
_MOST_ENTRIES = 256
_GUID = re.compile(r"\{[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}\}")
_ABSOLUTE = re.compile(r"/|[A-Za-z]:|file:", re.IGNORECASE)
_DRIVE = re.compile(r"\A[A-Za-z]:")
_CONTROL = re.compile(r"[\0-\x1f\x7f-\x9f]")
_PATHS = ("relative_path", "volume_path", "absolute_win32_path")


@dataclass(frozen=True, slots=True)
class ParentLocator:
    """values: the entries, by key. linkages: the GUIDs that the parent's data may have."""

    values: dict[str, str]
    linkages: tuple[UUID, ...]

    @classmethod
    def parse(cls, item: bytes) -> "ParentLocator":
        """Return what the item says. Raises FormatError, UnsupportedError for a locator of another type."""
        if len(item) < _HEAD.size:
            raise FormatError(f"its parent locator has {len(item)} bytes, at least {_HEAD.size}", remedy=RESTORE)
        raw, count = _HEAD.unpack_from(item)
        if (kind := UUID(bytes_le=raw)) != _TYPE:
            what, remedy = f"its parent locator has an unknown type, {kind}", "convert it with what made it"
            raise UnsupportedError(what, remedy=remedy)
        if not 1 <= count <= _MOST_ENTRIES or _HEAD.size + count * _ENTRY.size > len(item):
            what = f"its parent locator of {len(item)} bytes has {count} entries, expected 1 to {_MOST_ENTRIES}"
            raise FormatError(what, remedy=RESTORE)
        entries = [_ENTRY.unpack_from(item, _HEAD.size + index * _ENTRY.size) for index in range(count)]
        if sum(key_size + value_size for _, _, key_size, value_size in entries) > len(item):
            raise FormatError("the texts of its parent locator take more than it has", remedy=RESTORE)
        values: dict[str, str] = {}
        for index, (key_at, value_at, key_size, value_size) in enumerate(entries):
            key = _text(item, key_at, key_size, f"key of entry {index}")
            if key in values:
                raise FormatError(f"its parent locator has the key {quoted(key)} twice", remedy=RESTORE)
            values[key] = _text(item, value_at, value_size, f"value of {quoted(key)}")
        return cls(values, _linkages(values))

    @property
    def said(self) -> str:
        """The image as it names it, for a message."""
        named = next((self.values[key] for key in _PATHS if key in self.values), None)
        return named if named is not None else f"{{{self.linkages[0]}}}"


def _linkages(values: dict[str, str]) -> tuple[UUID, ...]:
    """Return the GUIDs of the parent; the second one, for merges under way, may be missing or zero."""
    if "parent_linkage" not in values:
        raise FormatError("its parent locator has no parent_linkage", remedy=RESTORE)
    found: list[UUID] = []
    for key in ("parent_linkage", "parent_linkage2"):
        if (text := values.get(key)) is None:
            continue
        if not _GUID.fullmatch(text):
            what = f"the {key} of its parent locator is {quoted(text)}, expected a GUID in braces"
            raise FormatError(what, remedy=RESTORE)
        if key == "parent_linkage" or UUID(text) != NO_GUID:
            found.append(UUID(text))
    return tuple(found)


def _text(item: bytes, offset: int, length: int, what: str) -> str:
    if not length or length % 2 or offset + length > len(item):
        place = f"{length} bytes at {offset:#x}"
        raise FormatError(f"the {what} in its parent locator, {place}, may not lie there", remedy=RESTORE)
    try:
        text = item[offset : offset + length].decode("utf-16-le")
    except UnicodeDecodeError as error:
        raise FormatError(f"the {what} in its parent locator is no UTF-16", remedy=RESTORE) from error
    if "\0" in text:
        raise FormatError(f"the {what} in its parent locator has a NUL in it", remedy=RESTORE)
    return text


def parent_names(values: dict[str, str]) -> tuple[str, ...]:
    """Return where the parent may be, relative to the child's folder, in the order in which it is looked for.

    First the relative path, unless it is absolute; then the last component of every path (docs/formats.md, Detection).
    """
    names: list[str] = []
    relative = _without_dots(values.get("relative_path", "").replace("\\", "/"))
    if relative and not _ABSOLUTE.match(relative):
        names.append(relative)
    for key in ("volume_path", "absolute_win32_path", "relative_path"):
        names.append(_DRIVE.sub("", re.split(r"[/\\]", values.get(key, ""))[-1]))
    return tuple(dict.fromkeys(name for name in names if _is_candidate(name)))


def _without_dots(name: str) -> str:
    while name.startswith("./"):
        name = name[2:].lstrip("/")
    return name


def _is_candidate(name: str) -> bool:
    return name.rsplit("/", 1)[-1] not in {"", ".", ".."} and not _CONTROL.search(name)
