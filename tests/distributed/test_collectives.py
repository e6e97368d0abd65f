"""Collectives on real processes against float64 sums."""

from __future__ import annotations

import hashlib

import ml_dtypes
import numpy as np
import pytest

import disttorch.distributed as dist
from disttorch.testing.distributed import run

SIZES = (0, 1, 7, 1000, 16383, 16384, 16385, 150_001, 700_003)
DTYPES = (
    "bool",
    "uint8",
    "int8",
    "int16",
    "int32",
    "int64",
    "float16",
    "bfloat16",
    "float32",
    "float64",
    "complex64",
)


def numpy_dtype(name: str) -> np.dtype:
    return np.dtype(ml_dtypes.bfloat16) if name == "bfloat16" else np.dtype(name)


def sample(rank: int, size: int, name: str) -> np.ndarray:
    generator = np.random.default_rng([rank, size])
    if name == "bool":
        return generator.integers(0, 2, size).astype(bool)
    if name.startswith(("int", "uint")):
        return generator.integers(0, 4, size).astype(name)
    values = generator.uniform(0.5, 1.5, size)
    if name.startswith("complex"):
        return (values + 1j * generator.uniform(-1, 1, size)).astype(name)
    return values.astype(numpy_dtype(name))


def expected(op: str, parts: list[np.ndarray]) -> np.ndarray:
    wide = np.stack([part.astype(np.complex128 if part.dtype.kind == "c" else np.float64) for part in parts])
    if op == "AVG":
        return wide.mean(axis=0)
    return {"SUM": np.sum, "PRODUCT": np.prod, "MIN": np.min, "MAX": np.max}[op](wide, axis=0)


def tolerance(name: str) -> float:
    return {"float16": 1e-3, "bfloat16": 8e-3, "float32": 1e-6, "complex64": 1e-6}.get(name, 1e-12)


def check_all_reduce() -> str:
    rank, size = dist.get_rank(), dist.get_world_size()
    digest = hashlib.sha256()
    for name in DTYPES:
        for length in SIZES if name == "float32" else SIZES[:5]:
            parts = [sample(r, length, name) for r in range(size)]
            for op in ops_for(name):
                mine = parts[rank].copy()
                dist.all_reduce(mine, dist.ReduceOp(op))
                want = expected(op, parts)
                if name == "bool":
                    want = want != 0
                np.testing.assert_allclose(
                    mine.astype(want.dtype),
                    want,
                    rtol=tolerance(name),
                    err_msg=f"{op} {name} {length}",
                )
                digest.update(mine.tobytes())
    return digest.hexdigest()


def ops_for(name: str) -> list[str]:
    if name == "bool":
        return ["SUM", "PRODUCT", "MIN", "MAX"]
    if name.startswith("complex"):
        return ["SUM", "AVG", "PRODUCT"]
    return ["SUM", "PRODUCT", "MIN", "MAX"] + (["AVG"] if "float" in name else [])


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_all_reduce_matches_float64_and_has_one_result_on_every_rank_and_transport(n: int) -> None:
    shared = run(check_all_reduce, n, timeout=40)
    assert len(set(shared)) == 1, "the ranks got different bits"
    if n in (2, 3):
        messages = run(check_all_reduce, n, timeout=40, environment={"DISTTORCH_SHM": "0"})
        assert messages == shared, "shared memory and messages gave different bits"


def check_other_collectives() -> None:
    rank, size = dist.get_rank(), dist.get_world_size()
    for length in (0, 1, 65_537, 1_500_001):
        sent = np.arange(length, dtype=np.int32) + 1
        got = sent.copy() if rank == size - 1 else np.zeros(length, np.int32)
        dist.broadcast(got, src=size - 1)
        np.testing.assert_array_equal(got, sent)
        rows = [np.zeros(length, np.int32) for _ in range(size)]
        dist.all_gather(rows, sent * rank)
        for r, row in enumerate(rows):
            np.testing.assert_array_equal(row, sent * r)
    check_strided(rank, size)
    check_objects(rank, size)
    dist.barrier()


def check_strided(rank: int, size: int) -> None:
    base = np.full((5, 6), float(rank))
    dist.all_reduce(base.T[::2])
    total = sum(range(size))
    assert base[0, 0] == total
    assert base[0, 1] == rank
    scalar = np.array(2.0)
    dist.all_reduce(scalar)
    assert scalar == 2 * size


def check_objects(rank: int, size: int) -> None:
    mine = {
        "rank": rank,
        (1, "a"): [None, 2**70, 1 + 2j],
        "x": np.full((rank, 3), rank, np.float32),
        "b": b"\0" * 9,
    }
    everybody = [None] * size
    dist.all_gather_object(everybody, mine)
    for r, other in enumerate(everybody):
        assert other["rank"] == r
        assert other[1, "a"] == [None, 2**70, 1 + 2j]
        assert other["x"].shape == (r, 3)
    box = [mine, rank] if rank == 0 else [None, None]
    dist.broadcast_object_list(box, src=0)
    assert box[1] == 0
    long = ["x" * 3_000_000 if rank == 0 else None]
    dist.broadcast_object_list(long)
    assert len(long[0]) == 3_000_000


