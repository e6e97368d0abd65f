"""The multi-process test harness itself."""

from __future__ import annotations

import sys
import time

import pytest

import disttorch.distributed as dist
from disttorch.testing.distributed import distributed, launch, run


@distributed(n=2)
def test_a_test_runs_on_every_rank() -> None:
    assert dist.get_world_size() == 2


@pytest.mark.parametrize("value", [(1, "x"), None])
@distributed(n=1)
def test_parameters_reach_the_ranks(value: object) -> None:
    assert value in ((1, "x"), None)


@pytest.mark.parametrize("nothing", [pytest.param(None, id="none")])
@pytest.mark.filterwarnings("error")
def raise_as_expected(nothing: None = None) -> list[bool]:
    was_loaded = "_pytest" in sys.modules
    with pytest.raises(ValueError, match="as expected"):
        raise ValueError("as expected")
    return [was_loaded, "_pytest" in sys.modules]


def test_a_rank_imports_pytest_when_it_uses_more_than_decorators() -> None:
    assert run(raise_as_expected, 1) == [[False, True]]


def fail_on_rank_1() -> None:
    assert dist.get_rank() == 0, "not on rank 1"
    dist.barrier()


def test_a_failure_on_one_rank_fails_the_test_with_its_traceback() -> None:
    with pytest.raises(AssertionError, match=r"(?s)failed on rank 1 of 2.*not on rank 1"):
        run(fail_on_rank_1, 2)


def hang_on_rank_1() -> None:
    if dist.get_rank() == 1:
        time.sleep(60)
    dist.barrier()


def test_a_hang_is_ended_with_the_stacks_of_every_rank() -> None:
    outcome = launch(hang_on_rank_1, 2, timeout=2)
    assert outcome.code == 124
    assert "rank 0 (pid" in outcome.stacks
    assert "in barrier" in outcome.stacks
    assert "in hang_on_rank_1" in outcome.stacks
