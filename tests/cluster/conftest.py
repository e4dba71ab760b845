"""Each test of this package leaves no world behind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster.leaseworld import bury_worlds


@pytest.fixture(autouse=True)
def no_world_is_left() -> Iterator[None]:
    """Worlds end with the test that made them."""
    yield
    bury_worlds()
