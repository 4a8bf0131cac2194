"""Every test here needs QEMU's tools."""

import pytest

from tests.conftest import require_tool


@pytest.fixture(autouse=True)
def qemu_tools() -> None:
    require_tool("qemu-img")
    require_tool("qemu-io")
