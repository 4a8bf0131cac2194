"""Virtual disk chains as files that do not exist: flattened images and deltas, computed when they are read.

with vdifs.open("tuesday.qcow2", base="base.qcow2") as image:
    shutil.copyfileobj(image.file(), target)
"""

TYPE_CHECKING = False  # as type checkers know it; a command is to begin before all these modules are loaded

if TYPE_CHECKING:
    from typing import Any

    from vdifs.errors import (
        ChainError,
        FormatError,
        InUseError,
        PolicyError,
        SourceChangedError,
        StorageError,
        UnsupportedError,
        UsageError,
        VdifsError,
    )
    from vdifs.output.image import Image
    from vdifs.output.library import open_path as open  # noqa: A004 - vdifs.open is the library's promised name

__version__ = "0.1.0"
__all__ = [
    "ChainError",
    "FormatError",
    "Image",
    "InUseError",
    "PolicyError",
    "SourceChangedError",
    "StorageError",
    "UnsupportedError",
    "UsageError",
    "VdifsError",
    "open",
]


def __getattr__(name: str) -> "Any":
    """Load a module only when what is in it is asked for: `vdifs --version` must not pay for numpy."""
    if name == "open":
        from vdifs.output.library import open_path

        return open_path
    if name == "Image":
        from vdifs.output.image import Image

        return Image
    if name in __all__:
        from vdifs import errors

        return getattr(errors, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
