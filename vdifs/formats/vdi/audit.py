"""What may be wrong with a VDI though its disk can be read: each finding a Problem. No guest data are read.

What keeps the disk from being read, such as two blocks at the same place, is found when the layer is opened.
"""

from vdifs.formats.layer import Layer
from vdifs.formats.problems import FileAudit, Problem, Severity, of_file
from vdifs.formats.vdi.layer import VdiLayer

__all__ = ["VdiAudit"]


class VdiAudit(FileAudit):
    """What is found of the map: that the header counts other blocks than it has, which no reader needs."""

    def of_state(self, layer: Layer, path: str) -> list[Problem]:
        """See FileAudit."""
        if not isinstance(layer, VdiLayer) or layer.header.allocated_blocks == layer.block_map.data_blocks:
            return []
        what = f"its header counts {layer.header.allocated_blocks} blocks in the file, its block map has"
        what = f"{what} {layer.block_map.data_blocks}: ignored"
        return [of_file(layer.file.name, path)(Severity.NOTE, "block-count", what)]
