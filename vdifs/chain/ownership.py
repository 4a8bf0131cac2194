"""Whose file an image may name: that of its own owner, or one that every user may read.

Else a user who may write into the source could have root read for him: a hard link to a file of mode 0600 is enough.
Folders above the source root stand above the image as well, and a trusted directory the user named himself: neither
counts.
"""

import os
from collections.abc import Sequence

from vdifs.chain.access import Permission
from vdifs.chain.policy import TRUST_PREFIX, Policy
from vdifs.errors import PolicyError, StorageError, printable

__all__ = ["check_owner", "folders_below_root", "may_name"]

_GROUP_AND_OTHERS = 0o011


def may_name(owner: int, permissions: Sequence[Permission]) -> bool:
    """Tell whether an image of the user `owner` may use the file with `permissions`, as `check_owner` takes them."""
    if owner in (0, permissions[0].uid):
        return True
    return all(each.mode & _GROUP_AND_OTHERS == _GROUP_AND_OTHERS for each in permissions)


def check_owner(namer: str, owner: int, role: str, named: str, permissions: Sequence[Permission]) -> None:
    """Raise PolicyError if the image `namer` of the user `owner` may not use the file `named` as its `role`.

    namer, named: host paths, for the message. permissions: the file's own first, then those of `folders_below_root`.
    """
    if may_name(owner, permissions):
        return
    lender = permissions[0].uid
    raise PolicyError(
        f"it belongs to user {owner}, and its {role} {printable(named)} to user {lender}, who does not let every user "
        "read it",
        where=namer,
        remedy="give both to one owner, or make the latter and its folders readable for all users",
        about=("owner", owner, named),
    )


def folders_below_root(policy: Policy, path: str) -> list[Permission]:
    """Return the permissions of the folders between the source root and a file in it, from the file up.

    Raises StorageError.
    """
    folders = [] if path.startswith(TRUST_PREFIX) else path.split("/")[:-1]
    try:
        hosts = [os.path.join(policy.root, *folders[: depth + 1]) for depth in range(len(folders))]
        return [Permission.of(folder, os.stat(folder, follow_symlinks=False)) for folder in reversed(hosts)]
    except OSError as error:
        raise StorageError.from_os(policy.display(path), error, "restore it, or correct the name") from error
