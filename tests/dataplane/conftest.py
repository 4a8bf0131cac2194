"""What the tests of the data plane share."""

from collections.abc import Iterator

import pytest

from tests.dataplane.wired import Wired, wired


@pytest.fixture
def plane() -> Iterator[Wired]:
    """A plane that runs, of which nothing is published."""
    with wired() as made:
        yield made
