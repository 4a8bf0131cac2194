"""The generator of random chains: the same seed makes the same chain, and forty seeds leave no feature out."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from tests.support import oracle, stamps
from tests.support.chains import Shape, SourceChain, make_chain
from tests.support.units import MIB

OPERATIONS = [
    "write -s", "write -P 0", "write -z ", "write -z -u", "discard", "truncate",
    "'compat': '0.10'", "'refcount_bits': 1,", "'refcount_bits': 64", "lazy_refcounts",
    "'preallocation': 'metadata'", "'preallocation': 'falloc'", "'preallocation': 'full'", "rebase -u",
    "backing ('/", "backing ('../", "raw ",
    "punch_hole", "dig_holes", "cut_last_cluster", "virtual_size_in_header", "forget_backing_format",
]  # fmt: skip


@pytest.mark.timeout(300)
def test_forty_seeds_leave_no_feature_out(tmp_path: Path) -> None:
    cluster_sizes = [f"cluster size {1 << bits}" for bits in range(9, 22)]
    depths = [f"depth {depth}" for depth in range(1, 9)]
    sizes = ["longer overlay", "shorter overlay", "shorter in the middle", "odd raw base", "mixed cluster sizes"]
    missing = {*OPERATIONS, *cluster_sizes, *depths, *sizes}
    for seed in range(40):
        missing -= set(features(make_chain(tmp_path / f"chain{seed}", seed)))
        if not missing:
            break
    assert missing == set()


def test_ten_seeds_of_compressed_chains_have_all_kinds_of_clusters(tmp_path: Path) -> None:
    shape = Shape(depth=range(2, 6), largest_disk=MIB, compressed=True, extended_l2=True)
    chains = [make_chain(tmp_path / f"chain{seed}", seed, shape) for seed in range(10)]
    recipes = "\n".join(line for chain in chains for line in chain.recipe)
    wanted = ["write -c", "'compression_type': 'zstd'", "'extended_l2': 'on'"]
    assert [name for name in wanted if name not in recipes] == []


def features(chain: SourceChain) -> Iterator[str]:
    """Yield what a chain has to offer, each thing once or more."""
    text = "\n".join(chain.recipe)
    yield from (operation for operation in OPERATIONS if operation in text)
    yield f"depth {len(chain.images)}"
    cluster_sizes = {image.cluster_size for image in chain.images if image.cluster_size}
    yield from (f"cluster size {size}" for size in cluster_sizes)
    if len(cluster_sizes) > 2:
        yield "mixed cluster sizes"
    sizes = [image.virtual_size for image in chain.images]
    for above, below in pairwise(sizes):
        yield "longer overlay" if above > below else "shorter overlay" if above < below else "overlay of equal size"
    if any(top > middle < base for top, middle, base in zip(sizes, sizes[1:], sizes[2:], strict=False)):
        yield "shorter in the middle"
    if chain.images[-1].format == "raw" and chain.images[-1].path.stat().st_size % 512:
        yield "odd raw base"


@pytest.mark.seeds(6)
def test_equal_seeds_give_equal_chains(tmp_path: Path, seed: int) -> None:
    first, second = make_chain(tmp_path / "first", seed), make_chain(tmp_path / "second", seed)
    assert first.recipe == tuple(line.replace(str(second.folder), str(first.folder)) for line in second.recipe)
    for left, right in zip(first.images, second.images, strict=True):
        oracle.compare(left.path, right.path, left_format=left.format, right_format=right.format)


def test_a_stamp_tells_which_block_a_wrong_byte_belongs_to() -> None:
    wanted = stamps.stamped(0x1000, 1024, 7)
    found = wanted[:512] + stamps.stamped(0x8000, 512, 3)
    message = stamps.difference(found, wanted, 0x1000)
    assert message == "blocks 0x9 to 0x9: found generation 0x3 of block 0x40, wanted generation 0x7 of block 0x9"


def test_a_stamped_range_is_a_slice_of_the_stamped_disk() -> None:
    disk = stamps.stamped(0, 4096, 5)
    assert stamps.stamped(511, 1003, 5) == disk[511:1514]
