"""The kinds of output, as the library and `--format` call them. Loads no numpy."""

from typing import Literal

__all__ = ["View"]

View = Literal["qcow2", "raw"]
