"""A rank of the data-parallel benchmark: steps alone, beside the other ranks, and together with them, in turn."""

from __future__ import annotations

import argparse
import hashlib
import importlib
import math
import os
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from benchmarks.ranks import MEETING, write_answer
from benchmarks.worker import CLOCKS, stand_in_for_disttorch

TURN_SECONDS = 0.03
TRIED_STEPS = 3
WARM_UP = 5

Step = Callable[[], object]


def main() -> None:
    """Time one network and write {"version": ..., "cycles": [{"alone": [µs, ...], "beside": ..., "together": ...}, ...]}."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--library", choices=("torch", "disttorch"), required=True)
    parser.add_argument("--network", required=True)
    parser.add_argument("--cycles", type=int, required=True)
    parser.add_argument("--clock", choices=CLOCKS, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    args = parser.parse_args()

    library = importlib.import_module(args.library)
    dist = importlib.import_module(f"{args.library}.distributed")
    library.set_num_threads(1)
    if args.library == "torch":
        stand_in_for_disttorch(library)
        where = {"init_method": f"file://{args.folder / MEETING}"}
        dist.init_process_group("gloo", rank=int(os.environ["RANK"]), world_size=int(os.environ["WORLD_SIZE"]), **where)
    else:
        dist.init_process_group()
    rank = dist.get_rank()

    single, module, shared = build_steps(library, args.network, rank)
    for step in [single, shared] * WARM_UP:
        step()
    cycles = measure(dist, single, shared, args.cycles, CLOCKS[args.clock])
    check_equal(dist, module)
    if rank == 0:
        write_answer(args.folder, {"version": library.__version__, "cycles": cycles})
    if args.library == "torch":
        dist.barrier()
        os._exit(0)  # otherwise Gloo's threads now and then abort a process that has come to its end
    dist.destroy_process_group()


def build_steps(library: ModuleType, name: str, rank: int) -> tuple[Step, Any, Step]:
    """Return a step of the network by itself, the data-parallel network, and a step of that.

    The two networks are equal and train on equal batches; every rank has a batch of its own.
    """
    network = importlib.import_module("benchmarks.networks").networks(library)[name]
    steps, module = [], None
    for wrap in (lambda net: net, library.nn.parallel.DistributedDataParallel):
        library.manual_seed(0)
        module = wrap(network.build())
        library.manual_seed(1 + rank)
        steps.append(network.step(module, network.size))
    return steps[0], module, steps[1]


def measure(
    dist: ModuleType, single: Step, shared: Step, cycles: int, clock: Callable[[], float]
) -> list[dict[str, list[float]]]:
    """Return every cycle's step times in µs; in a cycle each kind of step has its turn.

    `alone`: one rank at a time; of each step the time of the slowest rank, since ranks that average their gradients
    cannot be faster than that, whatever their communication costs. `mean alone`: the same, the mean over the ranks.
    `beside`: all ranks at once, not waiting for each other; again the slowest. `together`: the data-parallel steps; the
    mean over the ranks.
    """
    rank, ranks = dist.get_rank(), dist.get_world_size()
    number = agree_on_number(dist, single)
    turns = [*range(ranks), "beside", "together"]
    mine = []
    for cycle in range(cycles):
        taken = {}
        for turn in turns if cycle % 2 == 0 else reversed(turns):
            dist.barrier()
            if turn == "together":
                taken["together"] = times(shared, number, clock)
            elif turn == "beside":
                taken["beside"] = times(single, number, clock)
            elif turn == rank:
                taken["alone"] = times(single, number, clock)
        mine.append(taken)
    everybody: list[Any] = [None] * ranks
    dist.all_gather_object(everybody, mine)
    return [
        {
            "alone": of_each_step(max, same, "alone"),
            "mean alone": of_each_step(statistics.fmean, same, "alone"),
            "beside": of_each_step(max, same, "beside"),
            "together": of_each_step(statistics.fmean, same, "together"),
        }
        for same in zip(*everybody)
    ]


def of_each_step(
    reduce: Callable[[Sequence[float]], float], ranks: Sequence[dict[str, list[float]]], turn: str
) -> list[float]:
    """Reduce the ranks' times of a turn to one of each step."""
    return [reduce(step) for step in zip(*(taken[turn] for taken in ranks))]


def times(step: Step, number: int, clock: Callable[[], float]) -> list[float]:
    """Take `number` steps and return how long each of them took, in µs."""
    taken = []
    for _ in range(number):
        start = clock()
        step()
        taken.append(1e6 * (clock() - start))
    return taken


def agree_on_number(dist: ModuleType, step: Step) -> int:
    """Return how many steps fill a turn, the same number on every rank."""
    usual = statistics.median(times(step, TRIED_STEPS, time.perf_counter))
    found = [math.ceil(1e6 * TURN_SECONDS / usual)]
    dist.broadcast_object_list(found, 0)
    return found[0]


def check_equal(dist: ModuleType, module: Any) -> None:
    """Raise RuntimeError unless all ranks, which have trained on different batches, hold the same parameters."""
    digest = hashlib.blake2b()
    for parameter in module.parameters():
        digest.update(parameter.detach().numpy().tobytes())
    everybody: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(everybody, digest.hexdigest())
    if len(set(everybody)) > 1:
        raise RuntimeError("the ranks hold different parameters after training together")


if __name__ == "__main__":
    main()
