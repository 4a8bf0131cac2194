"""How the clusters of an exported qcow2 are to be packed: a value, checked when it is made. Loads no compressor."""

from dataclasses import dataclass
from typing import get_args

from vdifs.errors import UsageError
from vdifs.formats.layer import Codec
from vdifs.formats.qcow2.compressed import COMPRESSION_TYPES
from vdifs.formats.qcow2.header import CompressionType
from vdifs.output.arguments import choice, number

__all__ = ["LEVELS", "Compression", "Levels"]


@dataclass(frozen=True, slots=True)
class Levels:
    """The levels of one codec, from the fastest to the smallest file, and which it is unless another is asked for."""

    least: int
    most: int
    default: int


LEVELS: dict[Codec, Levels] = {"deflate": Levels(1, 9, 5), "zstd": Levels(1, 19, 2)}


@dataclass(frozen=True, slots=True)
class Compression:
    """A codec and its level; None for the codec's default. Raises UsageError for a level that it does not have."""

    codec: Codec
    level: int | None = None

    def __post_init__(self) -> None:
        choice("codec", self.codec, get_args(Codec))
        levels = LEVELS[self.codec]
        level = levels.default if self.level is None else number("level", self.level)
        if not levels.least <= level <= levels.most:
            what = f"{self.codec} has no level {level}"
            raise UsageError(what, remedy=f"give one from {levels.least} to {levels.most}")
        object.__setattr__(self, "level", level)

    @property
    def type(self) -> CompressionType:
        """What a header calls the codec."""
        return COMPRESSION_TYPES[self.codec]
