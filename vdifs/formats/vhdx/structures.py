"""All that a VHDX says of itself but for its BAT, read in the order in which it may be believed.

    headers -> the log, replayed -> region tables -> metadata

Each error names the file.
"""

from dataclasses import dataclass

from vdifs.errors import FormatError
from vdifs.formats.image_format import Front
from vdifs.formats.vhdx.geometry import Geometry
from vdifs.formats.vhdx.header import HEADER_PLACES, HEADER_SIZE, Headers, creator_of, current_header
from vdifs.formats.vhdx.items import TABLE_SIZE as ITEMS_SIZE
from vdifs.formats.vhdx.items import Entry, Parameters, entries_of, parameters_of
from vdifs.formats.vhdx.regions import TABLE_PLACES, TABLE_SIZE, Regions, read_regions
from vdifs.formats.vhdx.replay import ReplayedFile, replayed
from vdifs.storage.host_file import HostFile

__all__ = ["Structures", "read_structures", "reopened"]


@dataclass(frozen=True, slots=True)
class Structures:
    """creator: the program that made it. applied: how many entries of its log were replayed. items: its metadata."""

    creator: str
    headers: Headers
    applied: int
    regions: Regions
    items: tuple[Entry, ...]
    parameters: Parameters

    @property
    def geometry(self) -> Geometry:
        """Its quantities."""
        p = self.parameters
        return Geometry(p.block_size, p.logical_sector_size, p.disk_size, p.locator is not None)


def read_structures(front: Front) -> Structures:
    """Return what the file says. Raises FormatError where a rule is broken, UnsupportedError, StorageError."""
    file = front.file
    try:
        headers = current_header(*(file.read_at(place, HEADER_SIZE) for place in HEADER_PLACES))
        replay = replayed(file, headers.current)
        tables = [replay.read_at(place, TABLE_SIZE) for place in TABLE_PLACES]
        regions = read_regions(tables[0], tables[1], headers.current, replay.size)
        start, end, _ = regions.metadata
        items = entries_of(replay.read_at(start, ITEMS_SIZE), end - start)
        parameters = parameters_of(items, lambda item: replay.read_at(start + item.offset, item.length))
        applied = 0 if replay.replay is None else replay.replay.entries
        structures = Structures(creator_of(front.head), headers, applied, regions, items, parameters)
        _check_bat(structures)
    except FormatError as error:
        raise error.at(file.name) from error
    return structures


def reopened(file: HostFile, structures: Structures) -> ReplayedFile:
    """Return the file with its log replayed, once more: what that takes is not kept between. Raises the same."""
    try:
        return replayed(file, structures.headers.current)
    except FormatError as error:
        raise error.at(file.name) from error


def _check_bat(structures: Structures) -> None:
    start, end, name = structures.regions.bat
    entries = structures.geometry.entries
    if entries * 8 > end - start:
        what = f"its {name} has {end - start} bytes, and its disk needs {entries} entries of 8"
        raise FormatError(what, remedy="restore it from a copy")
