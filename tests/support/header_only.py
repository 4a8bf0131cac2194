"""Images that hold nothing but their header and an empty L1 table, and name any backing file."""

import time
from pathlib import Path

from vdifs.formats.qcow2.extensions import Extension, ExtensionType, encode_name, pack_extensions
from vdifs.formats.qcow2.header import V3_LENGTH, Header, Incompatible
from vdifs.storage.fingerprint import RACY_NS

CLUSTER_BITS = 12
SIZE = 1 << 20


def write_blank(
    path: Path,
    backing: str | None = None,
    backing_format: str | None = None,
    *,
    data_file: str | None = None,
    **fields: int,
) -> None:
    """Write an image of 1 MiB in clusters of 4 KiB; fields: other values of header fields."""
    extensions: tuple[Extension, ...] = ()
    if backing_format is not None:
        extensions = (Extension(ExtensionType.BACKING_FORMAT, backing_format.encode()),)
    if data_file is not None:
        extensions += (Extension(ExtensionType.DATA_FILE, encode_name(data_file)),)
        fields = {"incompatible_features": Incompatible.DATA_FILE, **fields}
    length = len(pack_extensions(extensions))
    known = {
        "version": 3,
        "cluster_bits": CLUSTER_BITS,
        "size": SIZE,
        "crypt_method": 0,
        "l1_size": 1,
        "l1_table_offset": 3 << CLUSTER_BITS,
        "refcount_table_offset": 1 << CLUSTER_BITS,
        "refcount_table_clusters": 1,
        "nb_snapshots": 0,
        "snapshots_offset": 0,
        "backing_file_offset": V3_LENGTH + length if backing else 0,
        "backing_file_size": len(encode_name(backing)) if backing else 0,
    }
    header = Header(extensions=extensions, backing_file=backing, **{**known, **fields})
    path.unlink(missing_ok=True)
    path.write_bytes(header.pack().ljust(4 << CLUSTER_BITS, b"\0"))


def grow_old() -> None:
    """Wait until the next change of a file gives it other time stamps; until then some kernels give it the same."""
    time.sleep(1.5 * RACY_NS / 1e9)
