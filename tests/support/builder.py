"""The one builder of images: by QEMU's tools; or byte by byte where these make no such image, or take minutes for it.

make           by qemu-img, and what qemu-io then writes
write_stamped  data that say where they belong, by qemu-io
write_blank    a header and an empty L1 table, which may claim anything
Tables         an L1 table and L2 tables of any entries, and data
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.support import oracle, qcow2
from tests.support.image_file import Image
from tests.support.stamps import stamped
from tests.support.units import KIB, MIB

CLUSTER = 64 * KIB
"""What QEMU makes unless told otherwise."""
BLANK_BITS = 12
BLANK_SIZE = MIB


def make(
    path: Path,
    size: int = MIB,
    *commands: str,
    backing: tuple[str, str] | None = None,
    **options: object,
) -> Image:
    """Create an image in clusters of 64 KiB unless told, and run `commands` of qemu-io on it.

    backing: name and format of its backing file. options: of `qemu-img create -o`.
    """
    over = ["-b", backing[0], "-F", backing[1]] if backing else []
    chosen = ["-o", ",".join(f"{name}={value}" for name, value in options.items())] if options else []
    oracle.qemu_img("create", "-q", "-f", "qcow2", *over, *chosen, path.absolute(), str(size), cwd=path.parent)
    image = Image(path)
    return image.io(*commands) if commands else image


def make_raw(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def pattern(byte: int, length: int = CLUSTER) -> bytes:
    """Return what `write -P` of qemu-io writes."""
    return bytes([byte]) * length


def write_stamped(image: Path, writes: Mapping[int, int], generation: int, *, commands: Sequence[str] = ()) -> None:
    """Write stamped data to an image: guest offset -> length; then run the commands."""
    with TemporaryDirectory() as scratch:
        words = []
        for number, (offset, length) in enumerate(writes.items()):
            data = Path(scratch, str(number))
            data.write_bytes(stamped(offset, length, generation))
            words.append(f"write -s {data} {offset} {length}")
        oracle.qemu_io(image, [*words, *commands])


def rebase(image: Image, name: str, backing_format: str | None = "qcow2") -> Image:
    """Let the image name any backing file, which QEMU is not asked to open."""
    extensions = [] if backing_format is None else [(qcow2.BACKING_FORMAT, backing_format.encode())]
    image.extensions(*extensions)
    return image.write(1024, name.encode()).set(backing_file_offset=1024, backing_file_size=len(name.encode()))


def write_blank(
    path: Path,
    backing: str | None = None,
    backing_format: str | None = None,
    *,
    data_file: str | None = None,
    **fields: int,
) -> None:
    """Write an image of 1 MiB in clusters of 4 KiB that holds nothing; fields: other values of header fields."""
    extensions = b""
    if backing_format is not None:
        extensions += qcow2.extension(qcow2.BACKING_FORMAT, backing_format.encode())
    if data_file is not None:
        extensions += qcow2.extension(qcow2.DATA_FILE_NAME, encoded(data_file))
        fields = {"incompatible_features": qcow2.EXTERNAL_DATA, **fields}
    extensions += bytes(8)
    name = b"" if backing is None else encoded(backing)
    known = {
        "cluster_bits": BLANK_BITS,
        "size": BLANK_SIZE,
        "l1_size": 1,
        "l1_table_offset": 3 << BLANK_BITS,
        "refcount_table_offset": 1 << BLANK_BITS,
        "refcount_table_clusters": 1,
        "backing_file_offset": qcow2.V3_LENGTH + len(extensions) if backing else 0,
        "backing_file_size": len(name),
    }
    path.unlink(missing_ok=True)
    path.write_bytes((qcow2.header(**known | fields) + extensions + name).ljust(4 << BLANK_BITS, b"\0"))


def encoded(name: str) -> bytes:
    """Return a file's name as an image has it."""
    return name.encode("utf-8", "surrogateescape")


@dataclass(frozen=True)
class Tables:
    """What to write: one word per guest cluster, two with extended L2; those that are left out are 0."""

    cluster_bits: int
    size: int
    entries: Mapping[int, int]
    bitmaps: Mapping[int, int] | None = None
    version: int = 3
    data_clusters: int = 8

    @property
    def cluster_size(self) -> int:
        return 1 << self.cluster_bits

    @property
    def entries_per_table(self) -> int:
        return self.cluster_size // (8 if self.bitmaps is None else 16)

    @property
    def clusters(self) -> int:
        return -(-self.size // self.cluster_size)

    @property
    def first_data(self) -> int:
        """The host offset of the first data cluster; header, refcount table, L1 and L2 tables lie before it."""
        return (2 + self._l1_clusters + len(self._tables)) << self.cluster_bits

    @property
    def _l1_size(self) -> int:
        return -(-self.clusters // self.entries_per_table)

    @property
    def _l1_clusters(self) -> int:
        return max(1, -(-self._l1_size * 8 // self.cluster_size))

    @property
    def _tables(self) -> list[int]:
        """The L1 indices that have an L2 table."""
        return sorted({cluster // self.entries_per_table for cluster in self.entries})

    def header(self, **more: int) -> bytes:
        """Return the header; more: values of other fields."""
        return qcow2.header(
            version=self.version,
            cluster_bits=self.cluster_bits,
            size=self.size,
            l1_size=self._l1_size,
            l1_table_offset=2 << self.cluster_bits,
            refcount_table_offset=1 << self.cluster_bits,
            refcount_table_clusters=1,
            incompatible_features=0 if self.bitmaps is None else qcow2.EXTENDED_L2,
            **more,
        )

    def write(self, path: Path) -> None:
        """Write a new file: tables first, then `data_clusters` of data."""
        path.unlink(missing_ok=True)  # rewriting a file in place would make ext4 flush it
        l2_first = 2 + self._l1_clusters
        with path.open("wb") as file:
            file.write(self.header())
            for place, index in enumerate(self._tables, l2_first):
                file.seek((2 << self.cluster_bits) + index * 8)
                file.write(qcow2.words(place << self.cluster_bits | qcow2.COPIED))
                file.seek(place << self.cluster_bits)
                file.write(self._table(index))
            file.seek(self.first_data)
            for number in range(self.data_clusters):
                file.write(pattern(number + 1, self.cluster_size))

    def _table(self, index: int) -> bytes:
        clusters = range(index * self.entries_per_table, (index + 1) * self.entries_per_table)
        if self.bitmaps is None:
            return qcow2.words(*(self.entries.get(cluster, 0) for cluster in clusters))
        pairs = ((self.entries.get(cluster, 0), self.bitmaps.get(cluster, 0)) for cluster in clusters)
        return qcow2.words(*(word for pair in pairs for word in pair))
