"""Images made by QEMU's tools, then changed byte by byte; and the two questions: what does vdifs say, what QEMU?"""

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

import vdifs
from tests.support import oracle

KIB, MIB = 1 << 10, 1 << 20
COPIED, COMPRESSED, ZERO = 1 << 63, 1 << 62, 1
CLUSTER = 64 * KIB

FIELDS = {
    "magic": (0, "I"),
    "version": (4, "I"),
    "backing_file_offset": (8, "Q"),
    "backing_file_size": (16, "I"),
    "cluster_bits": (20, "I"),
    "size": (24, "Q"),
    "crypt_method": (32, "I"),
    "l1_size": (36, "I"),
    "l1_table_offset": (40, "Q"),
    "refcount_table_offset": (48, "Q"),
    "refcount_table_clusters": (56, "I"),
    "nb_snapshots": (60, "I"),
    "snapshots_offset": (64, "Q"),
    "incompatible_features": (72, "Q"),
    "compatible_features": (80, "Q"),
    "autoclear_features": (88, "Q"),
    "refcount_order": (96, "I"),
    "header_length": (100, "I"),
    "compression_type": (104, "B"),
}


@dataclass(frozen=True)
class Image:
    """A qcow2 file whose bytes can be read and changed by their meaning."""

    path: Path

    def words(self, offset: int, count: int) -> tuple[int, ...]:
        with self.path.open("rb") as file:
            file.seek(offset)
            return struct.unpack(f">{count}Q", file.read(8 * count))

    def get(self, name: str) -> int:
        offset, form = FIELDS[name]
        with self.path.open("rb") as file:
            file.seek(offset)
            (value,) = struct.unpack(f">{form}", file.read(struct.calcsize(f">{form}")))
        return int(value)

    def set(self, **values: int) -> "Image":
        for name, value in values.items():
            offset, form = FIELDS[name]
            self.write(offset, struct.pack(f">{form}", value))
        return self

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
        return 2 if self.get("version") == 3 and self.get("incompatible_features") & 1 << 4 else 1

    def l1_place(self, index: int) -> int:
        return self.get("l1_table_offset") + 8 * index

    def l1_entry(self, index: int) -> int:
        return self.words(self.l1_place(index), 1)[0]

    def set_l1(self, index: int, entry: int) -> "Image":
        return self.write(self.l1_place(index), struct.pack(">Q", entry))

    def l2_place(self, cluster: int) -> int:
        """Return where the entry of a guest cluster is; its L2 table must be there."""
        per_table = self.cluster_size // 8 // self.entry_words
        table = self.l1_entry(cluster // per_table) & ((1 << 56) - 512)
        assert table, "no L2 table there: write something into its range first"
        return table + cluster % per_table * 8 * self.entry_words

    def l2_entry(self, cluster: int) -> int:
        return self.words(self.l2_place(cluster), 1)[0]

    def l2_bitmap(self, cluster: int) -> int:
        return self.words(self.l2_place(cluster) + 8, 1)[0]

    def set_l2(self, cluster: int, *entry: int) -> "Image":
        return self.write(self.l2_place(cluster), struct.pack(f">{len(entry)}Q", *entry))

    def data_offset(self, cluster: int) -> int:
        return self.l2_entry(cluster) & ((1 << 56) - 512)

    def extensions(self, *extensions: tuple[int, bytes]) -> "Image":
        """Replace the header extensions, behind which there must be no backing file name."""
        packed = b"".join(
            struct.pack(">II", kind, len(data)) + data + bytes(-len(data) % 8) for kind, data in extensions
        )
        start = self.get("header_length") if self.get("version") == 3 else 72
        return self.write(start, packed + bytes(8))

    def io(self, *commands: str) -> "Image":
        oracle.qemu_io(self.path, list(commands))
        return self


def make(
    path: Path,
    size: int = MIB,
    *commands: str,
    backing: tuple[str, str] | None = None,
    **options: object,
) -> Image:
    """Create an image in clusters of 64 KiB unless told, and run `commands` of qemu-io on it."""
    oracle.create(path, size, options=options, backing=backing, cwd=path.parent)
    image = Image(path)
    return image.io(*commands) if commands else image


def make_raw(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def contents(image: Image | Path, **options: object) -> bytes:
    """Return the guest contents as vdifs reads them."""
    path = image.path if isinstance(image, Image) else image
    with vdifs.open(path, view="raw", **options) as opened:  # type: ignore[arg-type] # passed on
        return b"".join(opened.stream())


def qemu_contents(image: Image) -> bytes | None:
    """Return the guest contents as QEMU reads them, None where it refuses to."""
    output = image.path.with_name(image.path.name + ".raw-by-qemu")
    try:
        return oracle.materialize(image.path, output).read_bytes()
    except oracle.OracleError:
        return None
    finally:
        output.unlink(missing_ok=True)


def both_read(image: Image) -> bytes:
    """Return the guest contents, on which vdifs and QEMU must agree; the full image must hold them as well."""
    found = contents(image)
    assert found == qemu_contents(image)
    full = Image(image.path.with_name(image.path.name + ".full"))
    with vdifs.open(image.path) as opened:
        full.path.write_bytes(b"".join(opened.stream()))
    oracle.check(full.path)
    assert qemu_contents(full) == found
    return found


@contextmanager
def refused(kind: type[vdifs.VdifsError], code: int, match: str) -> Iterator[None]:
    """Expect exactly the error class `kind` with errno `code` and a telling one-line message."""
    with pytest.raises(kind, match=match) as caught:
        yield
    assert type(caught.value) is kind
    assert os.strerror(caught.value.errno) == os.strerror(code)
    assert str(caught.value).isprintable()


@contextmanager
def format_error(match: str) -> Iterator[None]:
    with refused(vdifs.FormatError, 5, match):
        yield


@contextmanager
def unsupported(match: str) -> Iterator[None]:
    with refused(vdifs.UnsupportedError, 95, match):
        yield


def both_refuse(image: Image, match: str, *, kind: type[vdifs.VdifsError] = vdifs.FormatError, code: int = 5) -> None:
    """Expect both to refuse the image when it is opened."""
    with refused(kind, code, match):
        vdifs.open(image.path).close()
    assert qemu_contents(image) is None, "QEMU reads it: a deviation"


def pattern(byte: int, length: int = CLUSTER) -> bytes:
    return bytes([byte]) * length
