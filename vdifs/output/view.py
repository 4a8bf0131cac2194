"""The kinds of output, and what there is to choose, as the library and the command line call them. Loads no numpy."""

from typing import Literal

__all__ = ["PackedClusters", "View"]

View = Literal["qcow2", "raw"]

PackedClusters = Literal["keep", "expand"]
"""What becomes of clusters that are packed in a source: they stay so where they can, or are plain ones."""
