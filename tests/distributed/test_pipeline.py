"""Large tensors through the staging memory, at the lengths where the number of chunks changes."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

import disttorch.distributed as dist
from disttorch.distributed import pipeline
from disttorch.testing.distributed import run

CHUNKS = range(1, 7)  # more than there are buffers
MORE = (-1, 0, 17)  # elements


def check_lengths() -> None:
    rank, size = dist.get_rank(), dist.get_world_size()
    chunk_bytes = size * (pipeline._COMPILED_BYTES // (size - 1) // 64 * 64)
    for dtype, chunks, more in product((np.float32, np.float64), CHUNKS, MORE):
        base = np.arange(chunks * chunk_bytes // np.dtype(dtype).itemsize + more) % 97
        expected = base * (size * (size + 1) // 2)
        for attempt in range(2):
            values = (base * (rank + 1)).astype(dtype)
            dist.all_reduce(values)
            assert np.array_equal(values, expected), (
                f"{dtype.__name__}, {chunks} chunks and {more} elements, attempt {attempt}: "
                f"wrong at {np.flatnonzero(values != expected)[:9]}"
            )
            if attempt == 0:
                dist.barrier()  # with it, one of the three begins in the other half of the staging memory
        fraction = np.full(base.size, dtype(rank))
        dist.all_reduce(fraction, dist.ReduceOp.AVG)
        assert np.array_equal(fraction, np.full(base.size, dtype(size * (size - 1) // 2) / dtype(size)))


@pytest.mark.parametrize("ranks", [2, 3, 5])
def test_every_number_of_chunks(ranks: int) -> None:
    run(check_lengths, ranks, 60)


def check_other_types() -> None:
    rank, size = dist.get_rank(), dist.get_world_size()
    for dtype, op in ((np.int64, dist.ReduceOp.SUM), (np.float32, dist.ReduceOp.MAX), (np.float16, dist.ReduceOp.SUM)):
        values = (np.arange(1_000_003) % 97 * (rank + 1)).astype(dtype)
        dist.all_reduce(values, op)
        factor = size if op is dist.ReduceOp.MAX else size * (size + 1) // 2
        assert np.array_equal(values, np.arange(1_000_003) % 97 * factor), f"{dtype.__name__}, {op}"


def test_what_is_not_compiled() -> None:
    run(check_other_types, 3, 60)
