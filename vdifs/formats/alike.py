"""Where two layers over the same ground may hold different things: where they share tables they do not."""

import numpy as np
from numpy.typing import NDArray

from vdifs.formats.layer import Layer
from vdifs.formats.qcow2.layer import Qcow2Layer

__all__ = ["unlike_ranges"]


def unlike_ranges(one: Layer, other: Layer) -> NDArray[np.int64]:
    """Return ranges outside of which both hold the same, or nothing: int64, shape (n, 2), in any order.

    Two states of one qcow2 share the L2 tables that were not written to since: those are the same, as are the files.
    """
    if isinstance(one, Qcow2Layer) and isinstance(other, Qcow2Layer) and one.is_state_of_same_file(other):
        return one.tables_unlike(other)
    return np.concatenate([one.populated(), other.populated()])
