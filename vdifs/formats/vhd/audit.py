"""What may be wrong with a VHD though its disk can be read: each finding a Problem. No guest data are read.

What keeps the disk from being read, such as blocks that overlap, is found when the layer is opened.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from vdifs.formats.layer import Layer
from vdifs.formats.problems import FileAudit, Problem, Severity, Tell, of_file
from vdifs.formats.vhd.footer import DiskType
from vdifs.formats.vhd.header import BATMAP_COOKIE, Header
from vdifs.formats.vhd.layer import VhdLayer
from vdifs.formats.vhd.parent_names import decoded
from vdifs.formats.vhd.reading import PlacedFooter
from vdifs.ranges import Ranges
from vdifs.storage.host_file import HostFile
from vdifs.units import SECTOR

__all__ = ["VhdAudit"]

_REWRITE = "have the program that writes it open and close it, or restore it from a copy"


@dataclass(frozen=True, slots=True)
class VhdAudit(FileAudit):
    """What was found of a file. lesser: places that only other programs need, in bytes: names of the parent, batmap.

    None for a fixed image.
    """

    problems: tuple[Problem, ...]
    lesser: Ranges | None = None

    @classmethod
    def of(
        cls, file: HostFile, placed: PlacedFooter, header: Header | None, path: str, *, has_overlay: bool
    ) -> "VhdAudit":
        """Look at the footers, the names of the parent, and the batmap of the file PATH."""
        tell = of_file(file.name, path)
        found = list(_of_footer(placed, tell, has_overlay=has_overlay))
        if header is None:
            return cls(tuple(found))
        if placed.footer.disk_type is DiskType.DIFFERENCING:
            found += _of_locators(file, header, tell)
        return cls(tuple(found), _lesser_places(file, header))

    def of_state(self, layer: Layer, path: str) -> list[Problem]:
        """Return what is wrong with where the blocks lie."""
        if self.lesser is None or not isinstance(layer, VhdLayer):
            return []
        space = layer.header.bitmap_space + layer.header.block_size
        for index, place in layer.blocks.parts():
            hit = ~self.lesser.is_apart_from(place, place + space)
            if hit.any():
                at = int(hit.argmax())
                where = f"block {int(index[at])} at {int(place[at]):#x}"
                what, remedy = f"{where} lies on the names of its parent or its batmap", "restore it from a copy"
                return [of_file(layer.file.name, path)(Severity.WARNING, "overlap", what, remedy)]
        return []


def _of_footer(placed: PlacedFooter, tell: Tell, *, has_overlay: bool) -> Iterator[Problem]:
    for note in placed.notes:
        yield tell(Severity.WARNING, "footer", note, _REWRITE)
    if placed.footer.hidden_flag and not has_overlay:
        yield tell(Severity.NOTE, "hidden", "it is marked hidden, and no image of this chain is above it")


def _of_locators(file: HostFile, header: Header, tell: Tell) -> Iterator[Problem]:
    for number, each in enumerate(header.locators, 1):
        if each.code in {bytes(4), b"Mac "} or not each.length:
            continue
        if not each.is_within(file.size):
            what = f"its parent locator {number} is longer than 4 KiB or beyond the end of the file: ignored"
            yield tell(Severity.NOTE, "locator", what)
        elif decoded(each.code, file.read_at(each.offset, each.length)) is None:
            what = f"its parent locator {number} has an unknown code or is no text: ignored"
            yield tell(Severity.NOTE, "locator", what)


def _lesser_places(file: HostFile, header: Header) -> Ranges:
    places = [(each.offset, each.offset + each.length) for each in header.locators if each.is_within(file.size)]
    batmap = file.read_at(header.batmap_offset, SECTOR)
    if batmap.startswith(BATMAP_COOKIE):
        places.append((header.batmap_offset, header.batmap_offset + SECTOR))
        offset, sectors = int.from_bytes(batmap[8:16], "big"), int.from_bytes(batmap[16:20], "big")
        if offset + sectors * SECTOR <= file.size:
            places.append((offset, offset + sectors * SECTOR))
    return Ranges.union(np.array(places, np.int64).reshape(-1, 2))
