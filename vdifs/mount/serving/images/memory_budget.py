"""How much memory the tables of open images may take, of all readers together, and whose image is refused."""

import errno
from collections.abc import Collection, Hashable, Iterable, Mapping

from vdifs.errors import VdifsError
from vdifs.mount.serving.images.open_image import OpenImage

__all__ = ["check_budget", "exceeds_budget"]

MOST_BYTES = 24 << 20
_SMALL = 64 << 10
"""Images with tables no larger than that may always be opened."""


def exceeds_budget(images: Collection[OpenImage], idle: Iterable[OpenImage]) -> bool:
    """Return whether the tables of `images` take too much memory, and closing some of the `idle` ones would help."""
    if not any(opened.table_bytes > _SMALL for opened in idle):
        return False
    return _bytes({key: size for opened in images for key, size in opened.image.tables.items()}) > MOST_BYTES


def check_budget(opened: OpenImage, in_use: Iterable[OpenImage]) -> None:
    """Raise VdifsError, ENOMEM, if there is no room for one image more among those in use.

    Whose images take more than an equal share has to do without; one image alone may take all, however large it is.
    """
    if (own := opened.table_bytes) <= _SMALL:
        return
    owners: dict[int, dict[Hashable, int]] = {}
    for each in (*in_use, opened):
        owners.setdefault(each.owner, {}).update(each.image.tables)
    total = sum(_bytes(tables) for tables in owners.values())
    if MOST_BYTES < total > own and _bytes(owners[opened.owner]) > MOST_BYTES // len(owners):
        raise VdifsError(
            f"the tables of its owner's open images take {_bytes(owners[opened.owner]) >> 20} MiB, and the mount has "
            f"{MOST_BYTES >> 20} MiB for all",
            remedy="close some of them, or copy them one after the other",
            errno=errno.ENOMEM,
        )


def _bytes(tables: Mapping[Hashable, int]) -> int:
    return sum(tables.values())
