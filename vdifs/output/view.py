"""The kinds of output, and what there is to choose, as the library and the command line call them. Loads no numpy."""

from typing import Final, Literal

__all__ = ["WITH_HOLES", "PackedClusters", "View"]

View = Literal["qcow2", "raw", "vhd", "vhd-fixed", "vmdk"]

WITH_HOLES: Final = frozenset[View]({"raw", "vhd-fixed"})
"""Those that keep the guest contents in place, so that what no image of the chain holds is a hole of the file."""

PackedClusters = Literal["keep", "expand"]
"""What becomes of clusters that are packed in a source: they stay so where they can, or are plain ones."""
