"""The oracle is strict where QEMU's tools are lax."""

from pathlib import Path

import pytest

from tests.support import oracle
from tests.support.builder import make
from tests.support.units import KIB, MIB


@pytest.mark.parametrize("longer", [0, 512, MIB])
@pytest.mark.parametrize("written", [[], ["write -P 1 0 64k"]])
def test_images_that_differ_in_size_or_in_bytes_are_not_the_same(
    tmp_path: Path, longer: int, written: list[str]
) -> None:
    left = make(tmp_path / "left.qcow2", MIB, "write -P 1 0 64k").path
    right = make(tmp_path / "right.qcow2", MIB + longer, *written, cluster_size=4 * KIB).path
    if written and not longer:
        oracle.compare(left, right)
        return
    with pytest.raises(oracle.OracleError, match="mismatch"):
        oracle.compare(left, right)
    with pytest.raises(oracle.OracleError, match="mismatch"):
        oracle.compare(right, left)
