"""Big disks: long chains of mixed cluster sizes, and disks of terabytes that open fast and in little memory."""

import json
import subprocess
import sys
from itertools import cycle
from pathlib import Path
from random import Random

import pytest

import vdifs
from tests.support import oracle
from tests.support.allocation import SourceAllocation, held_clusters, unlike
from tests.support.builder import make
from tests.support.chains import SourceChain, SourceImage
from tests.support.stamps import stamped
from tests.support.units import GIB, KIB, MIB
from vdifs.output.export.exporting import export

TIB = 1 << 40
LENGTH = 12
OPEN_S = 2.0
MEMORY = 64 * MIB

SIZES = {
    "2GiB": (2 * GIB, (KIB, 64 * KIB, 2 * MIB)),
    "5GiB": (5 * GIB, (KIB, 64 * KIB, 2 * MIB)),  # offsets have more than 32 bits
    # So have the numbers of sectors; clusters of 1 KiB end at 512 GiB: the L1 table is 32 MiB then.
    "3TiB": (3 * TIB, (16 * KIB, 64 * KIB, 2 * MIB)),
}


def long_chain(folder: Path, size: int, cluster_sizes: tuple[int, ...]) -> SourceChain:
    """Make `1.qcow2 <- ... <- 12.qcow2`, each with a few writes, some over those below."""
    folder.mkdir()
    rng = Random(size)
    hot = [rng.randrange(size - MIB) // KIB * KIB for _ in range(8)]
    images: list[SourceImage] = []
    for number, cluster_size in zip(range(1, LENGTH + 1), cycle(cluster_sizes), strict=False):
        path = folder / f"{number}.qcow2"
        backing = (images[0].path.name, "qcow2") if images else None
        make(path, size, backing=backing, cluster_size=cluster_size)
        commands = []
        for index, start in enumerate([*rng.sample(hot, 3), rng.randrange(size - MIB), size - 512]):
            length = min(rng.randint(1, 100_000), size - start)
            pattern = folder.parent / f"pattern{number}.{index}"
            pattern.write_bytes(stamped(start, length, number))
            commands.append(f"write -s {pattern.name} {start} {length}")
        commands.append(f"write -z {rng.choice(hot)} 70000")
        oracle.qemu_io(path, commands, cwd=folder.parent)
        images.insert(0, SourceImage(path, "qcow2", cluster_size, size))
    return SourceChain(0, folder, tuple(images), ())


@pytest.fixture(scope="module", params=SIZES)
def chain(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> SourceChain:
    size, cluster_sizes = SIZES[request.param]
    return long_chain(tmp_path_factory.mktemp("long") / "source", size, cluster_sizes)


def index_of(number: int) -> int:
    """Return where the image called `number` is in the chain, top first."""
    return LENGTH - number


def prove(chain: SourceChain, file: Path, image: int, base: int | None) -> None:
    source = chain.images[image]
    assert source.cluster_size is not None
    oracle.check(file)
    oracle.compare(file, source.path)
    if source.virtual_size > TIB:
        return  # qemu-img map takes long for it, and the smaller disks have the same chain
    held = held_clusters(oracle.map_of(file), source.virtual_size, source.cluster_size)
    assert unlike(held, SourceAllocation(chain).wanted(image, base, source.cluster_size)) is None


@pytest.mark.timeout(600)
def test_the_ninth_of_twelve_images_is_exported_whole(chain: SourceChain, tmp_path: Path) -> None:
    image = index_of(9)
    with vdifs.open(chain.images[image].path) as opened:
        export(opened, str(tmp_path / "9.qcow2"))
        assert opened.size == (tmp_path / "9.qcow2").stat().st_size
    prove(chain, tmp_path / "9.qcow2", image, None)


@pytest.mark.timeout(600)
def test_the_twelfth_image_is_exported_against_the_eleventh(chain: SourceChain, tmp_path: Path) -> None:
    image, base = index_of(12), index_of(11)
    with vdifs.open(chain.images[base].path) as opened:
        export(opened, str(tmp_path / "11.qcow2"))
    with vdifs.open(chain.images[image].path, base=chain.images[base].path) as opened:
        export(opened, str(tmp_path / "12.qcow2"))
    assert oracle.info(tmp_path / "12.qcow2")["backing-filename"] == "11.qcow2"
    prove(chain, tmp_path / "12.qcow2", image, base)


@pytest.mark.timeout(600)
def test_the_fifth_image_against_itself_holds_no_data(chain: SourceChain, tmp_path: Path) -> None:
    image = index_of(5)
    path = chain.images[image].path
    with vdifs.open(path) as opened:
        export(opened, str(tmp_path / "5.qcow2"))
    with vdifs.open(path, base=path) as opened:
        assert opened.allocated == 0
        export(opened, str(tmp_path / "nothing.qcow2"))
    assert not any(extent.depth == 0 and extent.present for extent in oracle.map_of(tmp_path / "nothing.qcow2"))
    prove(chain, tmp_path / "nothing.qcow2", image, image)


MEASURE = """
import json, sys, time
import vdifs

def memory(field):
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith(field + ":"))

def read(path):
    begin = time.process_time()
    image = vdifs.open(path)
    seconds = time.process_time() - begin
    step = max(image.size // 200, 1)
    for offset in range(0, image.size, step):
        image.read_at(offset, 128 * 1024)
    return image, seconds

small = read(sys.argv[1])
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")  # the peak starts again from here
before = memory("VmRSS")
image, seconds = min((read(sys.argv[2]) for _ in range(3)), key=lambda found: found[1])
print(json.dumps({"seconds": seconds, "memory": memory("VmHWM") - before, "size": image.size}))
"""


def measured(small: Path, big: Path) -> dict[str, float]:
    """Open `big` in a process that has opened and read `small`: seconds to open, memory on top of it, size of the file.

    The seconds are of processor time, the best of three: other tests run beside this one, and the files are cached.
    """
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(small), str(big)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, float] = json.loads(done.stdout)
    return found


@pytest.fixture
def small(tmp_path: Path) -> Path:
    make(tmp_path / "small.qcow2", MIB, "write -P 1 0 64k")
    return tmp_path / "small.qcow2"


@pytest.mark.timeout(300)
def test_a_sparse_disk_of_64_tib_opens_fast_and_in_little_memory(tmp_path: Path, small: Path) -> None:
    big = tmp_path / "big.qcow2"
    make(big, 64 * TIB, *[f"write -P {1 + i} {i * 7 * TIB + i * 1000} {50_000 * i + 1}" for i in range(9)])
    found = measured(small, big)
    assert found["seconds"] < OPEN_S
    assert found["memory"] <= MEMORY


@pytest.mark.timeout(300)
def test_a_preallocated_disk_of_1_tib_opens_fast_and_its_full_image_is_small(tmp_path: Path, small: Path) -> None:
    big = tmp_path / "big.qcow2"
    make(
        big,
        TIB,
        *[f"write -P {1 + i} {i * 100 * GIB + i * 1000} {50_000 * i + 1}" for i in range(9)],
        preallocation="metadata",
    )
    found = measured(small, big)
    assert found["seconds"] < OPEN_S
    assert found["memory"] <= MEMORY
    assert found["size"] < 8 * MIB


@pytest.mark.parametrize("preallocation", ["metadata", "falloc"])
def test_a_preallocated_image_gives_the_same_file_whether_or_not_it_was_read(
    tmp_path: Path, preallocation: str
) -> None:
    """Reading brings unwritten ranges into the page cache, and SEEK_DATA calls them data from then on."""
    source = tmp_path / "source.qcow2"
    make(source, 64 * MIB, "write -P 7 5M 300k", "write -P 8 63M 1", preallocation=preallocation)
    with vdifs.open(source) as image:
        before = (image.size, image.etag)
    source.read_bytes()
    with vdifs.open(source) as image:
        assert (image.size, image.etag) == before
        assert image.size < 4 * MIB
