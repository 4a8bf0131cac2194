"""The formats that are read, by the names that QEMU gives them, and in which of them a file is.

What a guest writes must not choose how its disk is read: it has the start of a fixed VHD and of a raw disk, and the end
of any other image. So the end is asked first, the names of files settle what both claim, and what is called raw is raw.
See docs/formats.md, Detection.
"""

from functools import lru_cache

from vdifs.errors import FormatError
from vdifs.formats.image_format import Front, HasParts, ImageFormat, MarkedAtEnd
from vdifs.formats.qcow2.format import QCOW2
from vdifs.formats.raw import RAW
from vdifs.formats.vdi.format import VDI
from vdifs.formats.vhd.format import VHD
from vdifs.formats.vhdx.format import VHDX
from vdifs.formats.vmdk.format import VMDK, is_called_part

__all__ = [
    "FORMATS",
    "USUAL",
    "by_suffix",
    "called",
    "is_called_as_read",
    "is_called_part",
    "is_part",
    "marked_names",
    "missing_mark",
    "names",
    "no_format",
    "no_image",
    "probed",
    "says",
    "titles",
]

FORMATS: dict[str, ImageFormat] = {each.name: each for each in (QCOW2, VHD, VHDX, VMDK, VDI, RAW)}
"""Each by its name, in the order in which a file is asked for their marks."""


USUAL = QCOW2.name
"""What an image is taken for of which only a name is known that says nothing."""


def no_image(where: str) -> FormatError:
    """Return the error for a file that bears no mark of any, and is not to be read as one without a mark."""
    if is_called_part(where):
        what = "it is called as a part of an image, and is none of its own"
        return FormatError(what, where, remedy="name the image, the small text file beside it")
    kinds = marked_names()
    what = f"not a {kinds} image: {missing_mark(where) or 'it bears none of their marks'}"
    others = _joined([each.title for each in FORMATS.values() if each.unmarked], "or")
    return FormatError(what, where, remedy=f"name a {kinds} image, or a {others} one called {_called_raw()}")


def missing_mark(name: str) -> str | None:
    """Return what a file lacks that its name says it has, None if the name tells no format that has a mark."""
    claimed = _named_for(name)
    return None if claimed is None or claimed.unmarked else claimed.no_mark


def no_format() -> str:
    """Return what is said of a file of which neither its bytes nor its name tell a format that is read."""
    return f"no {marked_names()}, nor called {_called_raw()} as raw images are"


def _called_raw() -> str:
    return _joined([f"*{suffix}" for each in FORMATS.values() if each.unmarked for suffix in each.suffixes], "or")


def probed(front: Front, stated: str | None = None) -> ImageFormat | None:
    """Return the format whose mark a file bears, None if it bears none, or is a part of an image by its name.

    stated: the format that an overlay states for it, which counts for more than a name that says that it is raw.
    Raises FormatError for a file that two formats claim and whose name does not tell which, StorageError.
    """
    name = front.file.path
    if is_called_part(name):
        return None
    says = _named_for(name)
    if _is_called_raw(name):
        says = FORMATS.get(stated or "")
        if says is None or says.unmarked:
            return FORMATS[USUAL] if FORMATS[USUAL].probe(front) else None
    found = next((each for each in FORMATS.values() if each.probe(front)), None)
    if found is not None and found is says and not _has_mark_at_end(type(found)):
        return found
    by_end = next((each for each in FORMATS.values() if _ends(each, front)), None)
    if by_end is None:
        return found
    by_start = next((each for each in FORMATS.values() if each is not by_end and _begins(each, front)), None)
    if by_start is None:
        return by_end
    if says in (by_start, by_end):
        return says
    what = f"it begins as a {by_start.title} and ends as a {by_end.title} image: a guest may have written either"
    suffixes = " or ".join(f"*{each.suffixes[0]}" for each in (by_start, by_end))
    raise FormatError(what, where=front.file.name, remedy=f"call it {suffixes}, whichever it is")


def _begins(image_format: ImageFormat, front: Front) -> bool:
    return not _has_mark_at_end(type(image_format)) and image_format.probe(front)


def _ends(image_format: ImageFormat, front: Front) -> bool:
    return isinstance(image_format, MarkedAtEnd) and image_format.is_at_end(front)


@lru_cache
def _has_mark_at_end(kind: type[ImageFormat]) -> bool:
    """Tell what isinstance() does of an object of that type, which takes long and is asked for each file."""
    return issubclass(kind, MarkedAtEnd)


def is_part(front: Front) -> bool:
    """Tell whether a file that is no image is a part of one, by its name or by what it holds. Raises StorageError."""
    name = front.file.path
    formats = (each for each in FORMATS.values() if isinstance(each, HasParts))
    return is_called_part(name) or any(each.is_part(front, name) for each in formats)


def says(name: str) -> str:
    """Return what the name of a file has to do with the format that `probed` finds: equal for names that are alike."""
    if is_called_part(name):
        return "part"
    if _is_called_raw(name):
        return "raw"
    claimed = _named_for(name)
    return "" if claimed is None else claimed.name


def _is_called_raw(name: str) -> bool:
    return any(each.unmarked and name.lower().endswith(each.suffixes) for each in FORMATS.values())


def _named_for(name: str) -> ImageFormat | None:
    return next((each for each in FORMATS.values() if name.lower().endswith(each.suffixes)), None)


def by_suffix(name: str) -> ImageFormat | None:
    """Return the format that a file without any mark has if its name says so, None otherwise."""
    return next((each for each in FORMATS.values() if each.unmarked and name.endswith(each.suffixes)), None)


def called(name: str) -> ImageFormat:
    """Return the format that a file is taken for of which only the name is known."""
    claimed = _named_for(name)
    return FORMATS[USUAL] if claimed is None or claimed.unmarked else claimed


def is_called_as_read(name: str) -> bool:
    """Tell whether a file is called as images in these formats are: letters of any case, but for those without mark."""
    claimed = _named_for(name)
    return claimed is not None and (not claimed.unmarked or by_suffix(name) is not None)


def names() -> str:
    """Return the names of all, for a message."""
    return _joined(list(FORMATS), "and")


def titles() -> str:
    """Return what all are called by their users, for a message."""
    return _joined([each.title for each in FORMATS.values()], "or")


def marked_names() -> str:
    """Return what those that bear a mark are called, for a message."""
    return _joined([each.title for each in FORMATS.values() if not each.unmarked], "or")


def _joined(words: list[str], conjunction: str) -> str:
    *others, last = words
    return f"{', '.join(others)} {conjunction} {last}" if others else last
