"""The reducer: buckets, unfired parameters, weights, agreement between ranks."""

from __future__ import annotations

import hashlib
import os

import numpy as np
import pytest

import disttorch.distributed as dist
from disttorch.distributed.gradient_buckets import plan_buckets
from disttorch.testing.distributed import run

SHAPES = [(64, 3, 5, 5), (64,), (300, 700), (700,), (3, 1), (), (300, 1000)]
NAMES = [f"layer{i}" for i in range(len(SHAPES))]


def gradients(rank: int, step: int) -> list[np.ndarray]:
    generator = np.random.default_rng([rank, step])
    return [generator.standard_normal(shape).astype(np.float32) for shape in SHAPES]


def check_average(bucket_bytes: int, first_bytes: int) -> str:
    rank, size = dist.get_rank(), dist.get_world_size()
    parameters = [np.zeros(shape, np.float32) for shape in SHAPES]
    reducer = dist.Reducer(NAMES, parameters, bucket_bytes, first_bytes)
    digest = hashlib.sha256()
    for step in range(2):
        everybody = [gradients(r, step) for r in range(size)]
        order = list(reversed(range(len(SHAPES)))) if step != 1 else [3, 0, 6, 5, 1, 2, 4]
        for index in order:
            view = reducer.mark_ready(index, everybody[rank][index])
            assert view is reducer.view(index)
        assert all(reducer.finalize())
        for index in range(len(SHAPES)):
            want = np.mean([parts[index].astype(np.float64) for parts in everybody], axis=0)
            np.testing.assert_allclose(reducer.view(index), want, rtol=1e-5, atol=1e-6)
            digest.update(reducer.view(index).tobytes())
    return digest.hexdigest()


@pytest.mark.parametrize("n", [1, 2, 3])
def test_gradients_are_averaged_to_the_same_bits_whatever_the_buckets(n: int) -> None:
    results = []
    for bucket_bytes, first_bytes, shm in [
        (1, 1, "1"),
        (25 << 20, 1 << 20, "1"),
        (1 << 20, 1000, "0"),
    ][: 1 + 2 * (n > 1)]:
        environment = {"DISTTORCH_SHM": shm}
        results += run(
            check_average,
            n,
            timeout=60,
            environment=environment,
            bucket_bytes=bucket_bytes,
            first_bytes=first_bytes,
        )
    assert len(set(results)) == 1


def check_overlap(shm: bool, alone: int) -> None:
    os.sched_setaffinity(0, range(os.cpu_count() or 1))
    cores = os.sched_getaffinity(0)
    if dist.get_rank() == alone:
        os.sched_setaffinity(0, {min(cores)})
    waits = shm and (alone == 0 or len(cores) == 1)
    reducer = dist.Reducer(["a", "b"], [np.zeros(50_000, np.float32)] * 2, bucket_bytes=1, first_bucket_bytes=1)
    default = dist.Reducer(["a", "b"], [np.zeros(400_000, np.float32)] * 2)
    assert len(default.buckets) == (1 if waits else 2), "a small first bucket, to begin early"
    for step in range(3):
        values = np.arange(50_000, dtype=np.float32) * (dist.get_rank() + step)
        reducer.mark_ready(1, values)
        assert (reducer.buckets[0].work is None) == waits, "rank 0 with one core begins when backward has ended"
        between = np.ones(3)
        dist.all_reduce(between)  # as SyncBatchNorm does: its place among the collectives is the same on every rank
        assert between.tolist() == [2] * 3
        with pytest.raises(dist.DistError, match="parameter b was finished twice"):
            reducer.mark_ready(1, values)
        reducer.mark_ready(0, -values)
        reducer.finalize()
        want = np.arange(50_000, dtype=np.float32) * (step + 0.5)
        np.testing.assert_array_equal(reducer.view(1), want)
        np.testing.assert_array_equal(reducer.view(0), -want)


@pytest.mark.parametrize("alone", [0, 1])
@pytest.mark.parametrize("shm", [True, False])
def test_reductions_overlap_backward_where_there_are_cores_or_something_else_to_wait_for(shm: bool, alone: int) -> None:
    run(check_overlap, 2, timeout=60, environment={"DISTTORCH_SHM": str(int(shm))}, shm=shm, alone=alone)


