"""What may be asked of an output, and that what makes no sense is refused before anything is opened."""

from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

import vdifs
from tests.conftest import require_tool
from tests.support.builder import make
from vdifs.chain.naming import ImageName
from vdifs.errors import UsageError
from vdifs.output.opening import OUTPUTS
from vdifs.output.process_caches import summary_cache
from vdifs.output.spec import OutputSpec
from vdifs.output.view import View

TIB = 1 << 40


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"view": "vdi"}, "view='vdi': give 'qcow2' or 'raw' or 'vhd' or 'vhd-fixed'"),
        ({"base": 3}, "base=3: give a file name"),
        ({"base": ImageName("a\0b")}, "give a file name, which has no NUL in it"),
        ({"view": "raw", "base": "base.qcow2"}, "a raw view has no base: leave out the base, or ask for a qcow2"),
        ({"view": "vhd", "base": "base.qcow2"}, "a vhd view has no base: leave out the base, or ask for a qcow2"),
        ({"cluster_size": "64k"}, "cluster_size='64k': give an integer"),
        ({"cluster_size": 256}, "cluster size 256: give a power of two from 512 to 2097152"),
        ({"cluster_size": 65535}, "cluster size 65535: give a power of two from 512 to 2097152"),
        ({"cluster_size": 4 << 20}, "cluster size 4194304: give a power of two from 512 to 2097152"),
        ({"backing_name": "x"}, "a full image has no backing file to be named: give a base too"),
        ({"extended_l2": 1}, "extended_l2=1: give True or False"),
    ],
)
def test_a_wrong_spec_cannot_be_made(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        OutputSpec(**fields)
    assert said in str(caught.value)
    with pytest.raises(UsageError):
        replace(OutputSpec(), **fields)


def test_values_of_other_libraries_become_those_of_python() -> None:
    fields: dict[str, Any] = {
        "cluster_size": np.int32(16384),
        "extended_l2": np.True_,
        "backing_name": b"b",
        "base": b"b",
    }
    spec = OutputSpec(**fields)
    assert spec == OutputSpec(cluster_size=16384, extended_l2=True, backing_name="b", base="b")
    assert [type(each) for each in (spec.cluster_size, spec.extended_l2, spec.backing_name)] == [int, bool, str]


def test_each_view_that_can_be_asked_for_has_its_output() -> None:
    assert set(OUTPUTS) == set(get_args(View))


@pytest.fixture
def huge(tmp_path: Path) -> Path:
    """A disk of which an L1 table of clusters of 512 bytes would be too large."""
    require_tool("qemu-img")
    make(tmp_path / "huge.qcow2", TIB, "write -P 1 1000G 64k")
    return tmp_path / "huge.qcow2"


def test_a_raw_output_has_no_tables_that_could_be_too_large(huge: Path) -> None:
    with pytest.raises(UsageError, match="clusters of 512 bytes are too small for a disk of"):
        vdifs.open(huge, cluster_size=512)
    with vdifs.open(huge, view="raw", cluster_size=512) as image:
        assert (image.size, image.size_if_full, image.allocated) == (TIB, TIB, 64 << 10)
        assert image.read_at((1000 << 30) - 1, 3) == b"\0\1\1"


def test_what_was_counted_for_a_raw_output_is_not_taken_for_the_tables_of_a_qcow2(huge: Path) -> None:
    def opened(*views: Any) -> tuple[int, bytes]:
        summary_cache.start_anew()
        for view in views[:-1]:
            vdifs.open(huge, view=view).close()
        with vdifs.open(huge, view=views[-1]) as image:
            return image.size, image.read_at(0, 1 << 20)

    assert opened("raw", "qcow2") == opened("qcow2")
    assert opened("qcow2", "raw") == opened("raw")
