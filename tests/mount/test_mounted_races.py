"""Many at once: listers, those who look, those who open. The size is always right, and each image is opened once."""

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.mount import images
from tests.mount.mounting import Mounts

COPIES = 40


def test_listing_stat_and_open_never_show_a_wrong_size(mounts: Mounts, source: Path) -> None:
    for number in range(COPIES):
        shutil.copy(source / "base.qcow2", source / f"copy{number}.qcow2")
    mounted = mounts(source)
    folder = mounted / "raw"
    names = [f"copy{number}.qcow2.raw" for number in range(COPIES)]

    def list_all(rounds: int) -> None:
        for _ in range(rounds):
            with os.scandir(folder) as entries:
                assert len(list(entries)) == COPIES + 3

    def look(rounds: int) -> None:
        for number in range(rounds):
            assert os.stat(folder / names[number % COPIES]).st_size == images.SIZE

    def read(rounds: int) -> None:
        for number in range(rounds):
            descriptor = os.open(folder / names[number * 7 % COPIES], os.O_RDONLY)
            assert os.lseek(descriptor, 0, os.SEEK_END) == images.SIZE
            assert len(os.pread(descriptor, 4096, images.SIZE - 2048)) == 2048
            os.close(descriptor)

    with ThreadPoolExecutor(8) as pool:
        work = [pool.submit(list_all, 100) for _ in range(3)]
        work += [pool.submit(look, 1500) for _ in range(2)]
        work += [pool.submit(read, 1500) for _ in range(3)]
        for each in work:
            each.result()


def test_an_image_that_many_open_at_once_is_opened_once(mounts: Mounts, source: Path) -> None:
    mounted = mounts(source)
    with ThreadPoolExecutor(16) as pool:
        descriptors = list(pool.map(lambda _: os.open(mounted / "full/tuesday.qcow2", os.O_RDONLY), range(64)))
    status = mounted.status()
    assert status["images_open"] == 1
    assert len(status["open_files"]) == 64
    for descriptor in descriptors:
        os.close(descriptor)


def test_descriptors_do_not_pile_up(mounts: Mounts, source: Path) -> None:
    for number in range(COPIES):
        shutil.copy(source / "base.qcow2", source / f"copy{number}.qcow2")
    mounted = mounts(source)
    for _ in range(3):
        for found in mounted.path.rglob("*.qcow2*"):
            found.stat()
    assert mounted.status()["images_open"] <= 16
    assert len(os.listdir(f"/proc/{mounted.pid}/fd")) < 100
