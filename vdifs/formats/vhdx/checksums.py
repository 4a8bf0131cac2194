"""Whether a structure with a signature and a checksum is intact: CRC-32C over all of it, its own 4 bytes as zeros."""

__all__ = ["is_intact"]


def is_intact(data: bytes, signature: bytes) -> bool:
    """Tell whether `data` begins with the signature of 4 bytes and has the checksum behind it that it needs."""
    if data[:4] != signature:
        return False
    from vdifs.formats.vhdx.crc32c import crc32c  # and with it numpy, which is not needed to import the format

    return crc32c(data[:4] + bytes(4) + data[8:]) == int.from_bytes(data[4:8], "little")
