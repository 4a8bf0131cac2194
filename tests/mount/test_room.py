"""The tables of open images have their room, which owners share."""

import errno
from typing import cast

import pytest

from tests.mount.fakes import FakeImage
from vdifs.errors import VdifsError
from vdifs.mount.serving.memory import MOST_BYTES, check_room, is_crowded
from vdifs.mount.serving.open_image import Slot
from vdifs.output.image import Image


def slot(size: int, owner: int = 0, key: object = None) -> Slot:
    image = FakeImage()
    image.tables = {key or image: size}
    return Slot(1, cast(Image, image), frozenset({1}), owner=owner)


def test_one_image_alone_may_be_as_large_as_it_is() -> None:
    check_room(slot(2 * MOST_BYTES), [])


def test_small_images_may_always_be_opened() -> None:
    check_room(slot(1000), [slot(2 * MOST_BYTES)])


def test_the_one_image_too_many_is_refused() -> None:
    in_use = [slot(MOST_BYTES // 4) for _ in range(4)]
    check_room(in_use[0], in_use[1:])
    with pytest.raises(VdifsError, match="close some") as refused:
        check_room(slot(MOST_BYTES // 4), in_use)
    assert refused.value.errno == errno.ENOMEM


def test_what_images_share_counts_once() -> None:
    check_room(slot(MOST_BYTES // 4, key="l1"), [slot(MOST_BYTES // 4, key="l1") for _ in range(1000)])


def test_an_owner_who_takes_little_need_not_wait_for_one_who_takes_much() -> None:
    in_use = [slot(MOST_BYTES // 4, owner=1) for _ in range(4)]
    check_room(slot(MOST_BYTES // 4, owner=2), in_use)
    with pytest.raises(VdifsError, match="close some"):
        check_room(slot(MOST_BYTES // 4, owner=1), in_use)


def test_large_idle_images_are_closed_where_there_is_no_room() -> None:
    small, large = slot(1000), slot(MOST_BYTES)
    assert not is_crowded([small, large], [small])
    assert not is_crowded([large], [large])
    assert is_crowded([small, large], [large])
