"""Strategies that draw headers, valid and nearly valid."""

from hypothesis import strategies as st

from vdifs.formats.qcow2.extensions import Extension, ExtensionType, encode_name
from vdifs.formats.qcow2.header import Autoclear, Compatible, Header, Incompatible

L1_ENTRIES_MAX = (32 << 20) // 8
REFCOUNT_TABLE_MAX = 8 << 20
U64 = st.integers(0, (1 << 64) - 1)
U32 = st.integers(0, (1 << 32) - 1)

backing_names = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=40)
odd_names = (
    st.binary(min_size=1, max_size=40)
    .filter(lambda name: 0 not in name)
    .map(lambda name: name.decode("utf-8", "surrogateescape"))
)


@st.composite
def extensions(draw: st.DrawFn) -> Extension:
    """Draw a header extension of a known or an unknown type."""
    any_type = st.one_of(st.sampled_from(sorted(ExtensionType)), st.integers(1, (1 << 32) - 1))
    kind = draw(any_type.filter(lambda kind: kind != ExtensionType.LUKS_HEADER))  # which encrypted images alone have
    longest = 15 if kind == ExtensionType.BACKING_FORMAT else 60
    return Extension(kind, draw(st.binary(max_size=longest)))


def aligned(cluster_bits: int, last: int) -> st.SearchStrategy[int]:
    """Draw a table's offset: a multiple of the cluster size, at most `last`."""
    return st.integers(0, last >> cluster_bits).map(lambda index: index << cluster_bits)


@st.composite
def v3_fields(draw: st.DrawFn, cluster_bits: int) -> dict[str, int]:
    """Draw the fields that version 3 added, in accord with each other."""
    allowed = [Incompatible.DIRTY, Incompatible.DATA_FILE]
    if cluster_bits >= 14:
        allowed.append(Incompatible.EXTENDED_L2)
    incompatible = sum(draw(st.sets(st.sampled_from(allowed))))
    length = draw(st.sampled_from([104, 105, 112, 120]))
    compression_type = draw(st.integers(0, 1)) if length > 104 else 0
    if compression_type:
        incompatible |= Incompatible.COMPRESSION_TYPE
    return {
        "incompatible_features": int(incompatible),
        "compatible_features": draw(st.one_of(st.just(int(Compatible.LAZY_REFCOUNTS)), U64)),
        "autoclear_features": draw(st.one_of(st.just(int(sum(Autoclear))), U64)),
        "refcount_order": draw(st.integers(0, 6)),
        "header_length": length,
        "compression_type": compression_type,
    }


@st.composite
def headers(draw: st.DrawFn) -> Header:
    """Draw a valid header."""
    version = draw(st.sampled_from([2, 3]))
    bits = draw(st.integers(9, 21))
    v3 = draw(v3_fields(bits)) if version == 3 else {"header_length": 72}
    extended = bool(v3.get("incompatible_features", 0) & Incompatible.EXTENDED_L2)
    coverage = ((1 << bits) // (16 if extended else 8)) << bits
    l1_size = draw(st.integers(0, L1_ENTRIES_MAX))
    names = tuple(draw(st.lists(extensions(), max_size=3)))
    name = draw(st.one_of(st.none(), backing_names, odd_names))
    size = len(encode_name(name)) if name else draw(U32)
    end = v3["header_length"] + sum(8 + -(-len(e.data) // 8) * 8 for e in names) + 8
    offset = draw(st.integers(end, end + 16)) if name else 0
    if offset + size > 1 << bits and name:
        names, name, offset = (), None, 0
    return Header(
        version=version,
        backing_file_offset=offset,
        backing_file_size=size,
        cluster_bits=bits,
        size=draw(st.integers(0, l1_size * coverage)),
        crypt_method=0,
        l1_size=l1_size,
        l1_table_offset=draw(aligned(bits, (1 << 63) - 1 - l1_size * 8)),
        refcount_table_offset=draw(aligned(bits, (1 << 63) - 1 - REFCOUNT_TABLE_MAX)),
        refcount_table_clusters=draw(st.integers(1, REFCOUNT_TABLE_MAX >> bits)),
        nb_snapshots=draw(st.integers(0, 65536)),
        snapshots_offset=draw(aligned(bits, 1 << 62)),
        extensions=names,
        backing_file=name,
        **v3,
    )


@st.composite
def damaged_heads(draw: st.DrawFn) -> bytes:
    """Draw the first bytes of a valid image, some of them replaced, perhaps cut short."""
    head = bytearray(draw(headers()).pack().ljust(512, b"\0"))
    for _ in range(draw(st.integers(1, 4))):
        patch = draw(st.one_of(st.binary(min_size=1, max_size=8), st.sampled_from([b"\xff" * 8, bytes(8), b"\x7f"])))
        at = draw(st.integers(0, 127))
        head[at : at + len(patch)] = patch
    return bytes(head[: draw(st.sampled_from([512, 512, 104, 103, 72, 71, 4, 3, 0]))])
