"""The self-test of `disttorch-run doctor`: real workers reduce numbers that are known, then time it.

Run as a module it is a worker; imported, it starts them.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from disttorch.distributed import futex
from disttorch.distributed.opening import SHARED_MEMORY, TCP, UNIX
from disttorch_run.layout import TRANSPORT_VARIABLE

SIZES = (1 << 10, 1 << 16, 1 << 20, 25_000_000)
TRANSPORTS = {"shared memory": SHARED_MEMORY, "messages": UNIX, "TCP": TCP}
_LIMIT_SECONDS = 60.0
_WARM_UP = 2
_MOST_TIMES = 200
# What a rank that fails on purpose raises, and how long the others may take to stop.
_BOOM = "failing on purpose"
_STOP_SECONDS = 2.0


@dataclass
class Result:
    """One run: its name, `error` (""; why it failed), and milliseconds per all-reduce for each size."""

    name: str
    error: str = ""
    milliseconds: list[float] = field(default_factory=list)


def world_sizes(cores: int) -> list[int]:
    """Return with how many ranks to test: 2, and 4 where there are as many cores."""
    return [2] if cores < 4 else [2, 4]


def run_all(seconds: float = 10.0, nbytes: Sequence[int] = SIZES) -> Iterator[Result]:
    """Run the self-test, in about so many seconds where the machine is idle; nbytes: what is timed."""
    sizes = world_sizes(len(os.sched_getaffinity(0)))
    transports = [name for name, kind in TRANSPORTS.items() if kind != SHARED_MEMORY or futex.available()]
    share = seconds / (len(sizes) * len(transports) + 1) / 2  # half of the time is starting up
    for ranks in sizes:
        for transport in transports:
            yield _measure(ranks, transport, share, nbytes)
    yield _fail_on_purpose()


def _launch(
    task: str, ranks: int, environment: dict[str, str], seconds: float = 0.0, nbytes: Sequence[int] = ()
) -> tuple[int, bytes, str]:
    """Run workers; return the exit code, what rank 0 has found and what was said."""
    from disttorch_run.agent import Agent, Options
    from disttorch_run.placement import capacity, plan

    said: list[str] = []
    options = Options(
        command=["module", "disttorch_run.selftest", task, str(seconds), *map(str, nbytes)],
        placements=plan(str(ranks), oversubscribe=True),
        oversubscribed=ranks > capacity(),
        limit=_LIMIT_SECONDS,
        grace=5.0,
        environment={**os.environ, **environment},
        say=said.append,
    )
    agent = Agent(options)
    code = agent.run()
    if code > 128 and agent.failure is None:
        raise KeyboardInterrupt
    return code, agent.results.get(0, b""), "\n".join([*said, agent.stacks]).strip()


def _measure(ranks: int, transport: str, seconds: float, nbytes: Sequence[int] = SIZES) -> Result:
    name = f"{ranks} ranks, {transport}"
    code, found, said = _launch("measure", ranks, {TRANSPORT_VARIABLE: TRANSPORTS[transport]}, seconds, nbytes)
    if code == 124:
        return Result(name, f"not done within {_LIMIT_SECONDS:g} s\n{said}")
    if code != 0 or not found:
        return Result(name, said or f"exit code {code}")
    return Result(name, milliseconds=json.loads(found))


def _fail_on_purpose() -> Result:
    """Let a rank raise; see that the other one hears of it and that the launcher blames the right one."""
    code, found, said = _launch("fail", 2, {})
    if code != 1 or "rank 1 " not in said.splitlines()[-1] or _BOOM not in said:
        return Result("a failure", f"rank 1 was made to fail, but disttorch-run ended with code {code}\n{said}")
    if not found:
        return Result("a failure", f"rank 1 failed, and rank 0 was not told why\n{said}")
    took = float(found)
    if took > _STOP_SECONDS:
        return Result("a failure", f"rank 0 stopped only {took:.1f} s after rank 1 had failed")
    return Result("a failure", milliseconds=[took * 1000])


# What the workers do


def main(task: str, seconds: str, *sizes: str) -> None:
    """Be one rank."""
    import disttorch.distributed as dist

    dist.init_process_group()
    if task == "fail":
        _fail()
    else:
        _check_results()
        found = [_time(int(size), float(seconds) / len(sizes)) for size in sizes]
        if dist.get_rank() == 0:
            _tell(json.dumps(found).encode())
    dist.destroy_process_group()


def _check_results() -> None:
    """Compare collectives with what must come out, exactly: all values are small whole numbers."""
    import disttorch.distributed as dist

    rank, size = dist.get_rank(), dist.get_world_size()
    for dtype in ("float32", "float64", "int64"):
        for count in (0, 1, 1000, 70_001, 600_001):
            own = (np.arange(count) % 13).astype(dtype)
            given = own + np.asarray(rank, dtype)
            dist.all_reduce(given)
            expected = own * size + size * (size - 1) // 2
            if not np.array_equal(given, expected):
                wrong = int(np.flatnonzero(given != expected)[0])
                raise AssertionError(
                    f"all_reduce of {count} {dtype}: element {wrong} is {given[wrong]}, not {expected[wrong]}"
                )
    everybody = [np.zeros(3) for _ in range(size)]
    dist.all_gather(everybody, np.full(3, float(rank)))
    if [one[0] for one in everybody] != list(range(size)):
        raise AssertionError(f"all_gather: {everybody}")
    told = np.full(5, float(rank))
    dist.broadcast(told, src=size - 1)
    if not np.array_equal(told, np.full(5, size - 1.0)):
        raise AssertionError(f"broadcast: {told}")


def _time(nbytes: int, seconds: float) -> float:
    """Return the median milliseconds of an all-reduce of float32; rank 0 decides how often it is done."""
    import disttorch.distributed as dist

    data = np.zeros(nbytes // 4, np.float32)
    times = []
    for _ in range(_WARM_UP):
        started = time.perf_counter()
        dist.all_reduce(data)
        times.append(time.perf_counter() - started)
    count = np.array([min(_MOST_TIMES, max(3, int(seconds / times[-1])))])
    dist.broadcast(count, src=0)
    times = []
    for _ in range(int(count[0])):
        started = time.perf_counter()
        dist.all_reduce(data)
        times.append(time.perf_counter() - started)
    return statistics.median(times) * 1000


def _fail() -> None:
    import disttorch.distributed as dist

    dist.barrier()
    failed_at = np.array([time.monotonic()])  # one clock for all processes of a host
    dist.broadcast(failed_at, src=1)
    if dist.get_rank() == 1:
        raise RuntimeError(_BOOM)
    try:
        dist.all_reduce(np.ones(3))
    except dist.PeerFailed as error:
        if error.rank == 1 and _BOOM in error.reason:
            _tell(str(time.monotonic() - failed_at[0]).encode())
        raise


def _tell(found: bytes) -> None:
    from disttorch.distributed import agent_link

    agent_link.connect().send("result", data=found)


if __name__ == "__main__":
    main(*sys.argv[1:])
