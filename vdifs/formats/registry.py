"""The formats that are read, by the names that QEMU gives them."""

from vdifs.errors import FormatError
from vdifs.formats.image_format import Front, ImageFormat
from vdifs.formats.qcow2.format import QCOW2
from vdifs.formats.raw import RAW

__all__ = ["FORMATS", "USUAL", "by_suffix", "names", "no_image", "probed", "suffixes"]

FORMATS: dict[str, ImageFormat] = {each.name: each for each in (QCOW2, RAW)}
"""Each by its name, in the order in which a file is asked for their marks."""


USUAL = QCOW2.name
"""What an image is taken for of which only a name is known."""


def no_image(where: str) -> FormatError:
    """Return the error for a file that bears no mark of any, and is not to be read as one without a mark."""
    marked = [each for each in FORMATS.values() if not each.unmarked]
    unmarked = [each for each in FORMATS.values() if each.unmarked]
    kinds = _joined([each.name for each in marked], "or")
    what = f"not a {kinds} image: {', '.join(each.no_mark for each in marked)}"
    called = _joined([f"*{suffix}" for each in unmarked for suffix in each.suffixes], "or")
    others = _joined([each.name for each in unmarked], "or")
    return FormatError(what, where, remedy=f"name a {kinds} image, or a {others} one called {called}")


def probed(front: Front) -> ImageFormat | None:
    """Return the format whose mark a file bears, None if it bears none. Raises StorageError."""
    return next((each for each in FORMATS.values() if each.probe(front)), None)


def by_suffix(name: str) -> ImageFormat | None:
    """Return the format that a file without any mark has if its name says so, None otherwise."""
    return next((each for each in FORMATS.values() if each.unmarked and name.endswith(each.suffixes)), None)


def suffixes() -> tuple[str, ...]:
    """Return how files in these formats are usually called."""
    return tuple(suffix for each in FORMATS.values() for suffix in each.suffixes)


def names() -> str:
    """Return the names of all, for a message."""
    return _joined(list(FORMATS), "and")


def _joined(words: list[str], conjunction: str) -> str:
    *others, last = words
    return f"{', '.join(others)} {conjunction} {last}" if others else last
