"""What `vdifs measure` tells of a synthetic file: how long it is, to the byte. Loads no numpy by itself."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:  # which needs numpy: not for --help
    from vdifs.output.image import Image

__all__ = ["Measured", "measured_json"]


@dataclass(frozen=True, slots=True)
class Measured:
    """Bytes of a synthetic file. required: as it is. fully_allocated: if the guest had written all of its disk."""

    required: int
    fully_allocated: int

    @classmethod
    def of(cls, image: "Image") -> Self:
        """Return the sizes of an open image."""
        return cls(image.size, image.size_if_full)


def measured_json(measured: Measured) -> dict[str, Any]:
    """Return what `qemu-img measure --output=json` says; bitmaps are not copied."""
    return {"bitmaps": 0, "required": measured.required, "fully-allocated": measured.fully_allocated}
