"""A rank of the all-reduce benchmark: times one system and lets rank 0 write the result."""

from __future__ import annotations

import argparse
import math
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.all_reduce import SYSTEMS
from benchmarks.ranks import MEETING, write_answer

READINGS = 11
READING_SECONDS = 0.02
WARM_UP = 3
MOST_STEPS = 2000

Step = Callable[[], object]


class System(NamedTuple):
    """A way to reduce, joined by this rank."""

    version: str
    rank: int
    ranks: int
    prepare: Callable[[int], tuple[np.ndarray, Step]]  # elements -> the array that a step reduces in place, the step
    largest: Callable[[np.ndarray], object]  # replaces a float64 array by the largest values of all ranks
    leave: Step


def main() -> None:
    """Time every size and write {"version": ..., "cases": {bytes: times in µs}}, those of the slowest rank."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--system", choices=SYSTEMS, required=True)
    parser.add_argument("--op", choices=("sum", "avg"), required=True)
    parser.add_argument("--sizes", type=int, nargs="+", required=True)
    parser.add_argument("--folder", type=Path, required=True)
    args = parser.parse_args()
    join = {"gloo": join_gloo, "mpi": join_mpi}.get(args.system, join_disttorch)
    system = join(args.system, args.op == "avg", args.folder)
    cases = {}
    for size in args.sizes:
        array, step = system.prepare(size // 4)
        check(args.system, args.op, system, array, step)
        cases[size] = measure(step, system.largest)
    if system.rank == 0:
        write_answer(args.folder, {"version": system.version, "cases": cases})
    system.leave()


def check(name: str, op: str, system: System, array: np.ndarray, step: Step) -> None:
    """Take one step and look at its result, then leave zeros, which sums cannot let overflow."""
    array[:] = system.rank + 1
    step()
    expected = system.ranks * (system.ranks + 1) / 2
    if name == "copy":
        expected = system.rank + 1
    elif op == "avg" or name == "bucket":
        expected /= system.ranks
    if not (array == expected).all():
        raise RuntimeError(f"{name}: expected {expected} everywhere after an all-reduce, got {array}")
    array[:] = 0


def measure(step: Step, largest: Callable[[np.ndarray], object]) -> dict[str, float]:
    """Return the median and the minimum time of a step in µs; all ranks take the same number of steps."""
    for _ in range(WARM_UP):
        step()
    number = 1
    while (elapsed := seconds(step, number, largest)) < READING_SECONDS and number < MOST_STEPS:
        number = min(MOST_STEPS, max(2 * number, math.ceil(number * READING_SECONDS / elapsed)))
    readings = [1e6 * seconds(step, number, largest) / number for _ in range(READINGS)]
    return {"median": statistics.median(readings), "min": min(readings)}


def seconds(step: Step, number: int, largest: Callable[[np.ndarray], object]) -> float:
    """Return how long `number` steps take the slowest rank; all begin at the same time."""
    taken = np.zeros(1)
    largest(taken)
    start = time.perf_counter()
    for _ in range(number):
        step()
    taken[0] = time.perf_counter() - start
    largest(taken)
    return float(taken[0])


def join_disttorch(name: str, average: bool, folder: Path) -> System:
    """Join the ranks with disttorch, also to time the copy."""
    import disttorch
    import disttorch.distributed as dist

    disttorch.set_num_threads(1)
    dist.init_process_group()
    op = dist.ReduceOp.AVG if average else dist.ReduceOp.SUM

    def copy(count: int) -> tuple[np.ndarray, Step]:
        source, target = touched(count), touched(count)
        return source, lambda: np.copyto(target, source)

    def bucket(count: int) -> tuple[np.ndarray, Step]:
        reducer = dist.Reducer(["gradient"], [np.empty(count, np.float32)], first_bucket_bytes=4 * count)
        view = reducer.view(0)

        def step() -> None:
            reducer.mark_ready(0, view)
            reducer.finalize()

        return view, step

    def tensor(count: int) -> tuple[np.ndarray, Step]:
        values = disttorch.from_numpy(touched(count))
        return values.numpy(), lambda: dist.all_reduce(values, op)

    return System(
        f"disttorch {disttorch.__version__}",
        dist.get_rank(),
        dist.get_world_size(),
        {"copy": copy, "bucket": bucket}.get(name, tensor),
        lambda values: dist.all_reduce(values, dist.ReduceOp.MAX),
        dist.destroy_process_group,
    )


def join_gloo(name: str, average: bool, folder: Path) -> System:
    """Join the ranks with PyTorch over Gloo, which has no average: it sums and then divides."""
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    rank, ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    dist.init_process_group("gloo", init_method=f"file://{folder / MEETING}", rank=rank, world_size=ranks)

    def tensor(count: int) -> tuple[np.ndarray, Step]:
        values = torch.from_numpy(touched(count))

        def step() -> None:
            dist.all_reduce(values)
            if average:
                values.div_(ranks)

        return values.numpy(), step

    def largest(values: np.ndarray) -> None:
        dist.all_reduce(torch.from_numpy(values), dist.ReduceOp.MAX)

    return System(f"torch {torch.__version__}", rank, ranks, tensor, largest, dist.destroy_process_group)


def join_mpi(name: str, average: bool, folder: Path) -> System:
    """Join the ranks with mpi4py, which has no average either; pin this one as disttorch-run would."""
    import mpi4py
    from mpi4py import MPI

    world = MPI.COMM_WORLD
    rank, ranks = world.Get_rank(), world.Get_size()
    cores = sorted(os.sched_getaffinity(0))
    if ranks <= len(cores):
        os.sched_setaffinity(0, [cores[rank]])

    def tensor(count: int) -> tuple[np.ndarray, Step]:
        values = touched(count)

        def step() -> None:
            world.Allreduce(MPI.IN_PLACE, values, op=MPI.SUM)
            if average:
                np.divide(values, ranks, out=values)

        return values, step

    def largest(values: np.ndarray) -> Any:
        world.Allreduce(MPI.IN_PLACE, values, op=MPI.MAX)

    library = " ".join(MPI.Get_library_version().split("\n")[0].split()[:3])
    return System(f"mpi4py {mpi4py.__version__} ({library})", rank, ranks, tensor, largest, lambda: None)


def touched(count: int) -> np.ndarray:
    """Return float32 zeros, all of whose pages are there."""
    return np.full(count, 0, np.float32)


if __name__ == "__main__":
    main()
