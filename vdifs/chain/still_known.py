"""What a file that was an image is taken for when it cannot be read any more: that image, which cannot be served.

Its format, its links, and who may use it are as they were, for names in the mount follow from them: without the links
its deltas would vanish from the listings, and a mirror of the mount would delete the last good copies of them.
"""

from collections.abc import Sequence
from dataclasses import replace

from vdifs.chain.entry import Entry
from vdifs.chain.walk import Found
from vdifs.errors import FormatError, VdifsError, printable

__all__ = ["still_known"]


def still_known(
    before: Sequence[Entry], found: Found, now: tuple[Entry, ...], unread: VdifsError | None, name: str
) -> tuple[Entry, ...]:
    """Return the entries of a file: `now`, unless it was an image `before` and its header tells less than then.

    unread: why it cannot be read, if that is known. name: of the file, for messages.
    """
    if not before or (now and (now[0].problem is None or now[0].live)):
        return now
    if now and now[0].problem is not None:
        problem = now[0].problem
    else:
        what = "it was an image, and is none any more: restore it from a copy, or give what is there now another name"
        problem = unread or FormatError(f"{printable(name)}: {what}")
    return (replace(before[0], fingerprint=found.fingerprint, data=None, live=False, problem=problem),)
