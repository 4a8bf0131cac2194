"""The tables of open images have a budget, which owners share."""

import errno
from typing import cast

import pytest

from tests.mount.fakes import FakeImage
from vdifs.errors import VdifsError
from vdifs.mount.serving.images.memory_budget import MOST_BYTES, check_budget, exceeds_budget
from vdifs.mount.serving.images.open_image import OpenImage
from vdifs.output.image import Image


def with_tables(size: int, owner: int = 0, key: object = None) -> OpenImage:
    image = FakeImage()
    image.tables = {key or image: size}
    return OpenImage(1, cast(Image, image), frozenset({1}), owner=owner)


def test_one_image_alone_may_be_as_large_as_it_is() -> None:
    check_budget(with_tables(2 * MOST_BYTES), [])


def test_small_images_may_always_be_opened() -> None:
    check_budget(with_tables(1000), [with_tables(2 * MOST_BYTES)])


def test_the_one_image_too_many_is_refused() -> None:
    in_use = [with_tables(MOST_BYTES // 4) for _ in range(4)]
    check_budget(in_use[0], in_use[1:])
    with pytest.raises(VdifsError, match="close some") as refused:
        check_budget(with_tables(MOST_BYTES // 4), in_use)
    assert refused.value.errno == errno.ENOMEM


def test_what_images_share_counts_once() -> None:
    check_budget(with_tables(MOST_BYTES // 4, key="l1"), [with_tables(MOST_BYTES // 4, key="l1") for _ in range(1000)])


def test_an_owner_who_takes_little_need_not_wait_for_one_who_takes_much() -> None:
    in_use = [with_tables(MOST_BYTES // 4, owner=1) for _ in range(4)]
    check_budget(with_tables(MOST_BYTES // 4, owner=2), in_use)
    with pytest.raises(VdifsError, match="close some"):
        check_budget(with_tables(MOST_BYTES // 4, owner=1), in_use)


def test_large_idle_images_are_closed_where_there_is_no_room() -> None:
    small, large = with_tables(1000), with_tables(MOST_BYTES)
    assert not exceeds_budget([small, large], [small])
    assert not exceeds_budget([large], [large])
    assert exceeds_budget([small, large], [large])
