"""The footer and the header of a VHD file, found and read: docs/formats.md, "Detection". Each error names the file."""

from dataclasses import dataclass
from enum import Enum, auto

from vdifs.errors import FormatError, UnsupportedError
from vdifs.formats.image_format import Front
from vdifs.formats.vhd.footer import (
    COOKIE,
    FOOTER_LENGTH,
    POISON,
    RESTORE,
    DiskType,
    Footer,
    is_sound_fixed,
)
from vdifs.formats.vhd.header import HEADER_LENGTH, Header, Locator, is_encrypted
from vdifs.formats.vhd.parent_names import LocatorName, decoded
from vdifs.storage.host_file import HostFile
from vdifs.units import SECTOR

__all__ = ["Copy", "PlacedFooter", "bears_mark", "find_footer", "is_fixed", "locator_names", "read_header"]

_TYPE_AT = 60
_SPARSE = frozenset({DiskType.DYNAMIC, DiskType.DIFFERENCING})
_JOIN = "join its parts in their order, as with 'cat x.vhd x.v01 x.v02 > whole.vhd'"


class Copy(Enum):
    """How the copy of the footer at the start of the file is: of dynamic and differencing images."""

    NONE_NEEDED = auto()
    """It is a fixed image, whose start is the guest's."""
    SAME = auto()
    OTHER = auto()
    """It is not what the footer at the end is: that counts."""
    ALONE = auto()
    """There is none at the end: the file was not closed properly."""


@dataclass(frozen=True, slots=True)
class PlacedFooter:
    """A footer. end: where what lies in front of it ends, the end of the file where there is none at its end."""

    footer: Footer
    end: int
    copy: Copy

    @property
    def notes(self) -> tuple[str, ...]:
        """What its user should know of the copy of the footer."""
        if self.copy is Copy.ALONE:
            return ("it has no footer at its end: it was not closed properly, and the copy at its start is used",)
        if self.copy is Copy.OTHER:
            return ("the copy of its footer at its start is another than the one at its end, which is used",)
        return ()


def is_fixed(front: Front) -> bool:
    """Tell whether a file ends with the sound footer of a fixed disk, whatever its guest has written to its start."""
    return any(is_sound_fixed(data, place) for data, place in _at_end(front))


def bears_mark(front: Front) -> bool:
    """Tell whether a footer is at the end of a file, or one of a dynamic or differencing image at its start."""
    return bool(_marked_at_end(front)) or _is_sparse_at_start(front.head) or front.head.startswith(POISON)


def find_footer(front: Front) -> PlacedFooter:
    """Return the footer that counts. Raises FormatError, UnsupportedError with the file's name in front."""
    try:
        return _find_footer(front)
    except FormatError as error:
        raise error.at(front.file.name) from error


def read_header(front: Front, placed: PlacedFooter) -> Header:
    """Return the header of a dynamic or differencing image. Raises as `find_footer` does."""
    file, offset = front.file, placed.footer.header_offset
    try:
        if offset % SECTOR or offset + HEADER_LENGTH > placed.end:
            what = f"its header would be at {offset:#x}, expected a multiple of 512 within the file"
            raise FormatError(what, remedy=RESTORE)
        header = Header.parse(file.read_at(offset, HEADER_LENGTH), placed.end)
        if offset < header.bat_offset + header.bat_length and header.bat_offset < offset + HEADER_LENGTH:
            raise FormatError("its header and its block allocation table overlap", remedy=RESTORE)
        for size in (placed.footer.virtual_size, placed.footer.size_below_child):
            header.check_covers(size)
        if is_encrypted(file.read_at(header.batmap_offset, SECTOR)):
            what = "its blocks are encrypted, says the batmap that XenServer wrote"
            raise UnsupportedError(what, remedy="export it with the XenServer or XCP-ng that has its key")
    except FormatError as error:
        raise error.at(file.name) from error
    return header


def locator_names(file: HostFile, locators: tuple[Locator, ...]) -> tuple[LocatorName, ...]:
    """Return what the locators say, in their order, those left out that cannot be read. Raises StorageError."""
    found = list[LocatorName]()
    for each in locators:
        if each.is_within(file.size):
            name = decoded(each.code, file.read_at(each.offset, each.length))
            if name is not None:
                found.append((each.code, name))
    return tuple(found)


def _at_end(front: Front) -> list[tuple[bytes, int]]:
    """Return what may be the footer at the end of the file, and where it is: of 512 bytes, or of 511."""
    size, foot = front.file.size, front.foot
    found = [(foot, size - FOOTER_LENGTH)] if size >= FOOTER_LENGTH else []
    if size % SECTOR == FOOTER_LENGTH - 1:  # old versions of Virtual PC left out the last byte
        found.append((foot[-(FOOTER_LENGTH - 1) :] + b"\0", size - FOOTER_LENGTH + 1))
    return found


def _marked_at_end(front: Front) -> list[tuple[bytes, int]]:
    return [(data, place) for data, place in _at_end(front) if data.startswith((COOKIE, POISON))]


def _is_sparse_at_start(head: bytes) -> bool:
    return head.startswith(COOKIE) and int.from_bytes(head[_TYPE_AT : _TYPE_AT + 4], "big") in _SPARSE


def _find_footer(front: Front) -> PlacedFooter:
    at_start = front.head[:FOOTER_LENGTH]
    _check_no_part(front.file)
    for data, place in _marked_at_end(front):
        _check_no_poison(data)
        footer = Footer.parse(data)
        if footer.disk_type is DiskType.FIXED:
            return PlacedFooter(_fitting(footer, place), place, Copy.NONE_NEEDED)
        _check_no_poison(at_start)
        return PlacedFooter(footer, place, Copy.SAME if at_start == data else Copy.OTHER)
    _check_no_poison(at_start)
    if not _is_sparse_at_start(at_start) or len(at_start) < FOOTER_LENGTH:
        raise FormatError("it has no VHD footer", remedy=RESTORE)
    return PlacedFooter(Footer.parse(at_start), front.file.size, Copy.ALONE)


def _check_no_poison(data: bytes) -> None:
    if data.startswith(POISON):
        what = "its footer begins with 'v_poison': work of XenServer's on it was interrupted"
        raise UnsupportedError(what, remedy="let XenServer or XCP-ng finish or revert that, or restore it from a copy")


def _check_no_part(file: HostFile) -> None:
    """Refuse the further files of a VHD that is split over several, by their names: .v01, .v02, ..."""
    suffix = file.path.rpartition(".")[2]
    if len(suffix) == 3 and suffix[0] in "vV" and suffix[1:].isascii() and suffix[1:].isdigit():
        raise UnsupportedError("it is a part of a VHD that is split over several files", remedy=_JOIN)


def _fitting(footer: Footer, place: int) -> Footer:
    """Return the footer of a fixed image whose disk lies whole in front of it."""
    size = max(footer.virtual_size, footer.size_below_child)
    if size > place:
        what = f"its disk has {size} bytes, but only {place} are before its footer: it was cut, or is the last"
        raise FormatError(f"{what} part of a VHD that is split over several files", remedy=f"{RESTORE}, or {_JOIN}")
    return footer
