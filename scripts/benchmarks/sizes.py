"""How big everything is: for figures that count, and for a quick try that nothing fails."""

from dataclasses import dataclass

__all__ = ["FULL", "GIB", "KIB", "MIB", "QUICK", "TIB", "Sizes"]

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30
TIB = 1 << 40


@dataclass(frozen=True, slots=True)
class Sizes:
    """All in bytes but the counts.

    data: of the disks most rows read; a multiple of 64 MiB
    preallocated: virtual size of the preallocated image
    growing: data of the disks whose cost per GiB is compared, smallest first
    depths, depth_data: lengths of the chains whose cost is compared, shortest first, and the data each holds
    readers: how many read side by side in the plot
    random: what each random reader reads in blocks of 4 KiB; 16 times as much in blocks of 64 KiB
    images: how many the crowded folder holds
    """

    data: int
    preallocated: int
    growing: tuple[int, ...]
    depths: tuple[int, ...]
    depth_data: int
    readers: tuple[int, ...]
    random: int
    images: int


FULL = Sizes(
    data=2 * GIB,
    preallocated=TIB,
    growing=(1 * GIB, 4 * GIB, 16 * GIB),
    depths=(1, 4, 16, 64),
    depth_data=1 * GIB,
    readers=(1, 2, 4, 8),
    random=64 * MIB,
    images=10_000,
)
QUICK = Sizes(
    data=128 * MIB,
    preallocated=16 * GIB,
    growing=(64 * MIB, 128 * MIB),
    depths=(1, 8),
    depth_data=64 * MIB,
    readers=(1, 4),
    random=2 * MIB,
    images=200,
)
