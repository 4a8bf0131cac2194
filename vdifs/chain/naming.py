"""How users name images: a file, or a file, `@` and an internal snapshot of it."""

import errno
import os
from typing import TYPE_CHECKING, NamedTuple

from vdifs.chain.policy import Live, Policy
from vdifs.errors import ChainError, StorageError, UsageError

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


def base_index(chain: "Chain", base: ImageName) -> int:
    """Return the index in `chain` of the image that the user calls `base`, however it is spelled.

    Raises StorageError if there is no such file, ChainError if it has no such snapshot or is not in the chain, which
    another state of a backing file is not either, UsageError for another state of the image's own file.
    """
    try:
        st = os.stat(base.path)
    except OSError as error:
        raise StorageError.from_os(base.path, error, "name an ancestor of the image") from error
    for index, member in enumerate(chain.members):
        if (st.st_dev, st.st_ino) == member.file.fingerprint[:2]:
            if _label(member, base.snapshot) == member.snapshot:
                return index
            wrong = ChainError(
                "the snapshots and the active state of a file are not each other's ancestors",
                where=base.path,
                remedy="give one of the backing files as base",
                errno=errno.EINVAL,
            )
            raise wrong if index else wrong.told_as(UsageError)  # of its own file it is wrong whatever the chain is
    return chain.index_of(base.path)


def _label(member: "Member", snapshot: str | None) -> str | None:
    """Return the label of a snapshot of the member's file, which the user calls by that, its name or its ID."""
    return None if snapshot is None else member.metadata.label_of(member.file, snapshot)
