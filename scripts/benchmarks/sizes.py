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
    mixed: virtual size of the overlay whose clusters are much larger than those below it; a multiple of 512 GiB
    growing: data of the disks whose cost per GiB is compared, smallest first
    depths, depth_data: lengths of the chains whose cost is compared, shortest first, and the data each holds
    readers: how many read side by side in the plot
    random: what each random reader reads in blocks of 4 KiB; 16 times as much in blocks of 64 KiB
    images: how many the crowded folder holds
    sparse, sparse_data: virtual size of the disk that is mostly holes, and the data it holds, a multiple of 2 MiB
    idle: seconds for which a mount is left alone
    """

    data: int
    preallocated: int
    mixed: int
    growing: tuple[int, ...]
    depths: tuple[int, ...]
    depth_data: int
    readers: tuple[int, ...]
    random: int
    images: int
    sparse: int
    sparse_data: int
    idle: float


FULL = Sizes(
    data=2 * GIB,
    preallocated=TIB,
    mixed=64 * TIB,
    growing=(1 * GIB, 4 * GIB, 16 * GIB),
    depths=(1, 4, 16, 64),
    depth_data=1 * GIB,
    readers=(1, 2, 4, 8),
    random=64 * MIB,
    images=10_000,
    sparse=64 * GIB,
    sparse_data=100 * MIB,
    idle=10.0,
)
QUICK = Sizes(
    data=128 * MIB,
    preallocated=16 * GIB,
    mixed=4 * TIB,
    growing=(64 * MIB, 128 * MIB),
    depths=(1, 8),
    depth_data=64 * MIB,
    readers=(1, 4),
    random=2 * MIB,
    images=200,
    sparse=256 * MIB,
    sparse_data=4 * MIB,
    idle=0.5,
)
