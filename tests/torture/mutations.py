"""Damage done to images on purpose: each function hits one structure of the format.

mutate(rng, files)   changes the files of a chain, and tells what it did
"""

import struct
from collections.abc import Callable
from random import Random
from typing import TypeVar

from tests.support import qcow2
from tests.support.qcow2 import COMPRESSED, COPIED, FIELDS, OFFSETS, ZERO
from tests.torture.images import Anatomy

__all__ = ["Files", "mutate", "number", "place"]

Files = dict[str, bytearray]
T = TypeVar("T")
_EXTENSIONS = [
    qcow2.NO_MORE_EXTENSIONS, qcow2.BACKING_FORMAT, qcow2.FEATURE_NAMES, qcow2.BITMAPS, qcow2.LUKS_HEADER,
    qcow2.DATA_FILE_NAME, qcow2.HIDDEN, 0xFFFFFFFF, 0x12345678,
]  # fmt: skip
_NAMES = [b"", b".", b"..", b"/", b"/etc/passwd", b"../x", b"json:{}", b"nbd:x", b"fat:/etc", b"a\0b", b"\xff\xfe"]
_MOST_BYTES = 24 << 20


def number(rng: Random, bits: int, near: int = 0) -> int:
    """Return a number of so many bits: at the ends, a power of two, beside `near`, or any."""
    top = (1 << bits) - 1
    bit = rng.randrange(bits)
    found = rng.choice(
        [0, 1, top, top >> 1, 1 << bit, (1 << bit) - 1, near ^ 1 << bit, near + rng.choice([-1, 1, 8, 512, -512]),
         near * 2, near // 2, rng.getrandbits(bits), rng.randrange(1 << bit)]
    )  # fmt: skip
    return found & top


def place(rng: Random, image: bytearray, anatomy: Anatomy) -> int:
    """Return a place to point to: tables, data, the end of the file and what lies beyond it, mostly aligned."""
    size = anatomy.cluster_size
    end = -(-len(image) // size) * size
    known = [*anatomy.tables, *anatomy.data, *anatomy.refcounts, anatomy.l1.start]
    found = rng.choice(
        [0, size, rng.choice(known), rng.choice(known), rng.randrange(0, end + 1, size), end - size, end, end + size,
         1 << rng.randrange(9, 56), OFFSETS & ~(size - 1)]
    )  # fmt: skip
    return max(0, found) + (rng.choice([1, 8, 511, 512, size // 2]) if rng.random() < 0.1 else 0)


def put(image: bytearray, at: int, data: bytes) -> None:
    """Overwrite; what lies beyond the end of the file is left alone."""
    data = data[: max(0, len(image) - at)]
    image[at : at + len(data)] = data


def word(image: bytearray, at: int) -> int:
    """Return the big-endian word there."""
    return int.from_bytes(image[at : at + 8], "big")


def header_field(rng: Random, image: bytearray, anatomy: Anatomy) -> str:
    """A field of the header takes another value, at times one that belongs to another field."""
    field = rng.choice(FIELDS)
    size, old = field.size, field.of(image)
    new = number(rng, 8 * size, old)
    if size == 8 and rng.random() < 0.5:
        new = place(rng, image, anatomy) if "offset" in field.name else 1 << rng.randrange(6)
    if size == 4 and rng.random() < 0.4:
        new = rng.randrange(40)
    if field.name == "size" and rng.random() < 0.7:
        new = rng.randrange(old * 2 + 1)
    put(image, field.offset, new.to_bytes(size, "big"))
    return f"{field.name} {old:#x} -> {new:#x}"


def extension(rng: Random, image: bytearray, anatomy: Anatomy) -> str:
    """An extension changes its type, its length or its bytes; or another one stands before the rest."""
    start, end = anatomy.extensions
    area = bytes(image[start:end])
    if rng.random() < 0.4:
        data = rng.randbytes(rng.choice([0, 4, 8, 16, 24, 48]))
        if rng.random() < 0.5:
            data = rng.choice([b"raw", b"qcow2", b"qed", b"host_device", b"", *_NAMES])
        length = number(rng, 32, len(data)) if rng.random() < 0.3 else len(data)
        added = struct.pack(">II", rng.choice(_EXTENSIONS), length) + data + bytes(-len(data) % 8)
        put(image, start, (added + area)[: end - start])
        return f"extension {added[:24].hex()} inserted"
    if len(area) < 8:
        return ""
    at = start + rng.randrange(0, min(len(area), 120) - 7, rng.choice([1, 8]))
    put(image, at, number(rng, 32, int.from_bytes(image[at : at + 4], "big")).to_bytes(4, "big"))
    return f"extension bytes at {at:#x}"


def l1_entry(rng: Random, image: bytearray, anatomy: Anatomy) -> str:
    """An L1 entry points elsewhere, or carries bits it should not."""
    if not anatomy.l1:
        return ""
    at = rng.choice(anatomy.l1[:64])
    old = word(image, at)
    new = rng.choice([0, place(rng, image, anatomy) | COPIED, old ^ 1 << rng.randrange(64), number(rng, 64, old)])
    put(image, at, new.to_bytes(8, "big"))
    return f"L1 entry at {at:#x}: {old:#x} -> {new:#x}"


def l2_entry(rng: Random, image: bytearray, anatomy: Anatomy) -> str:
    """An L2 entry, in use or not, becomes data, zeros, compressed, nothing, or nonsense."""
    if not anatomy.tables:
        return ""
    if anatomy.used and rng.random() < 0.7:
        at = rng.choice(anatomy.used)
    else:
        at = rng.choice(anatomy.tables) + rng.randrange(min(anatomy.l2_entries, 64)) * anatomy.entry_size
    old = word(image, at)
    somewhere = place(rng, image, anatomy)
    new = rng.choice(
        [0, COPIED, ZERO, somewhere | COPIED, somewhere, somewhere | COPIED | ZERO, descriptor(rng, somewhere, anatomy),
         old ^ 1 << rng.randrange(64), old | 1 << rng.choice([1, 5, 57, 61, 62, 63]), number(rng, 64, old)]
    )  # fmt: skip
    put(image, at, new.to_bytes(8, "big"))
    return f"L2 entry at {at:#x}: {old:#x} -> {new:#x}"


def descriptor(rng: Random, offset: int, anatomy: Anatomy) -> int:
    """Return the entry of a compressed cluster at a place."""
    split = qcow2.split_bit(anatomy.cluster_bits)
    sectors = rng.randrange(1 << anatomy.cluster_bits - 8)
    return COMPRESSED | sectors << split | (offset + rng.choice([0, 0, 1, 100])) & (1 << split) - 1


def l2_bitmap(rng: Random, image: bytearray, anatomy: Anatomy) -> str:
    """The second word of an extended entry takes other subclusters for allocated or for zeros."""
    if anatomy.entry_size == 8 or not anatomy.used:
        return l2_entry(rng, image, anatomy)
    at = rng.choice(anatomy.used) + 8
    low, high = (rng.choice([0, 0xFFFFFFFF, 0xF0F0, 1, rng.getrandbits(32)]) for _ in range(2))
    new = low | (high if rng.random() < 0.1 else high & ~low) << 32
    put(image, at, new.to_bytes(8, "big"))
    return f"L2 bitmap at {at:#x}: {new:#x}"


def packed_descriptor(rng: Random, image: bytearray, anatomy: Anatomy) -> str:
    """The entry of a compressed cluster says another length or place."""
    places = [at for at in anatomy.used if word(image, at) & COMPRESSED]
    if not places:
        return l2_entry(rng, image, anatomy)
    at = rng.choice(places)
    old = word(image, at)
    split = qcow2.split_bit(anatomy.cluster_bits)
    new = rng.choice(
        [old ^ 1 << rng.randrange(split, 62), old + rng.choice([-1, 1, 511, 512]), old & ~((1 << 62) - (1 << split)),
         word(image, rng.choice(places)), old | (1 << 62) - (1 << split)]
    )  # fmt: skip
    put(image, at, (new & (1 << 64) - 1).to_bytes(8, "big"))
    return f"descriptor at {at:#x}: {old:#x} -> {new:#x}"


def packed_stream(rng: Random, image: bytearray, anatomy: Anatomy) -> str:
    """Compressed data with some other bytes, mostly near their beginning."""
    if not anatomy.packed:
        return random_bytes(rng, image, anatomy)
    start, length = rng.choice(anatomy.packed)
    at = start + rng.choice([rng.randrange(min(length, 16)), rng.randrange(length)])
    data = rng.choice([rng.randbytes(rng.randint(1, 8)), bytes(rng.randint(1, 64)), rng.randbytes(1)])
    put(image, at, data)
    return f"compressed data at {at:#x}: {data.hex()}"


def snapshot_table(rng: Random, image: bytearray, anatomy: Anatomy) -> str:
    """Some bytes of the snapshot table: lengths, places, sizes, names."""
    if anatomy.snapshots is None:
        return header_field(rng, image, anatomy)
    start, end = anatomy.snapshots
    at = rng.randrange(start, end - 8)
    size = rng.choice([1, 2, 4, 8])
    new = number(rng, 8 * size, int.from_bytes(image[at : at + size], "big"))
    if size == 8 and rng.random() < 0.5:
        new = place(rng, image, anatomy)
    put(image, at, new.to_bytes(size, "big"))
    return f"snapshot table at {at:#x}: {new:#x}"


def refcounts(rng: Random, image: bytearray, anatomy: Anatomy) -> str:
    """Refcounts, which no reader needs."""
    at = rng.choice(anatomy.refcounts) + rng.randrange(64)
    put(image, at, rng.randbytes(rng.choice([1, 2, 8])))
    return f"refcounts at {at:#x}"


def length(rng: Random, image: bytearray, anatomy: Anatomy) -> str:
    """The file ends early, mostly near a boundary that matters; or it goes on."""
    at = rng.choice([*anatomy.tables, *anatomy.data, anatomy.l1.start, len(image), rng.randrange(len(image) + 1)])
    new = max(0, at + rng.choice([0, 0, 1, -1, 8, 512, anatomy.cluster_size, anatomy.cluster_size // 2]))
    if new <= len(image):
        del image[new:]
    else:
        image.extend(bytes(min(new, _MOST_BYTES) - len(image)))
    return f"length {new:#x}"


def random_bytes(rng: Random, image: bytearray, _anatomy: Anatomy) -> str:
    """Bytes anywhere, half of the time where the header is."""
    at = rng.randrange(rng.choice([200, max(1, len(image))]))
    data = rng.randbytes(rng.randint(1, 8))
    put(image, at, data)
    return f"bytes at {at:#x}: {data.hex()}"


def backing_name(rng: Random, image: bytearray, anatomy: Anatomy, names: list[str]) -> str:
    """The backing file is another one, itself, or a name that must not be followed."""
    start = anatomy.backing[0] or min(anatomy.cluster_size - 1, 512)
    name = rng.choice([*_NAMES, *(each.encode() for each in names)])
    put(image, start, name)
    put(image, qcow2.named("backing_file_offset").offset, struct.pack(">QI", start, len(name)))
    return f"backing file {name!r}"


Damage = Callable[[Random, bytearray, Anatomy], str]
DAMAGES: dict[Damage, int] = {
    header_field: 10,
    extension: 4,
    l1_entry: 6,
    l2_entry: 14,
    l2_bitmap: 5,
    packed_descriptor: 6,
    packed_stream: 6,
    snapshot_table: 6,
    refcounts: 1,
    length: 4,
    random_bytes: 3,
}


def mutate(rng: Random, files: Files) -> list[str]:
    """Damage a chain in one to eight ways; mostly its top image, which is the first. Returns what was done."""
    anatomies = {name: Anatomy.of(image) for name, image in files.items()}
    sound = [name for name, anatomy in anatomies.items() if anatomy is not None]
    done = []
    for _ in range(rng.choice([1, 1, 1, 1, 1, 2, 3, 6])):
        name = sound[0] if sound and rng.random() < 0.6 else rng.choice(list(files))
        anatomy, image = anatomies[name], files[name]
        if anatomy is None:
            what = _damage_raw(rng, image)
        elif rng.random() < 0.04:
            what = backing_name(rng, image, anatomy, list(files))
        else:
            damage = rng.choices(list(DAMAGES), list(DAMAGES.values()))[0]
            what = damage(rng, image, anatomy)
        done.append(f"{name}: {what}")
    return done


def _damage_raw(rng: Random, image: bytearray) -> str:
    size = rng.choice([0, 1, 511, len(image) // 2, len(image) + 1000])
    if size < len(image):
        del image[size:]
    else:
        image.extend(bytes(size - len(image)))
    return f"raw length {size}"
