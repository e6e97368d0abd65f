"""What the tests of distributed code share."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from disttorch.distributed import store_client


@pytest.fixture(scope="module", autouse=True)
def _no_threads_of_stores_are_left() -> Iterator[None]:
    """End ZeroMQ's threads, which a process keeps for its next store: data loaders do not fork where there are any."""
    yield
    context = store_client._contexts.pop(os.getpid(), None)
    if context is not None:
        context.destroy(linger=0)
