"""What all tests share."""

from __future__ import annotations

import gc
import os
import sys
import tempfile
from pathlib import Path

import pytest

# Where tests run side by side (pytest-xdist), each of them has one core; to be said before NumPy is loaded.
if "PYTEST_XDIST_WORKER" in os.environ:
    for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(_variable, "1")

_HERE = Path(__file__).parent
_WITH_PROCESSES = _HERE / "distributed", _HERE / "launcher"

# Hundreds of processes that the tests start import disttorch. Where Python is told not to keep what it compiles next to
# the sources, each of them would compile all of it; they share a folder that goes with this run.
_bytecode: tempfile.TemporaryDirectory[str] | None = None


def pytest_configure() -> None:
    """Let the processes that the tests start keep what they compile."""
    global _bytecode
    if os.environ.pop("PYTHONDONTWRITEBYTECODE", None):
        _bytecode = tempfile.TemporaryDirectory(prefix="disttorch-tests-")
        os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix = _bytecode.name
        sys.dont_write_bytecode = False


@pytest.hookimpl(trylast=True)
def pytest_unconfigure() -> None:
    """Remove what they compiled."""
    if _bytecode is not None:
        _bytecode.cleanup()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that start ranks, before tests are chosen by their marks."""
    for item in items:
        if any(folder in item.path.parents for folder in _WITH_PROCESSES):
            item.add_marker("processes")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Fail a test whose name changes by chance: pytest-xdist wants the same names in all its processes."""
    if " at 0x" in item.nodeid:
        pytest.fail("the test's name holds an address: name its parameters with pytest.param's id", pytrace=False)


def pytest_collection_finish() -> None:
    """Leave what importing and collecting have made out of garbage collections: many tests wait for one."""
    gc.collect()
    gc.freeze()
