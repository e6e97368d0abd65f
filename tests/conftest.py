"""What all tests share."""

from __future__ import annotations

import gc


def pytest_collection_finish() -> None:
    """Leave what importing and collecting have made out of garbage collections: many tests wait for one."""
    gc.collect()
    gc.freeze()
