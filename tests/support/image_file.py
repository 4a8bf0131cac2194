"""A qcow2 file whose bytes are read and changed by their meaning, whether what comes out is sound or not."""

from dataclasses import dataclass
from pathlib import Path

from tests.support import oracle, qcow2


@dataclass(frozen=True)
class Image:
    """A qcow2 file whose bytes can be read and changed by their meaning."""

    path: Path

    def words(self, offset: int, count: int) -> tuple[int, ...]:
        data = self.read(offset, 8 * count)
        assert len(data) == 8 * count, "the file ends there"
        return tuple(int.from_bytes(data[at : at + 8], "big") for at in range(0, len(data), 8))

    def get(self, name: str) -> int:
        field = qcow2.named(name)
        return int.from_bytes(self.read(field.offset, field.size), "big")

    def set(self, **values: int) -> "Image":
        for name, value in values.items():
            field = qcow2.named(name)
            self.write(field.offset, value.to_bytes(field.size, "big"))
        return self

    def read(self, offset: int, length: int) -> bytes:
        with self.path.open("rb") as file:
            file.seek(offset)
            return file.read(length)

    def write(self, offset: int, data: bytes) -> "Image":
        with self.path.open("r+b") as file:
            file.seek(offset)
            file.write(data)
        return self

    def append(self, data: bytes) -> int:
        """Add whole clusters at the end; return where they are."""
        size = self.cluster_size
        offset = -(-self.path.stat().st_size // size) * size
        self.write(offset, data.ljust(-(-len(data) // size) * size, b"\0"))
        return offset

    @property
    def cluster_size(self) -> int:
        return 1 << self.get("cluster_bits")

    @property
    def entry_words(self) -> int:
        """Words in an L2 entry."""
        return 2 if self.get("version") == 3 and self.get("incompatible_features") & qcow2.EXTENDED_L2 else 1

    def l1_place(self, index: int) -> int:
        return self.get("l1_table_offset") + 8 * index

    def l1_entry(self, index: int) -> int:
        return self.words(self.l1_place(index), 1)[0]

    def set_l1(self, index: int, entry: int) -> "Image":
        return self.write(self.l1_place(index), qcow2.words(entry))

    def l2_place(self, cluster: int) -> int:
        """Return where the entry of a guest cluster is; its L2 table must be there."""
        per_table = self.cluster_size // 8 // self.entry_words
        table = self.l1_entry(cluster // per_table) & qcow2.OFFSETS
        assert table, "no L2 table there: write something into its range first"
        return table + cluster % per_table * 8 * self.entry_words

    def l2_entry(self, cluster: int) -> int:
        return self.words(self.l2_place(cluster), 1)[0]

    def l2_bitmap(self, cluster: int) -> int:
        return self.words(self.l2_place(cluster) + 8, 1)[0]

    def set_l2(self, cluster: int, *entry: int) -> "Image":
        return self.write(self.l2_place(cluster), qcow2.words(*entry))

    def data_offset(self, cluster: int) -> int:
        return self.l2_entry(cluster) & qcow2.OFFSETS

    def extensions(self, *extensions: tuple[int, bytes]) -> "Image":
        """Replace the header extensions, behind which there must be no backing file name."""
        packed = b"".join(qcow2.extension(kind, data) for kind, data in extensions)
        start = qcow2.extensions_at(self.read(0, qcow2.V3_LENGTH))
        return self.write(start, packed + bytes(8))

    def io(self, *commands: str) -> "Image":
        oracle.qemu_io(self.path, list(commands))
        return self
