"""Windows that are counted together may begin within one L2 table of the output and end within the next."""

from pathlib import Path

import vdifs
from tests.support import oracle
from tests.support.builder import make

GIB = 1 << 30


def test_data_on_both_sides_of_an_l2_table_of_large_clusters(tmp_path: Path) -> None:
    source, copy = tmp_path / "a.qcow2", tmp_path / "copy.qcow2"
    make(
        source,
        640 * GIB,
        *[f"write -P {at % 250 + 1} {at // 2 * GIB + at % 2 * GIB // 2} 64k" for at in range(1010, 1040)],
    )
    with vdifs.open(source, cluster_size=2 << 20) as image, copy.open("wb") as file:
        for chunk in image.stream():
            file.write(chunk)
    oracle.check(copy)
    oracle.compare(copy, source)
