"""The header of a file with packed clusters, made from that of the same file with plain ones."""

from dataclasses import replace

from vdifs.errors import UsageError
from vdifs.formats.qcow2.header import V3_LENGTH, CompressionType, Header, Incompatible
from vdifs.output.export.compressing.host_clusters import LastTables

__all__ = ["packed_header", "with_tables"]

_WITH_TYPE = V3_LENGTH + 8
"""The length of a header that has a compression_type, padded as QEMU does."""


def packed_header(plain: Header, compression: CompressionType) -> Header:
    """Return the header, its tables where they are in the plain file.

    Raises UsageError where a backing file name does not fit behind what zstd adds.
    """
    features, length = plain.incompatible_features & ~Incompatible.COMPRESSION_TYPE, V3_LENGTH
    if compression is not CompressionType.DEFLATE:
        features, length = features | Incompatible.COMPRESSION_TYPE, _WITH_TYPE
    name_offset = plain.backing_file_offset and plain.backing_file_offset + length - plain.header_length
    if name_offset + plain.backing_file_size > plain.cluster_size:
        longest = plain.cluster_size - name_offset
        what = f"a backing file name of {plain.backing_file_size} bytes does not fit, {longest} do"
        raise UsageError(what, remedy="give a shorter one or larger clusters")
    return replace(
        plain,
        incompatible_features=features,
        compression_type=compression,
        header_length=length,
        backing_file_offset=name_offset,
    )


def with_tables(header: Header, tables: LastTables) -> Header:
    """Return the header of a file that has its tables there."""
    return replace(
        header,
        l1_table_offset=tables.l1_table,
        refcount_table_offset=tables.refcount_table,
        refcount_table_clusters=tables.refcount_table_clusters,
    )
