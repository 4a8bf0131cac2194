"""What a mount is asked to do: every option of `vdifs mount`, checked."""

import os
from dataclasses import dataclass, replace
from typing import Literal, Self

from vdifs.errors import UsageError
from vdifs.mount.view.names import DEFAULT_VIEWS
from vdifs.output.view import PackedClusters

__all__ = ["MountOptions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MountOptions:
    """Options of a mount, docs/specification.md 3.

    source: folder or image. deadline: seconds. readahead: bytes. views: which of `names.VIEWS` are shown, in any order.
    """

    source: str
    mountpoint: str
    foreground: bool = False
    cluster_size: int | None = None
    packed: PackedClusters = "keep"
    allow_other: bool = False
    uid: int | None = None
    gid: int | None = None
    umask: int | None = None
    trusted: tuple[str, ...] = ()
    live: Literal["refuse", "allow"] = "refuse"
    refused: Literal["list", "hide"] = "list"
    views: tuple[str, ...] = DEFAULT_VIEWS
    deadline: float = 30.0
    threads: int = 16
    readahead: int = 1 << 20
    log_file: str | None = None
    pid_file: str | None = None
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def checked(self) -> Self:
        """Return the same options, paths absolute, as the daemon leaves the working directory. Raises UsageError."""
        if self.cluster_size is not None:
            from vdifs.output.spec import check_cluster_size  # which loads much that --help does without

            check_cluster_size(self.cluster_size)
        if not self.deadline > 0:
            raise UsageError(f"deadline {self.deadline}", remedy="give a number of seconds above 0")
        if self.threads < 1:
            raise UsageError(f"threads {self.threads}", remedy="give at least 1")
        if self.readahead < 0:
            raise UsageError(f"readahead {self.readahead}", remedy="give a number of bytes")
        if self.umask is not None and not 0 <= self.umask <= 0o777:
            raise UsageError(f"umask {self.umask:o}", remedy="give an octal number up to 777")
        return replace(
            self,
            source=os.path.abspath(self.source),
            mountpoint=os.path.abspath(self.mountpoint),
            trusted=tuple(os.path.abspath(directory) for directory in self.trusted),
            log_file=None if self.log_file is None else os.path.abspath(self.log_file),
            pid_file=None if self.pid_file is None else os.path.abspath(self.pid_file),
        )

    @property
    def determines_bytes(self) -> str:
        """The options on which the bytes of the synthetic files depend, for their inode numbers."""
        expanded = ",packed=expand" if self.packed == "expand" else ""
        return f"cluster_size={self.cluster_size}{expanded}"

    @property
    def overrides_permissions(self) -> bool:
        """Whether the permissions of the sources are replaced by the user's own choice."""
        return not (self.uid is None and self.gid is None and self.umask is None)
