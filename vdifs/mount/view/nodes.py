"""What stands in the tree: folders, synthetic files, files about them, the status file.

Values without behaviour; as a str each is what messages call it: what is of an image by the image's PATH.
"""

from dataclasses import dataclass
from typing import TypeAlias

from vdifs.mount.view import names
from vdifs.output.view import View

__all__ = ["Folder", "ImageFile", "Node", "Sidecar", "StatusFile"]


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder of the mount. path: in the mount, "" for its root. base: within `delta/BASE/`, the PATH of BASE."""

    path: str
    base: str | None = None

    def __str__(self) -> str:
        return self.path or "/"


@dataclass(frozen=True, slots=True)
class ImageFile:
    """A synthetic file: what `open_image` is asked for. The same value is the same inode, under all of its names.

    path: PATH of the image. base: PATH of the base of a delta, the image's own for the base against itself.
    """

    path: str
    base: str | None = None
    view: View = "qcow2"

    def __str__(self) -> str:
        return self.path


@dataclass(frozen=True, slots=True)
class StatusFile:
    """`.vdifs/status.json`."""

    def __str__(self) -> str:
        return f"{names.CONTROL}/{names.STATUS}"


@dataclass(frozen=True, slots=True)
class Sidecar:
    """`.vdifs/KIND/PATH.json`: what there is to say about the image PATH."""

    kind: str
    path: str

    def __str__(self) -> str:
        return self.path


Node: TypeAlias = Folder | ImageFile | Sidecar | StatusFile
