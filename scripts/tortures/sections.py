"""All sections, in the order in which they run."""

from tortures.fuzz import fuzz
from tortures.task import Section

__all__ = ["SECTIONS"]

SECTIONS = [
    Section("fuzz", "damaged and generated images, against QEMU", "images", fuzz, 0.25, long=20_000),
]
