"""From the lines of a descriptor and the files that were opened for them to the parts of a disk."""

from collections.abc import Sequence

from vdifs.errors import FormatError, UnsupportedError
from vdifs.formats.vmdk.cowd import CowdTables
from vdifs.formats.vmdk.grain_tables import MAX_DIRECTORY, GrainTables, directory_entries
from vdifs.formats.vmdk.hosted import HostedTables
from vdifs.formats.vmdk.hosted_header import FOOTER_SECTORS, HostedHeader, parse_footer
from vdifs.formats.vmdk.layer import Part, Placed
from vdifs.formats.vmdk.lines import ExtentLine, ExtentType
from vdifs.formats.vmdk.plain_extents import FlatExtent, ZeroExtent
from vdifs.formats.vmdk.sesparse import SeSparseTables, check_volatile_header, volatile_header_at
from vdifs.formats.vmdk.sparse_extent import SparseExtent
from vdifs.formats.vmdk.sparse_headers import COWD_MAGIC, HOSTED_MAGIC, SESPARSE_MAGIC
from vdifs.pace import give_way
from vdifs.storage.host_file import HostFile
from vdifs.units import SECTOR

__all__ = ["hosted_tables", "placed_parts", "tables_of"]


def placed_parts(lines: Sequence[ExtentLine], files: Sequence[int], data: Sequence[HostFile]) -> list[Placed]:
    """Return the part of each line where it lies on the disk. files: for each line the index of its file in `data`.

    Raises FormatError where a file is not what its line says, UnsupportedError, StorageError.
    """
    budget = MAX_DIRECTORY
    placed: list[Placed] = []
    start = 0
    for line, index in zip(lines, files, strict=True):
        tables = _sparse_tables(line, data[index]) if line.type is ExtentType.SPARSE else None
        if tables is not None:
            budget -= directory_entries(tables)
            if budget < 0:
                raise _too_many(data[index])
        give_way()
        part = _part(line, tables, data, index)
        if placed and isinstance(part, ZeroExtent) and isinstance(placed[-1].part, ZeroExtent):
            placed[-1] = Placed(placed[-1].start, ZeroExtent(placed[-1].part.size + part.size))  # both are nowhere
        else:
            placed.append(Placed(start, part, index))
        start += line.sectors * SECTOR
    return placed


def hosted_tables(file: HostFile, header: HostedHeader) -> GrainTables:
    """Return where the tables of a hosted sparse file are, which its end may say. Raises FormatError."""
    try:
        if header.has_footer:
            length = FOOTER_SECTORS * SECTOR
            header = parse_footer(file.read_at(max(0, file.size - length), min(length, file.size)), header)
        tables = HostedTables.of(header)
    except FormatError as error:
        raise error.at(file.name) from error
    if directory_entries(tables) > MAX_DIRECTORY:
        raise _too_many(file)
    return tables


def tables_of(file: HostFile) -> GrainTables:
    """Return how a sparse extent has its tables: its magic decides. Raises FormatError, UnsupportedError."""
    sector = file.read_at(0, min(SECTOR, file.size))
    if sector.startswith(HOSTED_MAGIC):
        try:
            header = HostedHeader.parse(sector)
        except FormatError as error:
            raise error.at(file.name) from error
        return hosted_tables(file, header)
    try:
        if sector.startswith(COWD_MAGIC):
            return CowdTables.parse(sector)
        if sector.startswith(SESPARSE_MAGIC):
            tables = SeSparseTables.parse(sector)
            at = volatile_header_at(sector)
            if not at or at + SECTOR > file.size:
                raise FormatError(f"its volatile header at {at:#x} lies on its header, or beyond the end of the file")
            check_volatile_header(file.read_at(at, SECTOR))
            return tables
    except FormatError as error:
        raise error.at(file.name) from error
    what = "it is named as a sparse extent, and begins with none of 'KDMV', 'COWD' and the magic of seSparse"
    raise FormatError(what, where=file.name)


def _sparse_tables(line: ExtentLine, file: HostFile) -> GrainTables:
    tables = tables_of(file)
    if tables.capacity != line.sectors:
        what = f"its header says {tables.capacity} sectors, and the descriptor {line.sectors}"
        raise FormatError(what, where=file.name)
    return tables


def _part(line: ExtentLine, tables: GrainTables | None, data: Sequence[HostFile], index: int) -> Part:
    if tables is not None:
        return SparseExtent(data[index], tables)
    size = line.sectors * SECTOR
    return ZeroExtent(size) if line.type is ExtentType.ZERO else FlatExtent(data[index], line.offset * SECTOR, size)


def _too_many(file: HostFile) -> UnsupportedError:
    what = f"the grain directories of the image have more than {MAX_DIRECTORY} entries"
    return UnsupportedError(what, where=file.name)
