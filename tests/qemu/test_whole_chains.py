"""Chains made of synthetic files, and sources made of copies: what comes out is the same disk, to the byte."""

from pathlib import Path
from random import Random

import pytest

import vdifs
from tests.support import oracle
from tests.support.allocation import runs_with_data
from tests.support.chains import Shape, SourceChain, make_chain
from tests.support.units import KIB, MIB

RELATIVE = Shape(depth=range(2, 9), absolute_names=False)


@pytest.fixture
def chain(tmp_path: Path, seed: int) -> SourceChain:
    return make_chain(tmp_path / "source", seed, RELATIVE)


def incremental_chain(chain: SourceChain, folder: Path, cluster_size: int | None = None) -> list[Path]:
    """Copy a chain image by image, base first: the base as a full image, each other as the delta against the one below.

    A raw base stays raw, as the deltas on it say.
    """
    folder.mkdir()
    copies: list[Path] = []
    for index in reversed(range(len(chain.images))):
        image = chain.images[index]
        copies.append(folder / f"{len(copies)}.{image.format}")
        if image.format == "raw":
            copy_with_holes(image.path, copies[-1])
            continue
        base = chain.images[index + 1].path if copies[:-1] else None
        backing_name = copies[-2].name if base else None
        with vdifs.open(
            image.path, base=base, backing_name=backing_name, cluster_size=cluster_size, trusted=[chain.folder]
        ) as opened:
            copies[-1].write_bytes(b"".join(opened.stream()))
    return copies


@pytest.mark.seeds(8, long=80)
def test_an_incremental_chain_is_the_same_disk_at_each_of_its_images(chain: SourceChain, tmp_path: Path) -> None:
    with chain.explained():
        copies = incremental_chain(chain, tmp_path / "backup")
        for image, copy in zip(reversed(chain.images), copies, strict=True):
            oracle.compare(copy, image.path, left_format=image.format, right_format=image.format)
            if image.format == "qcow2":
                oracle.check(copy)


@pytest.mark.seeds(8, long=80)
def test_the_full_image_of_a_chain_of_deltas_is_the_full_image(tmp_path: Path, seed: int, rng: Random) -> None:
    """To the byte, if all disks and clusters are of one size; else what larger ones hold besides comes with them."""
    chain = make_chain(tmp_path / "source", seed, Shape(depth=range(2, 9), resizes=False))
    cluster_size = rng.choice([4 * KIB, 64 * KIB, MIB])
    with chain.explained():
        copies = incremental_chain(chain, tmp_path / "backup", cluster_size)
        for image, copy in zip(reversed(chain.images), copies, strict=True):
            if image.format == "qcow2":
                prove_same_file(
                    vdifs.open(image.path, cluster_size=cluster_size, trusted=[chain.folder]), vdifs.open(copy)
                )


@pytest.mark.seeds(8, long=80)
def test_a_copy_of_the_source_with_its_holes_gives_the_same_bytes(chain: SourceChain, tmp_path: Path) -> None:
    copied = tmp_path / "copied"
    for image in chain.images:
        copy_with_holes(image.path, copied / image.path.relative_to(chain.folder))
    with chain.explained():
        for index, base in chain.pairs():
            if chain.standalone(index):
                top, below = (chain.images[number].path.relative_to(chain.folder) for number in (index, base))
                prove_same_file(
                    *(vdifs.open(root / top, base=root / below, trusted=[root]) for root in (chain.folder, copied))
                )


def prove_same_file(left: vdifs.Image, right: vdifs.Image) -> None:
    """Prove that both have the same bytes, and close them."""
    with left, right:
        assert left.size == right.size
        assert all(one == other for one, other in zip(left.stream(), right.stream(), strict=True))


def copy_with_holes(source: Path, target: Path) -> None:
    """Copy a file; what was never written stays so."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with source.open("rb") as reader, target.open("wb") as writer:
        for start, end in runs_with_data(source):
            reader.seek(start)
            writer.seek(start)
            writer.write(reader.read(end - start))
        writer.truncate(source.stat().st_size)
