"""Freed memory stays with the process, unless the user has said what to do with it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

CODE = """
import resource
import disttorch
import numpy as np
def use():
    arrays = [np.ones(1_000_000 // 8) for _ in range(20)]
for _ in range(3):
    use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    use()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
PAGES = 10 * 20_000_000 // 4096


def faults(**settings: str) -> int:
    """Return how many pages the kernel had to provide for 200 MB of arrays in steps of 20 MB."""
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        env={**{k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}, **settings},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return int(done.stdout)


@pytest.mark.skipif(
    not hasattr(os, "confstr") or "glibc" not in (os.confstr("CS_GNU_LIBC_VERSION") or ""), reason="glibc"
)
def test_memory_is_used_again_unless_the_user_decides() -> None:
    assert faults() < PAGES / 20
    assert faults(MALLOC_TRIM_THRESHOLD_="131072", MALLOC_MMAP_THRESHOLD_="131072") > PAGES / 2
