"""What the tests of loaders share: a world of several ranks in one process, and checks that nothing is left behind."""

from __future__ import annotations

import contextlib
import gc
import os
import time
from pathlib import Path

import pytest

from disttorch.utils.data import sharding

DEADLINE = 15.0


def pytest_collection_modifyitems(items):
    """Let the tests use two workers where there is one core."""
    for item in items:
        item.add_marker(pytest.mark.filterwarnings("ignore:This DataLoader will create"))


def children(pid: int | None = None) -> set[int]:
    """Return the running child processes of a process."""
    parent = os.getpid() if pid is None else pid
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, ValueError):
                state, ppid = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
                if int(ppid) == parent and state != "Z":
                    found.add(int(entry.name))
    return found


def segments() -> set[str]:
    """Return the descriptors of this process that are shared-memory segments of disttorch."""
    found = set()
    for fd in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            if "memfd:disttorch" in os.readlink(fd):
                found.add(fd.name)
    return found


def wait_until(condition, seconds: float = DEADLINE) -> bool:
    """Return whether `condition()` has become true in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return False


@pytest.fixture(autouse=True)
def _nothing_left_behind():
    gc.collect()
    before = children(), segments()
    yield
    gc.collect()
    assert wait_until(lambda: children() <= before[0]), f"processes left behind: {children() - before[0]}"
    assert segments() <= before[1], "shared-memory segments left behind"


class FakeWorld:
    """One of several ranks that run one after the other in this process, rank 0 first."""

    def __init__(self, rank: int, world_size: int, said: list[int]) -> None:
        self.rank = rank
        self.world_size = world_size
        self.said = said
        self.heard = 0

    def agree(self, value: int) -> int:
        if self.rank == 0:
            self.said.append(value)
        self.heard += 1
        return self.said[self.heard - 1]


@pytest.fixture
def on_ranks():
    """Return a function that calls `function(rank)` as each rank of a world and returns what each returned."""

    def run(world_size, function):
        said: list[int] = []
        results = []
        for rank in range(world_size):
            sharding.set_world(FakeWorld(rank, world_size, said))
            try:
                results.append(function(rank))
            finally:
                sharding.set_world(None)
        return results

    yield run
    sharding.set_world(None)


@pytest.fixture(params=["fork", "server"])
def start(request, monkeypatch):
    """Have workers started in each of the two ways that the loader chooses from."""
    reason = "" if request.param == "fork" else "a test wants it so"
    monkeypatch.setattr("disttorch.utils.data._utils.launch.why_not_fork", lambda: reason)
    return request.param


@pytest.fixture
def leftovers():
    """Return the functions `children` and `wait_until`."""
    return children, wait_until
