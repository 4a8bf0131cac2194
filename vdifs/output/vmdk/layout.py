"""Where everything lies in a streamOptimized VMDK, from three numbers: its sectors, its grains, its grain tables.

    sector 0    header, which says that the directory is told of at the end
           1    descriptor, 20 sectors
           .    zeros
         128    grains that hold data, in guest order   129 sectors each: see grain.py
           .    grain tables that lead to any           a marker and 4 sectors each
           .    grain directory                         a marker, and as many sectors as it takes
           .    footer                                  a marker, the header with the offset of the directory
           .    end                                     a sector of zeros

See docs/formats.md, Writing.
"""

from dataclasses import dataclass

from vdifs.errors import UsageError
from vdifs.formats.vmdk.hosted_header import AT_END, FOOTER_SECTORS, NEWLINES, HostedFlag, HostedHeader
from vdifs.formats.vmdk.sparse_headers import HOSTED_MAGIC
from vdifs.output.vmdk.grain import GRAIN_BITS, GRAIN_SIZE, STORED_SIZE
from vdifs.units import SECTOR, ceil_div, round_up
from vdifs.wording import size_with_bytes

__all__ = ["DESCRIPTOR_SECTORS", "ENTRY", "TABLE_BITS", "TABLE_ENTRIES", "TABLE_SIZE", "Layout", "size_if_full"]

DESCRIPTOR_SECTORS = 20
ENTRY = 4
"""Bytes of an entry, of a table and of the directory: a sector of the file."""
TABLE_ENTRIES = 512
TABLE_BITS = GRAIN_BITS + 9
"""Of the bytes of disk that a table maps."""
TABLE_SIZE = SECTOR + TABLE_ENTRIES * ENTRY
"""Bytes of a table with its marker."""
_GRAINS_AT = 128 * SECTOR
_END = 1 << 41
"""Entries have 32 bits, so nothing lies beyond that."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Output offsets of the areas, in bytes; each ends where the next begins, the last at `size`.

    directory, footer: of their markers.
    """

    header: HostedHeader
    grains: int
    tables: int
    directory: int
    footer: int
    size: int

    @classmethod
    def plan(cls, virtual_size: int, grain_count: int, table_count: int) -> "Layout":
        """Lay out a file of a disk of `virtual_size` bytes that stores so many grains and tables.

        There is no VMDK of a disk without a byte, as far as QEMU and libvmdk read it: such a disk is one of a sector.
        Raises UsageError for more data than the format holds.
        """
        layout = cls._laid_out(virtual_size, grain_count, table_count)
        if layout.size >= _END:
            what = f"its disk has too much data for a vmdk, which ends below {size_with_bytes(_END)}"
            what += f", and would have {size_with_bytes(layout.size)}"
            raise UsageError(what, remedy="take it as a qcow2 or raw")
        return layout

    @classmethod
    def _laid_out(cls, virtual_size: int, grain_count: int, table_count: int) -> "Layout":
        virtual_size = max(SECTOR, virtual_size)
        tables = _GRAINS_AT + grain_count * STORED_SIZE
        directory = tables + table_count * TABLE_SIZE
        entries = ceil_div(virtual_size, 1 << TABLE_BITS)
        footer = directory + SECTOR + round_up(entries * ENTRY, SECTOR)
        size = footer + FOOTER_SECTORS * SECTOR
        return cls(_header(virtual_size), _GRAINS_AT, tables, directory, footer, size)

    @property
    def directory_sectors(self) -> int:
        """Sectors of the directory, without its marker."""
        return (self.footer - self.directory) // SECTOR - 1

    @property
    def footer_header(self) -> HostedHeader:
        """The header as it stands at the end: it says where the directory is."""
        return self.header._replace(gd_offset=self.directory // SECTOR + 1)


def size_if_full(virtual_size: int) -> int:
    """Return the length in bytes of a file in which every grain of the disk holds data, if that is too long too."""
    grains, tables = ceil_div(virtual_size, GRAIN_SIZE), ceil_div(virtual_size, 1 << TABLE_BITS)
    return Layout._laid_out(virtual_size, grains, tables).size


def _header(virtual_size: int) -> HostedHeader:
    return HostedHeader(
        magic=HOSTED_MAGIC,
        version=3,
        flags=HostedFlag.NEWLINE_TEST | HostedFlag.PACKED | HostedFlag.MARKERS,
        capacity=ceil_div(virtual_size, SECTOR),
        grain_size=GRAIN_SIZE // SECTOR,
        descriptor_offset=1,
        descriptor_size=DESCRIPTOR_SECTORS,
        num_gtes_per_gt=TABLE_ENTRIES,
        rgd_offset=0,
        gd_offset=AT_END,
        overhead=_GRAINS_AT // SECTOR,
        unclean_shutdown=0,
        newlines=NEWLINES,
        compress_algorithm=1,
    )
