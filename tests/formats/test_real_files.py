"""Files that Windows, Virtual PC, Disk2vhd, VMware and QEMU's fuzzing made: QEMU's own sample images.

They are in QEMU's source, which no installation has: get it with `apt-get source qemu`, and name its folder in
`--qemu-source`. Nothing else needs them, CI neither.
"""

import bz2
from pathlib import Path

import pytest

import vdifs
from tests.conftest import require_tool
from tests.support import oracle
from vdifs.errors import FormatError

_SAMPLES = "tests/qemu-iotests/sample_images"
_BLOCK = 1 << 20
_READ = {
    "virtualpc-dynamic.vhd": ("vpc", 136_363_130_880),  # by its geometry
    "hyperv2012r2-dynamic.vhd": ("vpc", 136_365_211_648),
    "d2v-zerofilled.vhd": ("vpc", 263_454_720),
    "iotest-dynamic-1G.vhdx": ("vhdx", 1 << 30),
    "iotest-dirtylog-10G-4M.vhdx": ("vhdx", 10 << 30),
    "test-disk2vhd.vhdx": ("vhdx", 256 << 20),
    "iotest-version3.vmdk": ("vmdk", 16 << 30),
}


@pytest.fixture
def samples(request: pytest.FixtureRequest) -> Path:
    """Return the folder with the packed samples."""
    source: Path | None = request.config.getoption("--qemu-source")
    if source is None:
        pytest.skip("QEMU's sample images are not here: get them with apt-get source qemu, and name --qemu-source")
    folder = source / _SAMPLES
    assert folder.is_dir(), f"{source} is no folder with QEMU's source: there is no {_SAMPLES} in it"
    return folder


def unpacked(samples: Path, name: str, target: Path) -> Path:
    """Unpack a sample; blocks of zeros are holes."""
    with bz2.open(samples / f"{name}.bz2") as packed, target.open("wb") as file:
        for at, block in enumerate(iter(lambda: packed.read(_BLOCK), b"")):
            for within in range(0, len(block), 4096):
                if any(piece := block[within : within + 4096]):
                    file.seek(at * _BLOCK + within)
                    file.write(piece)
            file.truncate(at * _BLOCK + len(block))
    return target


@pytest.mark.parametrize("name", list(_READ))
def test_a_real_file_is_read_as_qemu_reads_it(name: str, samples: Path, tmp_path: Path) -> None:
    """The full image is what QEMU reads of the file itself, once it has replayed its log where there is one."""
    require_tool("qemu-img")
    known_as, size = _READ[name]
    image = unpacked(samples, name, tmp_path / name)
    with vdifs.open(image) as full, (tmp_path / "full.qcow2").open("wb") as file:
        for offset in range(0, full.size, _BLOCK):
            file.write(full.read_at(offset, _BLOCK))
    if "dirty" in name:
        oracle.qemu_img("check", "-q", "-r", "all", "-f", known_as, image)
    oracle.check(tmp_path / "full.qcow2")
    assert oracle.virtual_size(tmp_path / "full.qcow2") == size
    oracle.compare(image, tmp_path / "full.qcow2", left_format=known_as)


@pytest.mark.parametrize(
    ("name", "called", "why"), [("afl5.img", "afl5.vhd", "header"), ("afl9.vmdk", "afl9.vmdk", "header")]
)
def test_what_fuzzing_made_is_refused(name: str, called: str, why: str, samples: Path, tmp_path: Path) -> None:
    image = unpacked(samples, name, tmp_path / called)
    with pytest.raises(FormatError, match=why):
        vdifs.open(image)