def check_unfired() -> None:
    rank = dist.get_rank()
    reducer = dist.Reducer(["a", "b", "c"], [np.zeros(3, np.float32)] * 3)
    ones = np.ones(3, np.float32)
    reducer.mark_ready(0, ones)
    if rank == 1:
        reducer.mark_ready(1, 4 * ones)
    assert reducer.finalize() == [True, True, False]
    assert [float(reducer.view(i)[0]) for i in range(3)] == [1, 2, 0]
    reducer.mark_ready(2, ones)
    assert reducer.finalize() == [False, False, True], "a flag of the last step survived"
    assert [float(reducer.view(i)[0]) for i in range(3)] == [0, 0, 1]
    if rank == 0:
        reducer.mark_ready(0, 6 * ones)
    reducer.mark_ready(1, 5 * ones, used=False)
    assert reducer.finalize() == [True, False, False]
    assert [float(reducer.view(i)[0]) for i in range(3)] == [3, 5, 0]
    view = reducer.mark_ready(0, ones)
    assert reducer.mark_ready(1, reducer.view(1)) is reducer.view(1)
    with pytest.raises(dist.DistError, match="gradient of parameter a was finished twice"):
        reducer.mark_ready(0, view)
    reducer.finalize()


def test_parameters_without_gradient_count_as_zeros_and_unused_ones_are_known() -> None:
    run(check_unfired, 2, timeout=60)


def check_weights(dtype: str) -> None:
    rank = dist.get_rank()
    reducer = dist.Reducer(["a", "b"], [np.zeros(2, dtype), np.zeros((), dtype)], weighted=True)
    reducer.set_weight([3, 1][rank])
    reducer.mark_ready(0, np.full(2, [1, 5][rank], dtype))
    reducer.finalize()
    assert reducer.view(0).tolist() == [2, 2]
    reducer.set_weight(1 - rank)
    if rank == 0:
        reducer.mark_ready(0, np.full(2, 7, dtype))
    assert reducer.finalize() == [True, False], "rank 1 has run out of data"
    assert reducer.view(0).tolist() == [7, 7]


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_weights_for_uneven_inputs(dtype: str) -> None:
    run(check_weights, 2, timeout=60, dtype=dtype)


def check_different_models(kind: str) -> str:
    rank = dist.get_rank()
    names, shapes = ["w", "b"], [(3, 2), (3,)]
    if rank == 1 and kind == "shape":
        shapes[1] = (4,)
    if rank == 1 and kind == "name":
        names[0] = "v"
    if rank == 1 and kind == "missing":
        names, shapes = names[:1], shapes[:1]
    with pytest.raises(dist.DistError) as caught:
        dist.Reducer(names, [np.zeros(shape, np.float32) for shape in shapes])
    return str(caught.value)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("shape", "rank 0 has parameter b float32[3] where rank 1 has parameter b float32[4]"),
        ("name", "rank 0 has parameter w float32[3, 2] where rank 1 has parameter v float32[3, 2]"),
        ("missing", "rank 0 has 2 parameters and buffers, rank 1 has 1; only rank 0 has parameter b float32[3]"),
    ],
)
def test_different_models_are_an_error_on_every_rank(kind: str, text: str) -> None:
    for message in run(check_different_models, 2, timeout=60, kind=kind):
        assert text in message


def test_the_plan_packs_the_last_parameters_first_and_never_mixes_dtypes() -> None:
    sizes = [100, 40, 30, 50, 10]
    assert plan_buckets(sizes, ["float32"] * 5, 50, 75) == [[4, 3], [2, 1, 0]]
    mixed = plan_buckets([8, 8, 8], ["float32", "float64", "float32"], 1000, 1000)
    assert mixed == [[2, 0], [1]]
    assert plan_buckets([8, 8], ["float32"] * 2, 1, 1) == [[1], [0]]


def test_a_reducer_needs_a_group() -> None:
    with pytest.raises(ValueError, match="has not been initialized"):
        dist.Reducer(["a"], [np.zeros(1, np.float32)])
