"""What a file that was an image is taken for when it cannot be read any more: that image, which cannot be served.

Its format, its links, and who may use it are as they were, for names in the mount follow from them: without the links
its deltas would vanish from the listings, and a mirror of the mount would delete the last good copies of them. A qcow2
that is called as raw images are, and has lost its first bytes, is no raw image either.
"""

from collections.abc import Sequence
from dataclasses import replace

from vdifs.catalog.entry import Entry
from vdifs.catalog.walk import Found
from vdifs.errors import FormatError, VdifsError
from vdifs.formats.registry import FORMATS

__all__ = ["still_known"]


def still_known(
    before: Sequence[Entry], found: Found, now: tuple[Entry, ...], unread: VdifsError | None, name: str
) -> tuple[Entry, ...]:
    """Return the entries of a file: `now`, unless it was an image `before` and its header tells less than then.

    unread: why it cannot be read, if that is known. name: of the file, for messages.
    """
    if not before or (now and _tells_as_much(before[0], now[0])):
        return now
    live = bool(now) and now[0].live
    if now and now[0].problem is not None:
        problem = now[0].problem
    else:
        what = "it was an image, and is none any more"
        remedy = "restore it from a copy, or give what is there now another name"
        problem = unread or FormatError(what, where=name, remedy=remedy)
    return (replace(before[0], fingerprint=found.fingerprint, data=(), live=live, problem=problem),)


def _tells_as_much(before: Entry, now: Entry) -> bool:
    """Tell whether a file is an image that can be read, or whose header alone can be, as a program is writing it.

    A raw image in the place of a qcow2 was put there if it is another file that holds something.
    """
    if FORMATS[now.format].unmarked and not FORMATS[before.format].unmarked:
        return now.fingerprint.size > 0 and now.fingerprint[:2] != before.fingerprint[:2]
    return now.problem is None or (now.live and now.virtual_size is not None)
