"""The feature matrix: whatever QEMU can write, crossed with everything else it can write, and proved by QEMU."""

import shutil
from pathlib import Path

import pytest

from tests.support.combinations import Combination, all_combinations, make, spread
from tests.support.proofs import prove_delta, prove_full, prove_info, prove_map, prove_map_down_to

ORDINARY = spread(150)
OTHERS = [combination for combination in all_combinations() if combination not in ORDINARY]


@pytest.mark.parametrize("combination", ORDINARY, ids=str)
def test_a_combination_of_features_is_what_qemu_says_it_is(combination: Combination, tmp_path: Path) -> None:
    prove(combination, tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("combination", OTHERS, ids=str)
def test_any_combination_of_features_is_what_qemu_says_it_is(combination: Combination, tmp_path: Path) -> None:
    prove(combination, tmp_path)


def prove(combination: Combination, folder: Path) -> None:
    """Prove the image of a combination, its base and an overlay: full images, deltas, measures, maps, information."""
    images = make(combination, folder / "source")
    base, image, top, output = images.base, images.image, images.top, folder / "output"
    try:
        prove_info(image)
        prove_map(image, image)
        prove_map(top, top)
        prove_map_down_to(top, image, 1)
        prove_full(image, output / "image.qcow2", like=image)
        prove_full(top, output / "top.qcow2", like=top)
        prove_delta(top, image, image, output / "top-on-image.qcow2", like=top)
        prove_delta(image, image, image, output / "image-on-itself.qcow2", like=image)
        if base is not None:
            prove_map(base, base, like_format=images.base_format)
            prove_map_down_to(top, base, 2)
            prove_full(base, output / "base.qcow2", like=base, like_format=images.base_format)
            prove_delta(image, base, base, output / "image-on-base.qcow2", like=image)
    except BaseException as error:
        error.add_note(f"{combination} in {folder}:\n" + "\n".join(images.recipe))
        raise
    shutil.rmtree(folder)  # the long form would fill the disk


def test_the_spread_has_each_two_values_that_can_meet() -> None:
    assert (len(ORDINARY), len(set(ORDINARY))) == (150, 150)
    assert len(OTHERS) + len(ORDINARY) >= 1500
