"""How much memory the tables of open images may take, of all readers together, and who has to do without."""

import errno
from collections.abc import Collection, Hashable, Iterable, Mapping

from vdifs.errors import VdifsError
from vdifs.mount.serving.open_image import Slot

__all__ = ["check_room", "is_crowded"]

MOST_BYTES = 24 << 20
_SMALL = 64 << 10
"""Images with tables no larger than that may always be opened."""


def is_crowded(slots: Collection[Slot], idle: Iterable[Slot]) -> bool:
    """Tell whether the tables of `slots` take too much memory, and to close some of the `idle` ones would help."""
    if not any(_bytes(slot.image.tables) > _SMALL for slot in idle):
        return False
    return _bytes({key: size for slot in slots for key, size in slot.image.tables.items()}) > MOST_BYTES


def check_room(slot: Slot, in_use: Iterable[Slot]) -> None:
    """Raise VdifsError, ENOMEM, if there is no room for one image more among those in use.

    Whose images take more than an equal share has to do without; one image alone may take all, however large it is.
    """
    own = _bytes(slot.image.tables)
    if own <= _SMALL:
        return
    owners: dict[int, dict[Hashable, int]] = {}
    for each in (*in_use, slot):
        owners.setdefault(each.owner, {}).update(each.image.tables)
    total = sum(_bytes(tables) for tables in owners.values())
    if MOST_BYTES < total > own and _bytes(owners[slot.owner]) > MOST_BYTES // len(owners):
        raise VdifsError(
            f"the tables of its owner's open images take {_bytes(owners[slot.owner]) >> 20} MiB, and the mount has "
            f"{MOST_BYTES >> 20} MiB for all: close some of them, or copy them one after the other",
            errno=errno.ENOMEM,
        )


def _bytes(tables: Mapping[Hashable, int]) -> int:
    return sum(tables.values())
