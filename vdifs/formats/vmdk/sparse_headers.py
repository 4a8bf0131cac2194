"""What the headers of sparse extents have in common: what each kind begins with, and the size of grains. Pure."""

from vdifs.errors import FormatError

__all__ = ["COWD_MAGIC", "HOSTED_MAGIC", "MAX_GRAIN_SECTORS", "SESPARSE_MAGIC", "check_grain_size"]

HOSTED_MAGIC = b"KDMV"
COWD_MAGIC = b"COWD"
SESPARSE_MAGIC = bytes.fromhex("beba fe ca 00000000")
MAX_GRAIN_SECTORS = 4096


def check_grain_size(sectors: int) -> None:
    """Raise FormatError unless a grain may have so many sectors."""
    if not 1 <= sectors <= MAX_GRAIN_SECTORS or sectors & (sectors - 1):
        raise FormatError(f"its grains have {sectors} sectors, expected a power of 2 up to {MAX_GRAIN_SECTORS}")