@pytest.mark.parametrize(("n", "shm"), [(1, "1"), (2, "1"), (3, "1"), (3, "0")])
def test_broadcast_all_gather_and_objects(n: int, shm: str) -> None:
    run(check_other_collectives, n, timeout=30, environment={"DISTTORCH_SHM": shm})


def check_async() -> None:
    rank, size = dist.get_rank(), dist.get_world_size()
    arrays = [np.full(1000 * (i + 1), float(rank + i)) for i in range(20)]
    works = [dist.all_reduce(array, async_op=True) for array in arrays]
    dist.barrier()
    assert all(work.is_completed() for work in works), "a synchronous collective overtook an asynchronous one"
    for i, (work, array) in enumerate(zip(works, arrays, strict=True)):
        assert work.wait(5)
        assert work.exception() is None
        assert set(array) == {sum(range(size)) + i * size}
    late = np.ones(3)
    if rank == 0:
        work = dist.all_reduce(late, async_op=True)
        with pytest.raises(dist.CollectiveTimeout, match=r"all_reduce\(float64\[3\], SUM\)"):
            work.wait(0.1)
        dist.default_store().set("go", "")
        work.wait(5)
    else:
        dist.default_store().wait(["go"])
        dist.all_reduce(late)
    assert late[0] == size


@pytest.mark.parametrize("shm", ["1", "0"])
def test_async_collectives_keep_their_order(shm: str) -> None:
    run(check_async, 2, environment={"DISTTORCH_SHM": shm})


def check_refusals() -> None:
    with pytest.raises(TypeError, match=r"AVG needs a floating-point"):
        dist.all_reduce(np.ones(2, np.int64), dist.ReduceOp.AVG)
    with pytest.raises(TypeError, match="complex numbers have no order"):
        dist.all_reduce(np.ones(2, np.complex64), dist.ReduceOp.MAX)
    with pytest.raises(TypeError, match="expected a tensor, got str"):
        dist.all_reduce("x")
    with pytest.raises(TypeError, match="must be a ReduceOp"):
        dist.all_reduce(np.ones(2), "sum")
    with pytest.raises(ValueError, match="must be a rank from 0 to 1, got 2"):
        dist.broadcast(np.ones(2), src=2)
    with pytest.raises(ValueError, match=r"one tensor per rank \(2\), got 1"):
        dist.all_gather([np.ones(2)], np.ones(2))
    with pytest.raises(ValueError, match=r"tensor_list\[1\] is float64\[3\]"):
        dist.all_gather([np.ones(2), np.ones(3)], np.ones(2))
    with pytest.raises(TypeError, match=r"cannot send an object of type builtins\.object"):
        dist.all_gather_object([None, None], object())
    with pytest.raises(dist.DistError, match="twice"):
        dist.init_process_group()
    dist.barrier()


def test_wrong_arguments_are_refused_before_anything_is_sent() -> None:
    run(check_refusals, 2)


def odd_one_out(kind: str, rank: int) -> None:
    """Call a collective in which one rank does something else."""
    if kind == "shape":
        dist.all_reduce(np.ones(4 if rank == 0 else 5))
    elif kind == "dtype":
        dist.all_reduce(np.ones(4, np.float32 if rank == 1 else np.float64))
    elif kind == "op" and rank == 2:
        dist.barrier()
    elif kind == "large" and rank == 0:
        dist.all_reduce(np.ones(3_000_000))
    else:
        dist.all_reduce(np.ones(4))


def check_mismatch(kind: str) -> str:
    dist.barrier()
    with pytest.raises(dist.CollectiveMismatch) as caught:
        odd_one_out(kind, dist.get_rank())
    with pytest.raises(dist.CollectiveMismatch):
        dist.barrier()
    dist.destroy_process_group()
    return str(caught.value)


@pytest.mark.parametrize(("kind", "shm"), [("shape", "1"), ("dtype", "1"), ("op", "1"), ("large", "1"), ("op", "0")])
def test_a_mismatch_raises_on_every_rank_and_names_both_sides(kind: str, shm: str) -> None:
    texts = run(check_mismatch, 3, kind=kind, environment={"DISTTORCH_SHM": shm})
    assert len(set(texts)) == 1
    assert all(f"rank {r}: " in texts[0] for r in range(3))
    assert texts[0].count("test_collectives.py:") == 3
    assert {
        "shape": "float64[5]",
        "dtype": "float32[4]",
        "op": "barrier()",
        "large": "float64[3000000]",
    }[kind] in texts[0]


def check_new_group() -> list[float]:
    totals = []
    for round_ in range(3):
        value = np.array([float(dist.get_rank() + round_)])
        dist.all_reduce(value)
        totals.append(float(value[0]))
        dist.destroy_process_group()
        assert not dist.is_initialized()
        dist.init_process_group("gloo")
    return totals


@pytest.mark.parametrize("shm", ["1", "0"])
def test_a_group_can_be_destroyed_and_made_again(shm: str) -> None:
    assert run(check_new_group, 2, environment={"DISTTORCH_SHM": shm}) == [[1, 3, 5]] * 2
