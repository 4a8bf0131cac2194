"""What is raised where an inode number stands for a state that has passed."""

import errno

from vdifs.errors import VdifsError

__all__ = ["MovedError"]


class MovedError(VdifsError):
    """An inode number stands for a state of the sources that has passed. The kernel looks the name up again."""

    errno = errno.ESTALE
