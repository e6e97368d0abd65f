"""Tests with real processes: a function runs on every rank of a group that is started for it.

    @distributed(n=2, timeout=20)
    def test_sum():
        tensor = torch.ones(3) * dist.get_rank()
        dist.all_reduce(tensor)
        assert tensor.tolist() == [1, 1, 1]

A failure on any rank fails the test with that rank's traceback; a test that takes too long is
ended, with the Python stacks of every rank in the message.
"""

from __future__ import annotations

import functools
import importlib.util
import inspect
import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Outcome:
    """How a run ended.

    code: the exit code that disttorch-run would have; said: what it printed; failed_rank: the
    culprit's or None; results: what the function returned, by rank; stacks: of all ranks, if the
    run took too long.
    """

    code: int
    said: str
    failed_rank: int | None
    results: dict[int, Any] = field(default_factory=dict)
    stacks: str = ""


def launch(
    function: Callable[..., Any],
    n: int,
    timeout: float = 20.0,
    environment: Mapping[str, str] | None = None,
    join: bool = True,
    grace: float = 5.0,
    **arguments: Any,
) -> Outcome:
    """Run `function(**arguments)`, from the top level of its file, on `n` ranks and say how it went.

    What it takes and returns must be what `all_gather_object` can send, at most 60 KB. timeout:
    seconds, for all of it; environment: variables to add; join: whether the ranks are in a process
    group when the function begins.
    """
    from disttorch.distributed import objects
    from disttorch_run.agent import Agent, Options
    from disttorch_run.placement import plan

    said: list[str] = []
    where = inspect.getsourcefile(function)
    assert where is not None
    options = Options(
        command=[
            "module",
            __name__,
            where,
            function.__name__,
            str(int(join)),
            objects.dumps(arguments).hex(),
        ],
        placements=plan(str(n), oversubscribe=True),
        oversubscribed=n > len(os.sched_getaffinity(0)),
        limit=timeout,
        grace=grace,
        environment={**os.environ, **(environment or {})},
        say=said.append,
    )
    agent = Agent(options)
    code = agent.run()
    if code == 128 + signal.SIGINT:
        raise KeyboardInterrupt
    results = {rank: objects.loads(data) for rank, data in sorted(agent.results.items())}
    culprit = None if agent.failure is None else agent.failure.rank
    return Outcome(code, "\n".join(said), culprit, results, agent.stacks)


def run(function: Callable[..., Any], n: int, timeout: float = 20.0, **details: Any) -> list[Any]:
    """Run a function on `n` ranks and return what it returned on each; AssertionError if any rank failed."""
    outcome = launch(function, n, timeout, **details)
    if outcome.code == 124:
        raise AssertionError(f"{function.__name__} on {n} ranks took more than {timeout:g} s\n{outcome.stacks}")
    if outcome.code != 0:
        raise AssertionError(f"{function.__name__} failed on rank {outcome.failed_rank} of {n}\n{outcome.said}")
    return [outcome.results[rank] for rank in range(n)]


def distributed(
    n: int, timeout: float = 20.0, environment: Mapping[str, str] | None = None
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a test run on `n` ranks, in a process group; its parameters come from pytest."""

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def test(**arguments: Any) -> None:
            run(function, n, timeout, environment=environment, **arguments)

        return test

    return decorate


def main(path: str, name: str, join: str, packed: str) -> None:
    """Be one rank: load the function and run it."""
    import disttorch.distributed as dist
    from disttorch.distributed import agent_link, objects
    from disttorch.testing import _pytest

    _pytest.stand_in()
    spec = importlib.util.spec_from_file_location("distributed_test", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["distributed_test"] = module
    spec.loader.exec_module(module)
    function = inspect.unwrap(getattr(module, name))
    if join == "1":
        dist.init_process_group()
    result = function(**objects.loads(bytes.fromhex(packed)))
    agent_link.connect().send("result", data=objects.dumps(result))
    if dist.is_initialized():
        dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
