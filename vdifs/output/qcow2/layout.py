"""Where everything lies in a synthetic qcow2, from three numbers: its L2 tables, data clusters and packed bytes.

    cluster 0   header, extensions (backing format), backing file name
            1   refcount table          | sizes of both by fixed point:
            .   refcount blocks         | they count themselves
            .   L1 table
            .   L2 tables                 only those that are needed, in guest order
            .   data clusters             in guest order
            .   packed clusters           in guest order, sectors of them: several in a cluster, one in several

Every region is whole clusters, `size` is the end of the last one. Every cluster is used once, but those of the last
region by each packed cluster that touches it.
"""

from dataclasses import dataclass

from vdifs.errors import UsageError
from vdifs.formats.qcow2.extensions import Extension, ExtensionType, encode_name
from vdifs.formats.qcow2.geometry import L1_MAX_BYTES, REFCOUNT_TABLE_MAX_BYTES, Geometry
from vdifs.formats.qcow2.header import MAX_BACKING_NAME, V3_LENGTH, CompressionType, Header, Incompatible
from vdifs.formats.qcow2.refcounts import REFCOUNT_ORDER, RefcountSize, fit_refcounts

__all__ = ["Backing", "Layout", "Packed", "check_geometry", "safe_backing_name", "size_if_full"]

_PACKED_BITS = 70
"""See encode_compressed: packed clusters lie below 2**(70 - cluster_bits)."""
_LENGTH_WITH_COMPRESSION = V3_LENGTH + 8
_LARGER_CLUSTERS = "ask for larger ones with --cluster-size"


@dataclass(frozen=True, slots=True)
class Backing:
    """The backing file that a delta records."""

    name: str
    format: str


@dataclass(frozen=True, slots=True)
class Packed:
    """The packed clusters of a file: how they are packed, and how many bytes they take, in whole sectors."""

    compression: CompressionType
    size: int


@dataclass(frozen=True, slots=True)
class Layout:
    """Output offsets of the regions, in bytes; each ends where the next begins, the last at `size`."""

    geometry: Geometry
    refcounts: RefcountSize
    header: Header
    refcount_table: int
    refcount_blocks: int
    l1_table: int
    l2_tables: int
    data: int
    packed: int
    size: int

    @classmethod
    def plan(
        cls,
        geometry: Geometry,
        l2_count: int,
        data_clusters: int,
        backing: Backing | None,
        packed: Packed | None = None,
    ) -> "Layout":
        """Lay out a file with so many L2 tables and data clusters, and with packed ones.

        Raises UsageError where the L1 table, the refcount table or the backing file name would be too large, and where
        packed clusters would lie beyond what their L2 entries have bits for.
        """
        check_geometry(geometry)
        bits = geometry.cluster_bits
        l1 = geometry.clusters_for(geometry.l1_size * 8)
        packed_clusters = 0 if packed is None else geometry.clusters_for(packed.size)
        refcounts = _fit(geometry, l2_count, data_clusters + packed_clusters)
        if refcounts.table_clusters << bits > REFCOUNT_TABLE_MAX_BYTES:
            raise UsageError(
                f"clusters of {geometry.cluster_size} bytes are too small for {refcounts.total} of them",
                remedy=_LARGER_CLUSTERS,
            )
        table = 1 << bits
        blocks = table + (refcounts.table_clusters << bits)
        l1_table = blocks + (refcounts.blocks << bits)
        l2_tables = l1_table + (l1 << bits)
        data = l2_tables + (l2_count << bits)
        compression = CompressionType.DEFLATE if packed is None else packed.compression
        header = _header(geometry, refcounts, table, l1_table, backing, compression)
        size = refcounts.total << bits
        if packed is not None and size > 1 << _PACKED_BITS - bits:
            what = f"a file of {size} bytes is too long for packed clusters of {geometry.cluster_size} bytes"
            raise UsageError(what, remedy="have them unpacked, with --packed expand")
        start = size - (packed_clusters << bits)
        return cls(geometry, refcounts, header, table, blocks, l1_table, l2_tables, data, start, size)


def check_geometry(geometry: Geometry) -> None:
    """Raise UsageError if the L1 table would be longer than QEMU reads."""
    if geometry.l1_size * 8 > L1_MAX_BYTES:
        raise UsageError(
            f"clusters of {geometry.cluster_size} bytes are too small for a disk of {geometry.virtual_size} bytes",
            remedy=_LARGER_CLUSTERS,
        )


def size_if_full(geometry: Geometry) -> int:
    """Return the length in bytes of a file in which every cluster of the disk holds data."""
    return _fit(geometry, geometry.l1_size, geometry.clusters).total << geometry.cluster_bits


def safe_backing_name(name: str) -> str:
    """Return `name` so that QEMU takes it for a file: one with a colon before its first slash gets `./` in front."""
    return "./" + name if ":" in name.split("/", 1)[0] else name


def _fit(geometry: Geometry, l2_count: int, data_clusters: int) -> RefcountSize:
    """Return the size of the refcounts, and of the whole, of a file with so many L2 tables and data clusters."""
    l1 = geometry.clusters_for(geometry.l1_size * 8)
    return fit_refcounts(1 + l1 + l2_count + data_clusters, geometry.cluster_size)


def _header(
    geometry: Geometry,
    refcounts: RefcountSize,
    refcount_table: int,
    l1_table: int,
    backing: Backing | None,
    compression: CompressionType,
) -> Header:
    extensions: tuple[Extension, ...] = ()
    name_offset = name_size = 0
    length = V3_LENGTH if compression is CompressionType.DEFLATE else _LENGTH_WITH_COMPRESSION
    features = Incompatible.EXTENDED_L2 if geometry.extended_l2 else 0
    if compression is not CompressionType.DEFLATE:
        features |= Incompatible.COMPRESSION_TYPE
    if backing is not None:
        data = backing.format.encode("ascii")
        extensions = (Extension(ExtensionType.BACKING_FORMAT, data),)
        name_offset = length + 8 + 8 + 8
        name_size = len(encode_name(backing.name))
        if "\0" in backing.name:
            raise UsageError("a NUL would end the backing file name for every reader", remedy="leave it out")
        longest = min(MAX_BACKING_NAME, geometry.cluster_size - name_offset)
        if not 0 < name_size <= longest:
            what = f"a backing file name of {name_size} bytes does not fit, 1 to {longest} do"
            raise UsageError(what, remedy="give a shorter one or larger clusters")
    return Header(
        version=3,
        backing_file_offset=name_offset,
        backing_file_size=name_size,
        cluster_bits=geometry.cluster_bits,
        size=geometry.virtual_size,
        crypt_method=0,
        l1_size=geometry.l1_size,
        l1_table_offset=l1_table,
        refcount_table_offset=refcount_table,
        refcount_table_clusters=refcounts.table_clusters,
        nb_snapshots=0,
        snapshots_offset=0,
        incompatible_features=features,
        refcount_order=REFCOUNT_ORDER,
        header_length=length,
        compression_type=compression,
        extensions=extensions,
        backing_file=backing.name if backing else None,
    )
