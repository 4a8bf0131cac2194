"""How users name images: a file, or a file, `@` and an internal snapshot of it."""

import os
from typing import TYPE_CHECKING, NamedTuple

from vdifs.chain.policy import Live, Policy
from vdifs.errors import StorageError

if TYPE_CHECKING:
    from vdifs.chain.members import Member
    from vdifs.chain.open_chain import Chain  # which `vdifs info` does not wait for

__all__ = ["ImageName", "base_index", "open_chain"]


class ImageName(NamedTuple):
    """A file, and the label, name or ID of one of its snapshots."""

    path: str
    snapshot: str | None = None

    @classmethod
    def parse(cls, text: str) -> "ImageName":
        """Take a name apart: an existing file of the whole name wins, then the first `@` that leaves one."""
        at = -1 if os.path.lexists(text) else text.find("@")
        while at >= 0:
            if os.path.isfile(text[:at]):
                return cls(text[:at], text[at + 1 :])
            at = text.find("@", at + 1)
        return cls(text)


def open_chain(image: ImageName, trusted: tuple[str, ...], live: Live = "refuse") -> "Chain":
    """Open the chain of an image; its own folder and `trusted` are where its backing files may lie."""
    from vdifs.chain.open_chain import Chain

    policy, name = Policy.for_image(image.path, trusted, live=live)
    with policy:
        return Chain.open(policy, name, image.snapshot)


def base_index(chain: "Chain", base: ImageName) -> int | None:
    """Return the index in `chain` of the image that the user calls `base`, however it is spelled; None for another one.

    Another state of a file of the chain is another one too. Raises StorageError if there is no such file,
    ChainError if it has no such snapshot.
    """
    try:
        st = os.stat(base.path)
    except OSError as error:
        raise StorageError.from_os(base.path, error, "name an ancestor of the image, or a relative") from error
    for index, member in enumerate(chain.members):
        if (st.st_dev, st.st_ino) == member.file.fingerprint[:2]:
            return index if _label(member, base.snapshot) == member.snapshot else None
    return None


def _label(member: "Member", snapshot: str | None) -> str | None:
    """Return the label of a snapshot of the member's file, which the user calls by that, its name or its ID."""
    return None if snapshot is None else member.metadata.label_of(member.file, snapshot)
