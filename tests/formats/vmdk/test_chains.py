"""Random chains: what vdifs makes of them is the array of the same writes, and what other readers see."""

import random
from pathlib import Path

import pytest

from tests.support import oracle
from tests.support.seven_zip import by_7zip
from tests.support.vmdk_chains import make_chain
from tests.support.vmdk_reading import by_libvmdk, chain_of, qcow2, raw


@pytest.mark.seeds(30, long=300)
@pytest.mark.timeout(600)
def test_a_chain_is_the_disk_that_was_written(tmp_path: Path, rng: random.Random) -> None:
    made = make_chain(tmp_path, rng)
    wanted, top = made.disks[-1], tmp_path / made.names[-1]
    explained = "; ".join(made.how)
    with chain_of(top) as chain:
        assert [member.path for member in chain.members] == made.names[::-1]
        assert raw(chain) == wanted, explained
        full = qcow2(chain, tmp_path / "full.qcow2")
        oracle.check(full)
        assert oracle.materialize(full, tmp_path / "full.raw").read_bytes() == wanted, explained
        for base in range(1, len(chain.members)):
            with chain_of(tmp_path / made.names[-1 - base]) as below:
                assert raw(below) == made.disks[-1 - base], explained
                qcow2(below, tmp_path / f"base{base}.qcow2")
            delta = qcow2(chain, tmp_path / f"delta{base}.qcow2", base, f"base{base}.qcow2")
            oracle.check(delta)
            assert oracle.materialize(delta, tmp_path / "delta.raw").read_bytes() == wanted, explained
    if made.by_qemu:
        read = oracle.materialize(top, tmp_path / "qemu.raw", format="vmdk").read_bytes()
        assert read == wanted, f"QEMU: {explained}"
    if made.by_libvmdk:
        assert by_libvmdk(*(tmp_path / name for name in reversed(made.names))) == wanted, f"libvmdk: {explained}"
    if made.by_7zip:
        assert by_7zip(tmp_path / made.names[0], "vmdk") == made.disks[0], f"7-Zip: {explained}"
