"""Many all-reduces of random sizes and types with more ranks than cores: right throughout, and memory does not grow."""

from __future__ import annotations

import ctypes
from pathlib import Path

import ml_dtypes
import numpy as np

import disttorch.distributed as dist
from disttorch.testing.distributed import run

ROUNDS = 10_000
DTYPES = [np.dtype(name) for name in ("float32", "float64", "int64", "int32", "uint8", "float16", "complex64")]
DTYPES.append(np.dtype(ml_dtypes.bfloat16))
OPS = [dist.ReduceOp.SUM, dist.ReduceOp.MAX, dist.ReduceOp.MIN]


def resident_kib() -> int:
    """Return this process's own memory in use: no pages of shared segments, and none that `free` keeps for later."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["RssAnon"].split()[0])


def soak(rounds: int) -> list[int]:
    rank, size = dist.get_rank(), dist.get_world_size()
    generator = np.random.default_rng(0)  # the same choices on every rank
    for dtype in DTYPES:  # so that code is loaded and scratch memory has its size
        for op in OPS[:1] if dtype.kind == "c" else OPS:
            dist.all_reduce(np.ones(2**17, dtype), op)
    memory = []
    for i in range(rounds):
        dtype = DTYPES[generator.integers(len(DTYPES))]
        op = OPS[0] if dtype.kind == "c" else OPS[generator.integers(len(OPS))]
        length = int(2 ** generator.uniform(0, 12 if i % 20 else 17))
        array = np.full(length, rank + 1, dtype)
        dist.all_reduce(array, op)
        want = {"SUM": size * (size + 1) // 2, "MAX": size, "MIN": 1}[op.value]
        assert (array == dtype.type(want)).all(), (i, dtype, op, length, array[:3])
        if i in (rounds // 2, rounds - 1):
            memory.append(resident_kib())
    return memory


def test_ten_thousand_all_reduces_on_eight_ranks_are_right_and_leave_no_memory_behind() -> None:
    for rank, (early, late) in enumerate(run(soak, 8, timeout=300, rounds=ROUNDS)):
        assert late - early < 256, f"rank {rank} grew by {late - early} KiB over {ROUNDS // 2} all-reduces"
