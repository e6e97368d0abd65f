"""All-reduce on one host: disttorch's three paths against PyTorch over Gloo, in alternating runs.

    env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE \\
        python benchmarks/all_reduce.py --ranks 2 4 --rounds 5

Prints, per size, the median over the rounds of each round's median time, in milliseconds.
`bucket` is a gradient bucket that lives in shared memory, `tensor` any float32 tensor, `messages`
the same over ZeroMQ (DISTTORCH_SHM=0). Gloo is left out if torch is not installed. All start under
disttorch-run, pinned to the same cores.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

SIZES = (1 << 10, 1 << 16, 1 << 20, 25_000_000, 105_000_000)
SYSTEMS = ("bucket", "tensor", "messages", "gloo")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ranks", type=int, nargs="+", default=[2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="bytes")
    parser.add_argument("--worker", choices=SYSTEMS, help=argparse.SUPPRESS)
    parser.add_argument("--meeting", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        measure(options.worker, options.meeting, options.sizes)
        return
    for ranks in options.ranks:
        show(ranks, options.sizes, compare(ranks, options.rounds, options.sizes))


def compare(ranks: int, rounds: int, sizes: list[int]) -> dict[str, list[float]]:
    """Return each system's milliseconds per size, the systems taking turns."""
    systems = [s for s in SYSTEMS if s != "gloo" or importlib.util.find_spec("torch")]
    taken: dict[str, list[list[float]]] = {system: [] for system in systems}
    for _ in range(rounds):
        for system in systems:
            taken[system].append(run(system, ranks, sizes))
    return {system: [statistics.median(column) for column in zip(*rows, strict=True)] for system, rows in taken.items()}


def run(system: str, ranks: int, sizes: list[int]) -> list[float]:
    """Run one system once; return its median milliseconds per size, as rank 0 sees them."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "disttorch_run", "--nproc-per-node", str(ranks)]
        command += ["--oversubscribe", __file__, "--worker", system, "--sizes", *map(str, sizes)]
        command += ["--meeting", str(Path(folder) / "meeting")]
        environment = {**os.environ, "DISTTORCH_SHM": "0" if system == "messages" else "1"}
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    line = next(line for line in done.stdout.splitlines() if line.startswith("["))
    result: list[float] = json.loads(line)
    return result


def measure(system: str, meeting: str, sizes: list[int]) -> None:
    """Be a rank: time `system` and print the medians from rank 0."""
    prepare = prepare_gloo(meeting) if system == "gloo" else prepare_disttorch(system)
    medians = []
    for size in sizes:
        step = prepare(size)
        for _ in range(3):
            step()
        times = []
        for _ in range(200 if size < 1 << 20 else 30 if size < 1 << 26 else 10):
            start = time.perf_counter()
            step()
            times.append(time.perf_counter() - start)
        medians.append(statistics.median(times) * 1e3)
    if os.environ["RANK"] == "0":
        print(json.dumps(medians))
    importlib.import_module(("torch" if system == "gloo" else "disttorch") + ".distributed").destroy_process_group()


def prepare_disttorch(system: str) -> Callable[[int], Callable[[], object]]:
    import disttorch.distributed as dist

    dist.init_process_group()

    def bucket(size: int) -> Callable[[], object]:
        count = size // 4
        reducer = dist.Reducer(["w"], [np.zeros(count, np.float32)], first_bucket_bytes=size)
        view = reducer.view(0)
        view[:] = 1

        def step() -> None:
            reducer.mark_ready(0, view)
            reducer.finalize()

        return step

    def tensor(size: int) -> Callable[[], object]:
        array = np.ones(size // 4, np.float32)
        return lambda: dist.all_reduce(array, dist.ReduceOp.AVG)

    return bucket if system == "bucket" else tensor


def prepare_gloo(meeting: str) -> Callable[[int], Callable[[], object]]:
    import torch
    import torch.distributed as dist

    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=size)

    def tensor(length: int) -> Callable[[], object]:
        array = torch.ones(length // 4)

        def step() -> None:
            dist.all_reduce(array)
            array.div_(size)

        return step

    return tensor


def show(ranks: int, sizes: list[int], columns: dict[str, list[float]]) -> None:
    print(f"{ranks} ranks, {len(os.sched_getaffinity(0))} cores, ms")
    print("| bytes | " + " | ".join(columns) + " |")
    print("|---" * (len(columns) + 1) + "|")
    for i, size in enumerate(sizes):
        row = " | ".join(f"{column[i]:.3g}" for column in columns.values())
        print(f"| {size:,} | {row} |")


if __name__ == "__main__":
    main()
