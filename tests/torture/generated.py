"""Images made from nothing: a header that holds, and tables of any entries whatever."""

import struct
import zlib
from random import Random

import zstandard

from tests.support import qcow2
from tests.support.qcow2 import COMPRESSED, COPIED, OFFSETS, ZERO
from tests.torture.mutations import Files

__all__ = ["generate"]


def generate(rng: Random) -> Files:
    """Return one image, or one on a raw base: clusters of 512 to 64 KiB, and L2 entries of every kind."""
    extended, zstd = rng.random() < 0.25, rng.random() < 0.3
    version = 3 if extended or zstd else rng.choice([2, 3, 3])
    bits = rng.randint(14, 16) if extended else rng.choice([9, 9, 10, 12, 12, 14, 16])
    cluster, entry_size = 1 << bits, 16 if extended else 8
    count = rng.randrange(1, 40)
    size = max(512, count * cluster - rng.choice([0, 512, cluster // 2, 1000]))
    clusters = -(-size // cluster)
    tables = -(-clusters // (cluster // entry_size))
    first_table = 3
    first_data = first_table + tables
    data = rng.randrange(1, 12)
    image = bytearray((first_data + data) * cluster)
    backing = b"base.raw" if rng.random() < 0.4 and bits >= 10 else b""
    _write_header(image, rng, version, bits, size, tables, extended=extended, zstd=zstd, backing=backing)
    for number in range(data):
        at = (first_data + number) * cluster
        image[at : at + cluster] = _cluster(rng, number, cluster, zstd=zstd)
    for number in range(tables):
        struct.pack_into(">Q", image, 2 * cluster + 8 * number, (first_table + number) * cluster | COPIED)
    wild = rng.random() < 0.3
    for number in range(clusters):
        at = first_table * cluster + number * entry_size
        word = _entry(rng, bits, first_data * cluster, data, wild=wild)
        if version == 2 and not wild and not word & COMPRESSED:
            word &= ~ZERO
        struct.pack_into(">Q", image, at, word)
        if extended:
            struct.pack_into(">Q", image, at + 8, _bitmap(rng, word, wild=wild))
    files = {"image.qcow2": image}
    if backing:
        files["base.raw"] = bytearray(b"".join(bytes([number & 255]) * 512 for number in range(rng.randrange(300))))
        files["base.raw"].extend(bytes(rng.choice([0, 1, 500])))
    return files


def _write_header(
    image: bytearray,
    rng: Random,
    version: int,
    bits: int,
    size: int,
    l1_size: int,
    *,
    extended: bool,
    zstd: bool,
    backing: bytes,
) -> None:
    cluster = 1 << bits
    length = 72 if version == 2 else rng.choice([104, 112]) if not zstd else 112
    image[:length] = qcow2.header(
        version=version,
        cluster_bits=bits,
        size=size,
        l1_size=l1_size,
        l1_table_offset=2 * cluster,
        refcount_table_offset=cluster,
        refcount_table_clusters=1,
        incompatible_features=(qcow2.EXTENDED_L2 if extended else 0) | (qcow2.COMPRESSION if zstd else 0),
        compatible_features=rng.choice([0, 1]) if version == 3 else 0,
        header_length=length,
        compression_type=int(zstd),
    )
    if backing:
        extension = qcow2.extension(qcow2.BACKING_FORMAT, b"raw") + bytes(8)
        image[length : length + len(extension)] = extension
        at = length + len(extension)
        image[at : at + len(backing)] = backing
        struct.pack_into(">QI", image, qcow2.named("backing_file_offset").offset, at, len(backing))


def _cluster(rng: Random, number: int, size: int, *, zstd: bool) -> bytes:
    """Return plain data, or a stream that inflates to a cluster, to less, or to more."""
    plain = bytes([number + 1]) * size
    kind = rng.choice(["plain", "plain", "packed", "packed", "short", "long", "noise"])
    match kind:
        case "plain":
            return plain
        case "noise":
            return rng.randbytes(size)
    text = {"packed": plain, "short": plain[: size // 2], "long": plain * 40}[kind]
    if zstd:
        packed = zstandard.compress(text)
    else:
        stream = zlib.compressobj(wbits=-rng.choice([12, 12, 15]))
        packed = stream.compress(text) + stream.flush()
    return packed[:size].ljust(size, b"\0")


def _entry(rng: Random, bits: int, first: int, data: int, *, wild: bool) -> int:
    place = first + (rng.randrange(data) << bits)
    kind = rng.choice("nothing data data data zero placed packed packed packed beyond odd any".split())
    match kind:
        case "nothing":
            return rng.choice([0, COPIED])
        case "data":
            return place | COPIED
        case "zero":
            return ZERO
        case "placed":
            return place | COPIED | ZERO
        case "packed":
            sectors = rng.choice([0, (1 << bits - 9) - 1, rng.randrange(1 << bits - 8)])
            return qcow2.compressed_entry(place, sectors, bits)
    if not wild or rng.random() < 0.8:
        return place | COPIED
    match kind:
        case "beyond":
            return (first + (data << bits)) | COPIED
        case "odd":
            return place + 512 | COPIED | 1 << rng.choice([1, 5, 57, 61])
    return rng.getrandbits(64)


def _bitmap(rng: Random, word: int, *, wild: bool) -> int:
    if word & COMPRESSED:
        return 0 if not wild else rng.getrandbits(64)
    low, high = (rng.choice([0, 0xFFFFFFFF, 0xFFFF, 0xF0F00001, rng.getrandbits(32)]) for _ in range(2))
    if not word & OFFSETS:
        low = 0
    if wild and rng.random() < 0.1:
        return low | high << 32
    return low | (high & ~low) << 32
